"""A servo arm that tracks joint trajectories while its payload and its servos are not as built."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Task
from sim.family import Array, Fields, MujocoFamily
from sim.gravity import on_slope
from sim.variations import Variation, column

JOINT_RANGES = {
    "shoulder_pan": (-1.91986, 1.91986),
    "shoulder_lift": (-1.74533, 1.74533),
    "elbow_flex": (-1.69, 1.69),
    "wrist_flex": (-1.65806, 1.65806),
    "wrist_roll": (-2.74385, 2.84121),
}
SERVO_TORQUE_N_M = 3.35
"""STS3215 stall torque as in arm.xml."""


def _position(joint: str, slack_rad: float = 0.0, max_rate: float | None = None) -> Signal:
    low, high = JOINT_RANGES[joint]
    return Signal(
        joint=joint,
        quantity="position",
        unit="rad",
        low=low - slack_rad,
        high=high + slack_rad,
        max_rate=max_rate,
    )


def _velocity(joint: str) -> Signal:
    return Signal(joint=joint, quantity="velocity", unit="rad/s", low=-12.0, high=12.0)


def _gain(joint: str) -> Variation:
    return Variation(
        name=f"gain_{joint}",
        unit="x",
        nominal=1.0,
        train=(0.6, 1.2),
        beyond=(0.25, 1.2),
        why="stiffness and torque of a worn or hot servo; lerobot users set 16 of 32 by hand",
        log=True,
    )


def _encoder_offset(joint: str) -> Variation:
    return Variation(
        name=f"encoder_offset_{joint}",
        unit="rad",
        nominal=0.0,
        train=(0.0, 0.0),
        beyond=(-0.26, 0.26),
        why="a horn mounted one tooth off: 1/25 turn of the STS3215's spline is 0.25 rad",
    )


class Arm(MujocoFamily):
    """Five position servos at 25 Hz follow two sinusoids each."""

    name = "arm"
    folder = Path(__file__).parent
    substeps = 8
    episode_steps = 300
    plan_horizon = 6
    plan_noise = (0.045,) * len(JOINT_RANGES)
    robot = RobotSpec(
        name="arm",
        control_period_s=0.04,
        observations=(
            *(_position(joint, slack_rad=0.15) for joint in JOINT_RANGES),
            *(_velocity(joint) for joint in JOINT_RANGES),
        ),
        actions=tuple(_position(joint, max_rate=8.0) for joint in JOINT_RANGES),
        references=tuple(_position(joint, slack_rad=0.15) for joint in JOINT_RANGES),
    )
    variations = (
        Variation(
            name="payload_kg",
            unit="kg",
            nominal=0.0,
            train=(0.0, 0.2),
            beyond=(0.0, 0.4),
            why="the SO-101 lifts some 0.2 kg with ease and stalls near 0.5 kg stretched out",
        ),
        *(_gain(joint) for joint in JOINT_RANGES),
        Variation(
            name="friction",
            unit="x",
            nominal=1.0,
            train=(0.5, 2.0),
            beyond=(0.5, 4.0),
            why="dry gear friction: grease, dust and wear",
            log=True,
        ),
        Variation(
            name="damping",
            unit="x",
            nominal=1.0,
            train=(0.7, 1.5),
            beyond=(0.5, 2.5),
            why="grease stiffens in the cold",
            log=True,
        ),
        Variation(
            name="tilt_roll_rad",
            unit="rad",
            nominal=0.0,
            train=(-0.1, 0.1),
            beyond=(-0.35, 0.35),
            why="a table that is not level; 20 degrees is a ramp",
        ),
        Variation(
            name="tilt_pitch_rad",
            unit="rad",
            nominal=0.0,
            train=(-0.1, 0.1),
            beyond=(-0.35, 0.35),
            why="as tilt_roll_rad, about the other axis",
        ),
        Variation(
            name="latency_s",
            unit="s",
            nominal=0.0,
            train=(0.0, 0.02),
            beyond=(0.0, 0.06),
            why="serial bus at 1 Mbaud plus a driver's own period",
        ),
    )
    held_out = (
        Variation(
            name="swap_wrist",
            unit="0 or 1",
            nominal=0.0,
            train=(0.0, 0.0),
            beyond=(0.0, 1.0),
            why="the plugs of wrist_flex and wrist_roll exchanged after a repair",
            choices=(0.0, 1.0),
        ),
        *(_encoder_offset(joint) for joint in JOINT_RANGES),
    )

    @cached_property
    def _payload_body(self) -> int:
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, "payload")

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write payload, servo gains, friction, damping, tilt and latency of every lane."""
        model, value = self.model, {v.name: column(tasks, v) for v in self.variations}
        payload = self._payload_body
        mass = model.body_mass[payload] + value["payload_kg"]
        fields.expand("body_mass")[:, payload] = mass
        # A ball of 2 cm radius: inertia grows with its mass.
        fields.expand("body_inertia")[:, payload] = (mass * 0.4 * 0.02**2)[:, None]

        gain = np.stack([value[f"gain_{joint}"] for joint in JOINT_RANGES], axis=1)
        fields.expand("actuator_gainprm")[:, :, 0] = gain * model.actuator_gainprm[:, 0]
        stiffness = -gain * model.actuator_biasprm[:, 1]
        offset = np.stack([column(tasks, v) for v in self.held_out[1:]], axis=1)
        fields.expand("actuator_biasprm")[:, :, 0] = stiffness * offset
        fields.expand("actuator_biasprm")[:, :, 1] = -stiffness
        fields.expand("actuator_forcerange")[:] = gain[..., None] * model.actuator_forcerange
        fields.expand("actuator_delay")[:] = value["latency_s"][:, None]

        fields.expand("dof_frictionloss")[:] = value["friction"][:, None] * model.dof_frictionloss
        fields.expand("dof_damping")[:] = value["damping"][:, None] * model.dof_damping
        gravity = on_slope(value["tilt_roll_rad"], value["tilt_pitch_rad"])
        fields.expand("opt.gravity")[:] = gravity

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """Servo targets; those of the wrist change places where `swap_wrist` is set."""
        mixing = super().mixing(tasks).copy()
        swapped = np.array([task.get("swap_wrist", 0.0) > 0.5 for task in tasks])
        mixing[swapped] = mixing[swapped][:, [0, 1, 2, 4, 3]]
        return mixing

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Near the middle of every joint's range, at rest."""
        return rng.uniform(-0.2, 0.2, (len(tasks), 5)), np.zeros((len(tasks), 5))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """Per joint a middle and two sinusoids, slow enough for a healthy servo."""
        shape = (len(tasks), 5)
        return {
            "middle": rng.uniform(-0.4, 0.4, shape),
            "amplitude": rng.uniform(0.1, 0.35, (*shape, 2)),
            "hz": rng.uniform(0.05, 0.3, (*shape, 2)),
            "phase": rng.uniform(0, 2 * np.pi, (*shape, 2)),
        }

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """Joint positions to follow, [lanes, times, 5]."""
        p = {key: value[:, None] for key, value in parameters.items()}
        angle = 2 * np.pi * p["hz"] * time_s[..., None, None] + p["phase"]
        return (p["middle"] + (p["amplitude"] * np.sin(angle)).sum(-1)).astype(np.float32)

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """Two servos change places, or one encoder is off: no training task does that."""
        if rng.random() < 0.5:
            return {"swap_wrist": 1.0}
        joint = rng.choice(list(JOINT_RANGES))
        return {f"encoder_offset_{joint}": rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.25)}

    def feasible(self, task: Task) -> bool:
        """Gravity's torque stays below 80 % of each servo's in 24 poses of the courses."""
        model = mujoco.MjModel.from_xml_path(str(self.folder / "arm.xml"))
        model.body_mass[self._payload_body] += task.get("payload_kg", 0.0)
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        rng = np.random.default_rng(0)
        course = self.course(self.draw_course(rng, [task] * 6), np.arange(4.0)[None]).reshape(-1, 5)
        strength = [SERVO_TORQUE_N_M * task.get(f"gain_{joint}", 1.0) for joint in JOINT_RANGES]
        for pose in course:
            data.qpos[:] = pose
            mujoco.mj_forward(model, data)
            if (np.abs(data.qfrc_bias) > 0.8 * np.array(strength)).any():
                return False
        return True

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Minus the mean squared joint error in units of 0.05 rad; 0 is perfect."""
        error = (next_obs[..., :5] - reference) / 0.05
        return -(error * error).mean(-1)
