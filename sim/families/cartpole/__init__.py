"""Cart-pole swing-up: small enough for tests and the first minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Task
from sim.family import Fields, MujocoFamily
from sim.variations import Variation, column

if TYPE_CHECKING:
    from torch import Tensor

MAX_FORCE_N = 10.0


class Cartpole(MujocoFamily):
    """Swing a pole up and hold it while the cart follows a mark on the rail."""

    name = "cartpole"
    folder = Path(__file__).parent
    substeps = 4
    episode_steps = 250
    plan_horizon = 25
    plan_noise = (5.0,)
    robot = RobotSpec(
        name="cartpole",
        control_period_s=0.04,
        observations=(
            Signal(joint="slider", quantity="position", unit="m", low=-2.0, high=2.0),
            Signal(
                joint="hinge",
                quantity="position",
                unit="rad",
                low=-1000.0,
                high=1000.0,
                periodic=True,
            ),
            Signal(joint="slider", quantity="velocity", unit="m/s", low=-20.0, high=20.0),
            Signal(joint="hinge", quantity="velocity", unit="rad/s", low=-40.0, high=40.0),
        ),
        actions=(
            Signal(joint="slider", quantity="effort", unit="N", low=-MAX_FORCE_N, high=MAX_FORCE_N),
        ),
        references=(Signal(joint="slider", quantity="position", unit="m", low=-2.0, high=2.0),),
    )
    variations = (
        Variation(
            name="pole_mass",
            unit="x",
            nominal=1.0,
            train=(0.5, 2.0),
            beyond=(0.5, 4.0),
            why="0.1 kg as in the DeepMind Control Suite; a weight hung on the pole",
            log=True,
        ),
        Variation(
            name="pole_length",
            unit="x",
            nominal=1.0,
            train=(0.7, 1.3),
            beyond=(0.5, 1.6),
            why="1 m as in the DeepMind Control Suite; another pole mounted",
        ),
        Variation(
            name="friction",
            unit="x",
            nominal=1.0,
            train=(0.3, 3.0),
            beyond=(0.3, 10.0),
            why="damping of rail and hinge: dust, wear",
            log=True,
        ),
        Variation(
            name="gain",
            unit="x",
            nominal=1.0,
            train=(0.7, 1.2),
            beyond=(0.5, 1.4),
            why="motor constant with temperature, and a sagging battery",
        ),
    )
    held_out = (
        Variation(
            name="reversed",
            unit="0 or 1",
            nominal=0.0,
            train=(0.0, 0.0),
            beyond=(0.0, 1.0),
            why="the motor's leads are exchanged: a wiring mistake after maintenance",
            choices=(0.0, 1.0),
        ),
    )

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write mass, length, friction and gain of every lane."""
        model, value = self.model, {v.name: column(tasks, v) for v in self.variations}
        mass, length = value["pole_mass"], value["pole_length"]
        # A slender rod: inertia across grows with mass and the square of its length.
        fields.expand("body_mass")[:, 2] = mass * model.body_mass[2]
        inertia = fields.expand("body_inertia")
        inertia[:, 2] = mass[:, None] * model.body_inertia[2]
        inertia[:, 2, :2] *= length[:, None] ** 2
        fields.expand("body_ipos")[:, 2] = length[:, None] * model.body_ipos[2]
        fields.expand("dof_damping")[:] = value["friction"][:, None] * model.dof_damping
        sign = [-1.0 if task.get("reversed", 0.0) > 0.5 else 1.0 for task in tasks]
        gear = model.actuator_gear[0, 0] * value["gain"] * np.array(sign)
        fields.expand("actuator_gear")[:, 0, 0] = gear

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """Force in N to the motor's -1..1."""
        return super().mixing(tasks) / MAX_FORCE_N

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hanging down, near the middle of the rail."""
        lanes = len(tasks)
        slider, hinge = rng.uniform(-0.1, 0.1, lanes), np.pi + rng.uniform(-0.1, 0.1, lanes)
        return np.stack([slider, hinge], axis=1), np.zeros((lanes, 2))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A mark that stands still."""
        return {"mark": rng.uniform(-0.5, 0.5, (len(tasks), 1))}

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The mark, [lanes, times, 1]."""
        mark = parameters["mark"][:, None]
        return np.broadcast_to(mark, (len(mark), time_s.shape[-1], 1)).astype(np.float32)

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """The motor pushes the other way: no training task does that."""
        return {"reversed": 1.0}

    def feasible(self, task: Task) -> bool:
        """Always: with time, any push swings the pole up."""
        return True

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """Upright, near the mark, slow, and off the rail's ends; at most 1 per period."""
        slider, hinge = next_obs[..., 0], next_obs[..., 1]
        upright = hinge.cos()
        away = (slider - reference[..., 0]).square()
        speed = 0.01 * next_obs[..., 3].square() * (upright + 1.0) / 2
        ends = 10.0 * (slider.abs() - 1.5).clamp(min=0.0)
        return upright - 0.2 * away - speed - ends - 0.001 * action[..., 0].square() / 10.0
