"""Gymnasium's ant runs while a leg is crippled, its back loaded and the ground not as built.

The crippled leg is GrBAL's (Nagabandi et al. 2018, arXiv 1803.11347), held-out leg included; here
its two motors are dead and the leg stays as long as it is, where GrBAL also shrinks it.
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
from sim.variations import Variation, column

LEGS = (1, 2, 3, 4)
"""As gymnasium numbers them; GrBAL's leg 0 is leg 1, its held-out leg 3 is leg 4."""
TORSO = 1
"""Index of the torso among the bodies."""
HEALTHY_M = (0.2, 1.0)
"""Heights of the torso outside which an episode ends, as in gymnasium."""
PAYLOAD_RADIUS_M = 0.05
PAYLOAD_HEIGHT_M = 0.3
"""Of a ball on the torso's top, above the torso's middle."""
BEYOND_REACH_M_S = 20.0
"""Faster than the best policies known run (some 7 m/s)."""
FORWARD = 13
"""Column of torso_x.velocity among the observations."""
TILT = (2, 3)
"""Columns of torso_qx and torso_qy: both are 0 where the torso is upright."""
UPRIGHT = 4.0
"""What plans lose per period for qx^2 + qy^2, which is 1 on its back: as much as 4 m/s."""

CRIPPLED_LEG = Variation(
    name="crippled_leg",
    unit="index",
    nominal=-1.0,
    train=(-1.0, 2.0),
    beyond=(-1.0, 2.0),
    why="both motors of this leg are dead, -1: of none; GrBAL trains on 0 to 2",
    choices=(-1.0, 0.0, 1.0, 2.0),
)
CRIPPLED_LEG_3 = Variation(
    name="crippled_leg_3",
    unit="0 or 1",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(0.0, 1.0),
    why="leg 3 is dead, and no other: the one that GrBAL keeps for its test",
    choices=(0.0, 1.0),
)
PAYLOAD = Variation(
    name="payload_kg",
    unit="kg",
    nominal=0.0,
    train=(0.0, 0.3),
    beyond=(0.0, 0.9),
    why="up to a third of the ant's own 0.91 kg, and beyond it as much as all of it",
)
FRICTION = Variation(
    name="friction",
    unit="x",
    nominal=1.0,
    train=(0.5, 1.5),
    beyond=(0.15, 3.0),
    why="coefficient 1 as built: rubber on dry concrete; 0.15 is ice",
    log=True,
)


def _speed(joint: str, unit: str, limit: float) -> Signal:
    return Signal(joint=joint, quantity="velocity", unit=unit, low=-limit, high=limit)


def _angle(joint: str, low: float, high: float) -> Signal:
    # Soft limits; and every episode starts with straight ankles, which lie outside of theirs.
    low, high = min(low, 0.0) - 0.5, max(high, 0.0) + 0.5
    return Signal(joint=joint, quantity="position", unit="rad", low=low, high=high)


def _leg(leg: int) -> tuple[Signal, Signal]:
    ankle = (0.52, 1.22) if leg in (1, 4) else (-1.22, -0.52)
    return _angle(f"hip_{leg}", -0.52, 0.52), _angle(f"ankle_{leg}", *ankle)


def _part(name: str) -> Signal:
    return Signal(joint=name, quantity="position", unit="1", low=-1.001, high=1.001)


