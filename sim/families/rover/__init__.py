"""A two-wheeled base that follows a moving mark while its wheels and its load are not as built."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Planning, Task
from sim.family import Array, Fields, MujocoFamily
from sim.gravity import on_slope
from sim.variations import Variation, column

JOINTS = ("x", "y", "z", "yaw", "pitch", "roll", "left_wheel", "right_wheel")
"""In the order of rover.xml, and so of the state."""
SIDES = ("left", "right")
WHEEL_RADIUS_M = 0.03575
"""Of a new wheel, as in rover.xml: what the controller believes."""
TRACK_M = 0.233
"""Distance between the wheels, as in rover.xml."""
WHEEL_TORQUE_N_M = 0.8
"""Limit of each motor, as in rover.xml."""
CASTER_M = 0.125
"""Distance of the casters from the axle, as in rover.xml."""
FRICTION = 0.8
"""Of a wheel on a dry floor, as in rover.xml."""
SETTLED_M = -0.0003
"""Height of the base at rest: its weight presses wheels and caster that deep into the floor."""
ACCELERATION = 0.9
"""m/s^2: limit of the Create 3's wheels (parameter wheel_accel_limit, 900 mm/s^2)."""
BOX_M = 0.15
"""Edge of the box that is carried."""


def _base(joint: str, unit: str, limit: float, velocity: bool = False) -> Signal:
    return Signal(
        joint=joint,
        quantity="velocity" if velocity else "position",
        unit=unit,
        low=-limit,
        high=limit,
        periodic=joint == "yaw" and not velocity,
    )


def _wheel_radius(side: str) -> Variation:
    return Variation(
        name=f"wheel_radius_{side}",
        unit="x",
        nominal=1.0,
        train=(0.95, 1.02),
        beyond=(0.88, 1.05),
        why="rubber wears by 1 to 2 mm of 36; 4 mm is a bald wheel; dirt or a new tyre adds",
    )


def _grip(side: str) -> Variation:
    return Variation(
        name=f"grip_{side}",
        unit="x",
        nominal=1.0,
        train=(0.4, 1.2),
        beyond=(0.15, 1.2),
        why="of friction 0.8, rubber on a dry floor; a wet or dusty floor has 0.3, oil 0.1",
        log=True,
    )


def _drag(side: str) -> Variation:
    return Variation(
        name=f"drag_{side}_n_m",
        unit="N m",
        nominal=0.0,
        train=(0.0, 0.0),
        beyond=(0.0, 0.5),
        why="hair round the axle or a failing bearing, against a motor of 0.8 N m",
    )


def _slope(axis: str) -> Variation:
    return Variation(
        name=f"slope_{axis}_rad",
        unit="rad",
        nominal=0.0,
        train=(-0.05, 0.05),
        beyond=(-0.15, 0.15),
        why="a floor is level to 3 degrees; a wheelchair ramp of 1:12 is 0.083 rad",
    )


