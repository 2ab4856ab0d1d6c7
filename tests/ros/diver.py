"""A robot under water, played by a test: joint_states, imu and odom in, cmd_vel out, and a bundle.

Its bundle is the shipped arm's with other signals, whose commands echo the reference: nothing is
trained for it, and what comes in as a Twist must go out as one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.fault_bundles import edit_manifest, replace_file

PERIOD_S = 0.02
AXES = ("x", "y", "z", "pitch", "yaw")
"""z, its depth, is measured by a joint: the others by imu and odom."""
FIELDS = ("linear.x", "linear.y", "linear.z", "angular.y", "angular.z")
SENSORS = {
    "odometry_signals": [
        "x.position=pose.position.x",
        "y.position=pose.position.y",
        "yaw.position=pose.orientation.yaw",
        "x.velocity=twist_w.linear.x",
        "y.velocity=twist_w.linear.y",
    ],
    "imu_signals": [
        "pitch.position=orientation.pitch",
        "pitch.velocity=angular_velocity.y",
        "yaw.velocity=angular_velocity.z",
    ],
}
TWIST = [f"{axis}.velocity={field}" for axis, field in zip(AXES, FIELDS)]
PARAMETERS = {
    **SENSORS,
    "command_interface": "twist",
    "command_twist": TWIST,
    "reference_interface": "twist",
    "reference_twist": TWIST,
    "max_frozen": 0,
    "max_age_s": 0.6,
    "reference_timeout_s": 1.0,
}
"""Of policy_node, for this robot."""


def _signal(joint: str, quantity: str, limit: float) -> dict:
    return {"joint": joint, "quantity": quantity, "unit": "1", "low": -limit, "high": limit}


def write_bundle(arm: Path, folder: Path) -> Path:
    """Write the bundle; returns its folder. References and actions are velocities."""
    shutil.copytree(arm, folder)
    velocities = [_signal(axis, "velocity", 2.0) for axis in AXES]
    robot = {
        "name": "diver",
        "observations": [*(_signal(axis, "position", 50.0) for axis in AXES), *velocities],
        "actions": velocities,
        "references": velocities,
    }
    edit_manifest(folder, lambda document: document["robot"].update(robot))
    replace_file(folder, "act.onnx", _echoing(onnx.load(arm / "act.onnx")))
    return folder


def _echoing(model: onnx.ModelProto) -> bytes:
    """The graph, planning as ever, with `action = reference[0]`."""
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == "action":
                    names[at] = "echo.planned"
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "echo.now"))
    graph.node.append(helper.make_node("Gather", ["reference", "echo.now"], ["action"]))
    return model.SerializeToString()


class Diver:
    """Publishes what it measures until it is told which topics are silent; notes cmd_vel."""

    def __init__(self, peer, stamped: bool = False) -> None:
        from geometry_msgs.msg import Twist, TwistStamped
        from nav_msgs.msg import Odometry
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Imu, JointState

        self.silent: set[str] = set()
        self.commands: list = []
        self.messages = {
            "joint_states": JointState(name=["z", "lamp"], position=[1.0, 0.0], velocity=[0.0] * 2),
            "imu": Imu(),
            "odom": Odometry(),
        }
        self._publishers = {
            topic: peer.node.create_publisher(type(message), topic, qos_profile_sensor_data)
            for topic, message in self.messages.items()
        }
        kind = TwistStamped if stamped else Twist
        peer.node.create_subscription(kind, "cmd_vel", self.commands.append, 10)
        peer.node.create_timer(PERIOD_S, self._publish)

    def _publish(self) -> None:
        for topic, message in self.messages.items():
            if topic not in self.silent:
                self._publishers[topic].publish(message)
