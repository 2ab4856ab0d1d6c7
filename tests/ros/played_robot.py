"""A robot played by a test, and what tests of the nodes do with it."""

from __future__ import annotations

import numpy as np

PERIOD_S = 0.01


class Robot:
    """A robot played by the test: publishes joint_states, notes the commands."""

    def __init__(self, peer, names: list[str]) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray

        self.names, self.commands = names, []
        self.position = dict.fromkeys(names, 0.0)
        self.velocity = dict.fromkeys(names, 0.0)
        self.silent = False
        self._message = JointState
        self._publisher = peer.node.create_publisher(
            JointState, "joint_states", qos_profile_sensor_data
        )
        peer.node.create_subscription(
            Float64MultiArray,
            "forward_command_controller/commands",
            lambda message: self.commands.append(np.array(message.data)),
            10,
        )
        peer.node.create_timer(PERIOD_S, self._publish)

    def _publish(self) -> None:
        if self.silent:
            return
        message = self._message(name=self.names)
        message.position = [self.position.get(name, 0.0) for name in self.names]
        message.velocity = [self.velocity.get(name, 0.0) for name in self.names]
        self._publisher.publish(message)


def start_reference(start_node, remap: dict[str, str] | None = None) -> None:
    """Have the arm follow slow waves."""
    start_node(
        "reptile_agent_ros.reference_node",
        remap,
        joints="[shoulder_pan, shoulder_lift, elbow_flex, wrist_flex, wrist_roll]",
        middle_rad="[0.0, 0.0, 0.0, 0.0, 0.0]",
        amplitude_rad="[0.4, 0.3, 0.3, 0.3, 0.4]",
        period_s="[5.0, 4.0, 4.5, 3.5, 4.2]",
    )