class Ant(MujocoFamily):
    """Run along x as fast as can be.

    Eight motors at 20 Hz, the start and the observations of gymnasium's Ant-v5 without its contact
    forces. `torso_qw` to `torso_qz` are the torso's quaternion, `torso_wx` to `torso_wz` its rate
    of turn in its own frame.
    """

    name = "ant"
    folder = Path(__file__).parent
    substeps = 5
    episode_steps = 1000
    plan_horizon = 15
    # Its own, Runge-Kutta of order 4, takes four times as long. Plans tried by Euler earn 2.2 a
    # period, by its own 3.0 (12 tasks of `validation`).
    foresight_integrator = mujoco.mjtIntegrator.mjINT_EULER
    plan_noise = (0.3,) * 8
    # Soft, since what is noise in a plan costs half its square: 0.36 a period as it is drawn.
    planning = Planning(temperature=0.7, smoothness=0.0)
    robot = RobotSpec(
        name="ant",
        control_period_s=0.05,
        observations=(
            Signal(joint="torso_z", quantity="position", unit="m", low=-0.5, high=5.0),
            *(_part(f"torso_q{axis}") for axis in "wxyz"),
            *(signal for leg in LEGS for signal in _leg(leg)),
            *(_speed(f"torso_{axis}", "m/s", 25.0) for axis in "xyz"),
            *(_speed(f"torso_w{axis}", "rad/s", 50.0) for axis in "xyz"),
            *(_speed(f"{part}_{leg}", "rad/s", 50.0) for leg in LEGS for part in ("hip", "ankle")),
        ),
        # In gymnasium's order, which starts with the last leg.
        actions=tuple(
            Signal(joint=f"{part}_{leg}", quantity="effort", unit="1", low=-1.0, high=1.0)
            for leg in (4, 1, 2, 3)
            for part in ("hip", "ankle")
        ),
        references=(_speed("torso_x", "m/s", 25.0),),
    )
    variations = (CRIPPLED_LEG, PAYLOAD, FRICTION)
    held_out = (CRIPPLED_LEG_3,)

    def build(self) -> mujoco.MjSpec:
        """Gymnasium's model with elliptic friction cones and names for its motors."""
        spec = mujoco.MjSpec.from_string(asset("ant"))
        # MJWarp parts from MuJoCo where the ant's cones are pyramids.
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        for motor in spec.actuators:
            motor.name = motor.target
        return spec

    @cached_property
    def columns(self) -> np.ndarray:
        """All but where it is in the plane."""
        return np.arange(2, 2 + len(self.robot.observations))

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write payload and friction of every lane."""
        model, payload = self.model, column(tasks, PAYLOAD)
        torso = model.body_mass[TORSO]
        mass = torso + payload
        fields.expand("body_mass")[:, TORSO] = mass
        # The torso is a ball about its origin, so only the height of the common centre changes.
        fields.expand("body_ipos")[:, TORSO, 2] = payload / mass * PAYLOAD_HEIGHT_M
        inertia = model.body_inertia[TORSO] + (0.4 * payload * PAYLOAD_RADIUS_M**2)[:, None]
        inertia[:, :2] += (torso * payload / mass * PAYLOAD_HEIGHT_M**2)[:, None]
        fields.expand("body_inertia")[:, TORSO] = inertia
        # A contact takes the larger coefficient of its two geoms, so all of them change.
        sliding = column(tasks, FRICTION)[:, None] * model.geom_friction[:, 0]
        fields.expand("geom_friction")[..., 0] = sliding

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """The action itself, without those of the crippled leg."""
        mixing = super().mixing(tasks).copy()
        last = column(tasks, CRIPPLED_LEG_3) > 0.5
        dead = np.where(last, 3, column(tasks, CRIPPLED_LEG)).astype(int)
        lanes = np.flatnonzero(dead >= 0)
        hip = 2 * (dead[lanes] + 1) % 8
        mixing[lanes, hip] = mixing[lanes, hip + 1] = 0.0
        return mixing

    def terminated(self, obs: np.ndarray) -> np.ndarray:
        """Fallen or thrown up: the torso's height is no longer healthy."""
        return (obs[..., 0] < HEALTHY_M[0]) | (obs[..., 0] > HEALTHY_M[1])

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gymnasium's start and its noise; the quaternion is of length 1."""
        qpos = self.model.qpos0 + rng.uniform(-0.1, 0.1, (len(tasks), 15))
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        return qpos, 0.1 * rng.standard_normal((len(tasks), 14))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A speed beyond reach, so that the error of following it still orders methods."""
        return {"velocity": np.full((len(tasks), 1), BEYOND_REACH_M_S)}

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The speed asked for, [lanes, times, 1]; it does not change."""
        velocity = parameters["velocity"][:, None].astype(np.float32)
        return np.broadcast_to(velocity, (len(velocity), time_s.shape[-1], 1)).copy()

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """The leg that is crippled in no training task."""
        return {CRIPPLED_LEG_3.name: 1.0}

    def feasible(self, task: Task) -> bool:
        """Two legs, stretched flat, hold all the weight with 80 % of an ankle's torque each.

        True in the whole range: the motors are twenty times too strong for so light a robot.
        """
        weight = 9.81 * (self.model.body_mass.sum() + task.get(PAYLOAD.name, 0.0))
        lever = 0.4 * np.sqrt(2.0)
        return bool(weight / 2 * lever < 0.8 * self.model.actuator_gear[:, 0].min())

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Speed along x, 1 while healthy, less half the squared action, as gymnasium's Ant-v5.

        Its contact cost is left out, as are the contact forces. The speed is the mean over the
        period by the trapezoidal rule: the way is not observed.
        """
        forward = (obs[..., FORWARD] + next_obs[..., FORWARD]) / 2
        height = next_obs[..., 0]
        healthy = (height >= HEALTHY_M[0]) & (height <= HEALTHY_M[1])
        return forward + 1.0 * healthy - 0.5 * (action * action).sum(-1)

    def objective(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """The reward, less what it costs to roll over.

        Diving forward pays for as long as a plan sees, and gymnasium's ant may lie on its back:
        with the reward alone plans of the true dynamics end there, with this they run 2 to 5 m/s.
        """
        tilt = sum(next_obs[..., column] ** 2 for column in TILT)
        return self.reward(obs, action, next_obs, reference) - UPRIGHT * tilt
