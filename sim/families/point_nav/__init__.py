"""2-D navigation to a goal that is the task: the first benchmark of MAML and of those after it.

Goals lie in MAML's box in training (Finn et al. 2017, arXiv 1703.03400), in ProMP's wider one
beyond it (Rothfuss et al. 2018, arXiv 1810.06784), where weight and drag differ too. Held out are
commands that are turned or mirrored, which no training task has.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Task
from sim.family import Fields, MujocoFamily
from sim.variations import Variation, column

if TYPE_CHECKING:
    from torch import Tensor

GOAL_RADIUS_M = 0.2
"""Within it the sparse reward is paid, as in PEARL (Rakelly et al. 2019, arXiv 1903.08254)."""


def _goal(axis: str) -> Variation:
    return Variation(
        name=f"goal_{axis}",
        unit="m",
        nominal=0.0,
        train=(-0.5, 0.5),
        beyond=(-2.0, 2.0),
        why="MAML's box is 1 m wide, the corners of ProMP's lie 2 m off the middle",
    )


GOAL_X, GOAL_Y = _goal("x"), _goal("y")
FRICTION = Variation(
    name="friction",
    unit="x",
    nominal=1.0,
    train=(1.0, 1.0),
    beyond=(0.25, 10.0),
    why="drag on the point; at 10 times as much it reaches half the commanded speed",
    log=True,
)
MASS = Variation(
    name="mass",
    unit="x",
    nominal=1.0,
    train=(1.0, 1.0),
    beyond=(0.5, 5.0),
    why="a loaded point is slow to start and slow to stop; 5 kg take half a second",
    log=True,
)
TURN = Variation(
    name="turn_rad",
    unit="rad",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(-3.15, 3.15),
    why="the drive is mounted at this angle to the frame that commands are given in",
)
MIRRORED = Variation(
    name="mirrored",
    unit="0 or 1",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(0.0, 1.0),
    why="the motor of x is wired the wrong way round",
    choices=(0.0, 1.0),
)


def _position(axis: str) -> Signal:
    return Signal(joint=axis, quantity="position", unit="m", low=-12.0, high=12.0)


class PointNav(MujocoFamily):
    """Drive a point to the task's goal and stay there.

    The goal is the reference and no observation: planners see it. A model-free learner that is to
    find it out by its reward, as in the papers, must be denied the reference.
    """

    name = "point_nav"
    folder = Path(__file__).parent
    substeps = 5
    episode_steps = 100
    plan_horizon = 10
    plan_noise = (0.5, 0.5)
    robot = RobotSpec(
        name="point_nav",
        control_period_s=0.1,
        observations=(
            *(_position(axis) for axis in "xy"),
            *(
                Signal(joint=axis, quantity="velocity", unit="m/s", low=-1.5, high=1.5)
                for axis in "xy"
            ),
        ),
        actions=tuple(
            Signal(joint=axis, quantity="velocity", unit="m/s", low=-1.0, high=1.0) for axis in "xy"
        ),
        references=tuple(_position(axis) for axis in "xy"),
    )
    variations = (GOAL_X, GOAL_Y, FRICTION, MASS)
    held_out = (TURN, MIRRORED)

    def build(self) -> mujoco.MjSpec:
        """The same point whatever the reward."""
        return mujoco.MjSpec.from_file(str(self.folder / "point_nav.xml"))

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write mass and drag of every lane."""
        model, mass = self.model, column(tasks, MASS)
        fields.expand("body_mass")[:] = mass[:, None] * model.body_mass
        fields.expand("body_inertia")[:] = mass[:, None, None] * model.body_inertia
        fields.expand("dof_damping")[:] = column(tasks, FRICTION)[:, None] * model.dof_damping

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """Commands turned about the vertical, once x is mirrored where it is."""
        turn = column(tasks, TURN)
        sign = 1.0 - 2.0 * column(tasks, MIRRORED)
        cos, sin = np.cos(turn), np.sin(turn)
        return np.stack([np.stack([sign * cos, -sin], 1), np.stack([sign * sin, cos], 1)], 1)

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Near the middle, at rest: MAML starts in it, ProMP up to 0.2 m off."""
        return rng.uniform(-0.05, 0.05, (len(tasks), 2)), np.zeros((len(tasks), 2))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """The task's goal."""
        return {"goal": np.stack([column(tasks, GOAL_X), column(tasks, GOAL_Y)], axis=1)}

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The goal, [lanes, times, 2]; it does not move."""
        goal = parameters["goal"][:, None].astype(np.float32)
        return np.broadcast_to(goal, (len(goal), time_s.shape[-1], 2)).copy()

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """Commands turned by 45 degrees or more, or mirrored: no training task does that."""
        if rng.random() < 0.5:
            return {MIRRORED.name: 1.0}
        return {TURN.name: rng.choice([-1.0, 1.0]) * rng.uniform(np.pi / 4, np.pi)}

    def feasible(self, task: Task) -> bool:
        """At full speed, which drag lowers, the goal is reached in half an episode."""
        servo = self.model.actuator_gainprm[0, 0]
        drag = task.get(FRICTION.name, 1.0) * self.model.dof_damping[0]
        distance = np.hypot(task.get(GOAL_X.name, 0.0), task.get(GOAL_Y.name, 0.0))
        half_s = self.episode_steps * self.robot.control_period_s / 2
        return bool(distance < half_s * servo / (servo + drag))

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """Minus the distance to the goal in m."""
        return -self.distance(next_obs, reference)

    @staticmethod
    def distance(obs: Tensor, reference: Tensor) -> Tensor:
        """Of the point from the goal, in m."""
        return (obs[..., :2] - reference).square().sum(-1).sqrt()


class PointNavSparse(PointNav):
    """The same tasks, of whose goals nothing is told but near them.

    A planner whose horizon ends short of the goal finds no reward to plan for.
    """

    name = "point_nav_sparse"
    robot = PointNav.robot.model_copy(update={"name": "point_nav_sparse"})

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """1 less the distance in m within 0.2 m of the goal, 0 elsewhere, as in PEARL."""
        distance = self.distance(next_obs, reference)
        return (1.0 - distance) * (distance <= GOAL_RADIUS_M).to(distance.dtype)
