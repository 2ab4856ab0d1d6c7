"""Gymnasium's half-cheetah runs while a joint is crippled, its weight and the ground not as built.

The crippled joint is GrBAL's (Nagabandi et al. 2018, arXiv 1803.11347), held-out joint included.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Planning, Task
from sim.families._gymnasium import asset
from sim.family import Array, Fields, MujocoFamily
from sim.gravity import on_slope
from sim.variations import Variation, column

JOINTS = {
    "bthigh": (-0.52, 1.05),
    "bshin": (-0.785, 0.785),
    "bfoot": (-0.4, 0.785),
    "fthigh": (-1.0, 0.7),
    "fshin": (-1.2, 0.87),
    "ffoot": (-0.5, 0.5),
}
"""Joints that have a motor, in the order of the actions, with their ranges in rad."""
TOTAL_MASS_KG = 14.0
"""As half_cheetah.xml asks for by `settotalmass`."""
BEYOND_REACH_M_S = 20.0
"""Faster than the best policies known run (some 17 m/s)."""
PITCH, FORWARD = 1, 8
"""Columns of rooty.position and rootx.velocity among the observations."""
UPRIGHT = 3.0
"""What it costs plans to lie on the back is twice this, in m/s."""

CRIPPLED_JOINT = Variation(
    name="crippled_joint",
    unit="index",
    nominal=-1.0,
    train=(-1.0, 5.0),
    beyond=(-1.0, 5.0),
    why="the motor of this joint is dead, -1: of none; GrBAL trains on 1 to 5",
    choices=(-1.0, 1.0, 2.0, 3.0, 4.0, 5.0),
)
CRIPPLED_JOINT_0 = Variation(
    name="crippled_joint_0",
    unit="0 or 1",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(0.0, 1.0),
    why="bthigh's motor is dead, and no other: the one that GrBAL keeps for its test",
    choices=(0.0, 1.0),
)
MASS = Variation(
    name="mass",
    unit="x",
    nominal=1.0,
    train=(0.8, 1.5),
    beyond=(0.6, 2.5),
    why="lighter batteries, or luggage spread over the body: 8 to 35 kg in all",
    log=True,
)
FRICTION = Variation(
    name="friction",
    unit="x",
    nominal=1.0,
    train=(0.5, 2.0),
    beyond=(0.25, 4.0),
    why="coefficient 0.4 as built; 0.1 is ice under rubber, 1.6 a mat under soft rubber",
    log=True,
)
GAIN = Variation(
    name="gain",
    unit="x",
    nominal=1.0,
    train=(0.7, 1.2),
    beyond=(0.4, 1.4),
    why="torque of all motors: their heat, and a sagging battery",
)
SLOPE = Variation(
    name="slope_rad",
    unit="rad",
    nominal=0.0,
    train=(-0.1, 0.1),
    beyond=(-0.3, 0.3),
    why="uphill where positive, as GrBAL's sloped terrain; 0.3 rad is a steep ramp",
)
LATENCY = Variation(
    name="latency_s",
    unit="s",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(0.0, 0.06),
    why="command to torque over a slow bus, up to one control period and a fifth",
)


def _angle(joint: str) -> Signal:
    low, high = JOINTS[joint]
    # The limits are soft: an impact bends them.
    return Signal(joint=joint, quantity="position", unit="rad", low=low - 0.6, high=high + 0.6)


def _speed(joint: str, unit: str, limit: float) -> Signal:
    return Signal(joint=joint, quantity="velocity", unit=unit, low=-limit, high=limit)


class HalfCheetah(MujocoFamily):
    """Run forward as fast as can be.

    Six motors at 20 Hz, the observations, the start and the reward of gymnasium's HalfCheetah-v5.
    Subclasses ask for something else of the same body.
    """

    name = "half_cheetah"
    folder = Path(__file__).parent
    substeps = 5
    episode_steps = 1000
    plan_horizon = 15
    plan_noise = (1.0,) * len(JOINTS)
    planning = Planning(temperature=0.1, smoothness=0.0)
    robot = RobotSpec(
        name="half_cheetah",
        control_period_s=0.05,
        observations=(
            Signal(joint="rootz", quantity="position", unit="m", low=-1.0, high=3.0),
            Signal(
                joint="rooty",
                quantity="position",
                unit="rad",
                low=-1000.0,
                high=1000.0,
                periodic=True,
            ),
            *(_angle(joint) for joint in JOINTS),
            _speed("rootx", "m/s", 25.0),
            _speed("rootz", "m/s", 15.0),
            _speed("rooty", "rad/s", 40.0),
            *(_speed(joint, "rad/s", 60.0) for joint in JOINTS),
        ),
        actions=tuple(
            Signal(joint=joint, quantity="effort", unit="1", low=-1.0, high=1.0) for joint in JOINTS
        ),
        references=(_speed("rootx", "m/s", 25.0),),
    )
    variations = (CRIPPLED_JOINT, MASS, FRICTION, GAIN, SLOPE)
    held_out = (CRIPPLED_JOINT_0, LATENCY)

    def build(self) -> mujoco.MjSpec:
        """Gymnasium's model, its motors able to delay what they are told."""
        # MuJoCo warns of `settotalmass` and is to drop it: the densities do the same.
        total = f'settotalmass="{TOTAL_MASS_KG:.0f}"'
        spec = mujoco.MjSpec.from_string(asset("half_cheetah").replace(total, ""))
        scale = TOTAL_MASS_KG / spec.compile().body_mass.sum()
        for geom in spec.geoms:
            geom.density *= scale
        for motor in spec.actuators:
            motor.nsample = 8
        return spec

    @cached_property
    def columns(self) -> np.ndarray:
        """All but how far it has run."""
        return np.arange(1, 1 + len(self.robot.observations))

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write mass, friction, gain, slope and latency of every lane."""
        model, mass = self.model, column(tasks, MASS)
        fields.expand("body_mass")[:] = mass[:, None] * model.body_mass
        fields.expand("body_inertia")[:] = mass[:, None, None] * model.body_inertia
        # A contact takes the larger coefficient of its two geoms, so all of them change.
        sliding = column(tasks, FRICTION)[:, None] * model.geom_friction[:, 0]
        fields.expand("geom_friction")[..., 0] = sliding
        gain = column(tasks, GAIN)[:, None] * model.actuator_gainprm[:, 0]
        fields.expand("actuator_gainprm")[..., 0] = gain
        fields.expand("actuator_delay")[:] = column(tasks, LATENCY)[:, None]
        fields.expand("opt.gravity")[:] = on_slope(0.0, -column(tasks, SLOPE))  # x is uphill

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """The action itself, without that of the crippled joint."""
        mixing = super().mixing(tasks).copy()
        first = column(tasks, CRIPPLED_JOINT_0) > 0.5
        dead = np.where(first, 0, column(tasks, CRIPPLED_JOINT)).astype(int)
        lanes = np.flatnonzero(dead >= 0)
        mixing[lanes, dead[lanes]] = 0.0
        return mixing

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Standing, with gymnasium's noise."""
        return rng.uniform(-0.1, 0.1, (len(tasks), 9)), 0.1 * rng.standard_normal((len(tasks), 9))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A speed beyond reach, so that the error of following it still orders methods."""
        return {"velocity": np.full((len(tasks), 1), BEYOND_REACH_M_S)}

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The speed asked for, [lanes, times, 1]; it does not change."""
        velocity = parameters["velocity"][:, None].astype(np.float32)
        return np.broadcast_to(velocity, (len(velocity), time_s.shape[-1], 1)).copy()

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """The joint that is crippled in no training task, or commands that come late."""
        if rng.random() < 0.5:
            return {CRIPPLED_JOINT_0.name: 1.0}
        return {LATENCY.name: rng.uniform(0.02, 0.06)}

    def feasible(self, task: Task) -> bool:
        """At rest on the slope, friction has a fifth in reserve: tan(slope) < 0.8 mu."""
        friction = task.get(FRICTION.name, 1.0) * self.model.geom_friction[0, 0]
        return bool(np.tan(abs(task.get(SLOPE.name, 0.0))) < 0.8 * friction)

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Speed forward less a tenth of the squared action, as gymnasium's HalfCheetah-v5."""
        return self.forward(obs, next_obs) - 0.1 * (action * action).sum(-1)

    def objective(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """The reward, less what it costs to tip over.

        Falling forward pays for as long as a plan sees, and on its back no crippled cheetah runs.
        """
        tipped = 1 - next_obs[..., PITCH].cos()
        return self.reward(obs, action, next_obs, reference) - UPRIGHT * tipped

    @staticmethod
    def forward(obs: Array, next_obs: Array) -> Array:
        """Mean speed in m/s over a period, by the trapezoidal rule: the way is not observed."""
        return (obs[..., FORWARD] + next_obs[..., FORWARD]) / 2