class Rover(MujocoFamily):
    """Twist commands at 20 Hz turn two wheels; the base follows a mark on a figure of eight.

    An observation holds the pose in the world (the floor's plane), the velocities of that pose
    (so m/s along the world's axes, not the base's) and the wheels' speeds. Load, grip, slope and
    wear are not seen.
    """

    name = "rover"
    folder = Path(__file__).parent
    substeps = 10
    episode_steps = 400
    plan_horizon = 12
    plan_noise = (0.1, 0.5)
    planning = Planning(correlation=0.8, temperature=0.1, smoothness=0.01)
    robot = RobotSpec(
        name="rover",
        control_period_s=0.05,
        observations=(
            _base("x", "m", 15.0),
            _base("y", "m", 15.0),
            _base("yaw", "rad", 1000.0),
            _base("x", "m/s", 2.0, velocity=True),
            _base("y", "m/s", 2.0, velocity=True),
            _base("yaw", "rad/s", 10.0, velocity=True),
            _base("left_wheel", "rad/s", 40.0, velocity=True),
            _base("right_wheel", "rad/s", 40.0, velocity=True),
        ),
        actions=(
            # Twist.linear.x and Twist.angular.z; 0.46 m/s and 1.9 rad/s are the Create 3's limits.
            Signal(
                joint="linear_x",
                quantity="velocity",
                unit="m/s",
                low=-0.46,
                high=0.46,
                max_rate=ACCELERATION,
            ),
            Signal(
                joint="angular_z",
                quantity="velocity",
                unit="rad/s",
                low=-1.9,
                high=1.9,
                max_rate=2 * ACCELERATION / TRACK_M,
            ),
        ),
        references=(_base("x", "m", 15.0), _base("y", "m", 15.0)),
    )
    variations = (
        *(_wheel_radius(side) for side in SIDES),
        *(_grip(side) for side in SIDES),
        Variation(
            name="payload_kg",
            unit="kg",
            nominal=0.0,
            train=(0.0, 3.0),
            beyond=(0.0, 9.0),
            why="the TurtleBot 4 manual calls more than 9 kg a case for other hardware",
        ),
        Variation(
            name="payload_x_m",
            unit="m",
            nominal=0.0,
            train=(-0.05, 0.05),
            beyond=(-0.1, 0.1),
            why="where on a plate of 16 cm radius the load was put",
        ),
        Variation(
            name="payload_y_m",
            unit="m",
            nominal=0.0,
            train=(-0.05, 0.05),
            beyond=(-0.1, 0.1),
            why="as payload_x_m, to the left",
        ),
        *(_slope(axis) for axis in ("roll", "pitch")),
        Variation(
            name="latency_s",
            unit="s",
            nominal=0.0,
            train=(0.0, 0.05),
            beyond=(0.0, 0.15),
            why="a Twist over Wi-Fi: one period is usual, 0.15 s a busy channel",
        ),
    )
    held_out = (
        Variation(
            name="swap_wheels",
            unit="0 or 1",
            nominal=0.0,
            train=(0.0, 0.0),
            beyond=(0.0, 1.0),
            why="the addresses of the two motor drivers exchanged after a repair",
            choices=(0.0, 1.0),
        ),
        *(_drag(side) for side in SIDES),
    )

    @cached_property
    def columns(self) -> np.ndarray:
        """Of every joint's position and velocity, those that the robot measures."""
        signals = self.robot.observations
        velocity = [len(JOINTS) * (signal.quantity == "velocity") for signal in signals]
        return np.array([JOINTS.index(signal.joint) for signal in signals]) + velocity

    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write wear, grip, drag, payload, slope and latency of every lane."""
        model = self.model
        value = {v.name: column(tasks, v) for v in (*self.variations, *self.held_out)}
        mass, inertia = fields.expand("body_mass"), fields.expand("body_inertia")
        for side in SIDES:
            name = f"{side}_wheel"
            geom, body = model.geom(name).id, model.body(name).id
            radius = value[f"wheel_radius_{side}"]
            fields.expand("geom_size")[:, geom, :2] = radius[:, None] * model.geom_size[geom, :2]
            # What is worn off was a ring: a disc's mass goes with r^2, its inertia with r^4.
            mass[:, body] = radius**2 * model.body_mass[body]
            inertia[:, body] = radius[:, None] ** 4 * model.body_inertia[body]
            grip = value[f"grip_{side}"][:, None] * model.geom_friction[geom]
            fields.expand("geom_friction")[:, geom] = grip
            dof = model.joint(name).dofadr[0]
            drag = model.dof_frictionloss[dof] + value[f"drag_{side}_n_m"]
            fields.expand("dof_frictionloss")[:, dof] = drag

        payload = model.body("payload").id
        mass[:, payload] = model.body_mass[payload] + value["payload_kg"]
        inertia[:, payload] = (mass[:, payload] * BOX_M**2 / 6)[:, None]
        place = fields.expand("body_ipos")[:, payload]
        place[:, 0], place[:, 1] = value["payload_x_m"], value["payload_y_m"]

        gravity = on_slope(value["slope_roll_rad"], value["slope_pitch_rad"])
        fields.expand("opt.gravity")[:] = gravity
        fields.expand("actuator_delay")[:] = value["latency_s"][:, None]

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """Twist to wheel speeds in rad/s, as diff_drive_controller does for a base as built.

        Wear is not in it: that is what the robot does not know.
        """
        half = TRACK_M / 2
        mixing = np.tile(np.array([[1.0, -half], [1.0, half]]) / WHEEL_RADIUS_M, (len(tasks), 1, 1))
        swapped = column(tasks, self.held_out[0]) > 0.5
        mixing[swapped] = mixing[swapped][:, ::-1]
        return mixing

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """At rest near the start of every course, which is the origin, heading along x."""
        lanes = len(tasks)
        qpos, qvel = np.zeros((lanes, self.model.nq)), np.zeros((lanes, self.model.nv))
        qpos[:, JOINTS.index("z")] = SETTLED_M
        qpos[:, [JOINTS.index("x"), JOINTS.index("y")]] = rng.uniform(-0.05, 0.05, (lanes, 2))
        qpos[:, JOINTS.index("yaw")] = rng.uniform(-0.1, 0.1, lanes)
        return qpos, qvel

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A figure of eight by its half length and half width in m, rate in rad/s, and phase.

        Its top speed is 0.15 to 0.3 m/s; its tightest bend, of 8 cm radius, asks for 1.45 rad/s.
        """
        lanes = len(tasks)
        size = np.stack([rng.uniform(0.5, 0.9, lanes), rng.uniform(0.2, 0.35, lanes)], axis=1)
        size[:, 1] *= rng.choice([-1.0, 1.0], lanes)
        speed = rng.uniform(0.15, 0.3, lanes)
        rate = speed / np.hypot(size[:, 0], 2 * size[:, 1])
        phase = rng.uniform(0, 2 * np.pi, lanes)
        tangent = np.stack([size[:, 0] * np.cos(phase), 2 * size[:, 1] * np.cos(2 * phase)], axis=1)
        return {
            "size": size,
            "rate": rate,
            "phase": phase,
            "heading": tangent / np.linalg.norm(tangent, axis=1, keepdims=True),
        }

    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The mark in m, [lanes, times, 2]; it starts from rest at the origin, along x."""
        p = {key: value[:, None] for key, value in parameters.items()}
        # As if the clock started softly, within half a second.
        eased = time_s - 0.5 * (1 - np.exp(-time_s / 0.5))
        angle = p["rate"] * eased + p["phase"]
        along = p["size"][..., 0] * (np.sin(angle) - np.sin(p["phase"]))
        across = p["size"][..., 1] * (np.sin(2 * angle) - np.sin(2 * p["phase"]))
        cos, sin = p["heading"][..., 0], p["heading"][..., 1]
        return np.stack([cos * along + sin * across, cos * across - sin * along], axis=-1).astype(
            np.float32
        )

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """The wheels exchanged, or one that drags: no training task does that."""
        if rng.random() < 0.5:
            return {"swap_wheels": 1.0}
        return {f"drag_{rng.choice(SIDES)}_n_m": rng.uniform(0.15, 0.5)}

    def feasible(self, task: Task) -> bool:
        """On the slope, whichever way it heads, it neither tips, slips nor stalls.

        Static: the weight rests on two wheels and one caster, shifted downhill by the centre of
        mass's height. Each wheel must hold half of gravity's pull along the slope with 70 % of its
        traction, and with its drag need at most 80 % of its motor's torque.
        """
        value = {v.name: task.get(v.name, v.nominal) for v in (*self.variations, *self.held_out)}
        model = self.model
        base, payload = model.body("base").id, model.body("payload").id
        mass, height = model.body_mass.copy(), np.full(model.nbody, WHEEL_RADIUS_M)
        mass[payload] += value["payload_kg"]
        height[base] += model.body_ipos[base, 2]
        height[payload] += model.body_pos[payload, 2]
        place = np.array([value["payload_x_m"], value["payload_y_m"]])
        centre = (mass[base] * model.body_ipos[base, :2] + mass[payload] * place) / mass.sum()

        gravity = on_slope(value["slope_roll_rad"], value["slope_pitch_rad"])
        weight, pull = -mass.sum() * gravity[2], mass.sum() * np.hypot(gravity[0], gravity[1])
        shift = mass @ height / mass.sum() * pull / weight
        on_caster = (abs(centre[0]) + shift) / CASTER_M
        for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
            carried = weight * ((1 - on_caster) / 2 + (sign * centre[1] - shift) / TRACK_M)
            traction = FRICTION * value[f"grip_{side}"] * carried
            torque = WHEEL_RADIUS_M * pull / 2 + value[f"drag_{side}_n_m"]
            if carried <= 0 or pull / 2 > 0.7 * traction or torque > 0.8 * WHEEL_TORQUE_N_M:
                return False
        return True

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Minus the squared distance from the mark in units of 0.1 m; 0 is perfect."""
        error = (next_obs[..., :2] - reference) / 0.1
        return -(error * error).sum(-1)
