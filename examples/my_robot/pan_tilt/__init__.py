"""A pan-tilt camera head that follows a moving subject: a robot of one's own, from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reptile_agent.spec import Quantity, RobotSpec, Signal
from reptile_agent.task import Task
from sim.family import Fields, MujocoFamily
from sim.variations import column

from .ranges import CABLE, CAMERA_KG, FRICTION, GAIN_PAN, GAIN_TILT, HELD_OUT, LENS_M, VARIATIONS

if TYPE_CHECKING:
    from torch import Tensor

LIMITS_RAD = {"pan_joint": 2.6, "tilt_joint": 1.2}
TORQUE_N_M = 1.4
GRAVITY = 9.81


def _signal(
    joint: str, quantity: Quantity, unit: str, limit: float, max_rate: float | None = None
) -> Signal:
    return Signal(
        joint=joint, quantity=quantity, unit=unit, low=-limit, high=limit, max_rate=max_rate
    )


class PanTilt(MujocoFamily):
    """A pan-tilt head keeps its camera on a subject, whatever camera it carries."""

    name = "pan_tilt"
    folder = Path(__file__).parent
    substeps = 8  # of 5 ms in pan_tilt.xml: the control period
    episode_steps = 250
    plan_horizon = 3
    plan_noise = (0.06, 0.06)
    robot = RobotSpec(
        name="pan_tilt",
        control_period_s=0.04,
        # In the order of MuJoCo's qpos, then qvel. A measurement out of limits stops the robot,
        # so they leave some room beyond the end stops.
        observations=(
            *(_signal(joint, "position", "rad", 1.1 * LIMITS_RAD[joint]) for joint in LIMITS_RAD),
            *(_signal(joint, "velocity", "rad/s", 12.0) for joint in LIMITS_RAD),
        ),
        actions=tuple(
            _signal(joint, "position", "rad", LIMITS_RAD[joint], max_rate=6.0)
            for joint in LIMITS_RAD
        ),
        references=tuple(
            _signal(joint, "position", "rad", LIMITS_RAD[joint]) for joint in LIMITS_RAD
        ),
    )
    variations = VARIATIONS
    held_out = HELD_OUT

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write camera, servos, friction and cable; always from the nominal model."""
        model, camera = self.model, self.model.body("camera").id
        mass = column(tasks, CAMERA_KG)
        fields.expand("body_mass")[:, camera] = mass
        inertia = (mass / CAMERA_KG.nominal)[:, None] * model.body_inertia[camera]
        fields.expand("body_inertia")[:, camera] = inertia
        fields.expand("body_ipos")[:, camera, 0] = column(tasks, LENS_M)

        gain = np.stack([column(tasks, GAIN_PAN), column(tasks, GAIN_TILT)], axis=1)
        fields.expand("actuator_gainprm")[:, :, 0] = gain * model.actuator_gainprm[:, 0]
        fields.expand("actuator_biasprm")[:, :, 1] = gain * model.actuator_biasprm[:, 1]
        fields.expand("actuator_forcerange")[:] = gain[..., None] * model.actuator_forcerange
        friction = column(tasks, FRICTION)[:, None] * model.dof_frictionloss
        fields.expand("dof_frictionloss")[:] = friction
        fields.expand("jnt_stiffness")[:, 0] = column(tasks, CABLE)

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Somewhere near the middle, at rest."""
        return rng.uniform(-0.2, 0.2, (len(tasks), 2)), np.zeros((len(tasks), 2))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A subject that wanders: two sinusoids a joint."""
        shape = (len(tasks), 2, 2)
        return {
            "amplitude_rad": rng.uniform(0.1, 0.4, shape),
            "hz": rng.uniform(0.05, 0.4, shape),
            "phase": rng.uniform(0, 2 * np.pi, shape),
        }

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """Where pan and tilt should be, [lanes, times, 2]."""
        p = {name: value[:, None] for name, value in parameters.items()}
        angle = 2 * np.pi * p["hz"] * time_s[..., None, None] + p["phase"]
        return (p["amplitude_rad"] * np.sin(angle)).sum(-1).astype(np.float32)

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """A cable pulls."""
        return {CABLE.name: rng.uniform(0.3, 1.0)}

    def feasible(self, task: Task) -> bool:
        """With the camera level, gravity takes at most 80 % of the tilt servo's torque."""
        kg, lens_m, gain = (task.get(v.name, v.nominal) for v in (CAMERA_KG, LENS_M, GAIN_TILT))
        return GRAVITY * kg * lens_m <= 0.8 * gain * TORQUE_N_M

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """Minus the squared error in units of 0.02 rad, less a little for jerky commands."""
        error = (next_obs[..., :2] - reference) / 0.02
        push = action - obs[..., :2]
        return -error.square().mean(-1) - 0.1 * push.square().mean(-1)
