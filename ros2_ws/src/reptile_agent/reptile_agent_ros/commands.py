"""How commands leave policy_node: which message, on which topic, in which order of joints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Duration as DurationMessage
from rclpy.duration import Duration
from rclpy.node import Node
from reptile_agent.spec import RobotSpec
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from reptile_agent_ros.settings import value


class Commands:
    """Publishes what policy_node commands, as its parameters ask for.

    Args:
        node: whose parameters `command_interface`, `command_joints` and `dry_run` say how.
        robot: whose actions are commanded.
        joint_map: the bundle's joint -> the robot's name of it, where that is another.

    Raises:
        ValueError: the parameters do not fit the robot.
    """

    def __init__(self, node: Node, robot: RobotSpec, joint_map: Mapping[str, str]) -> None:
        self._node, self._period_ns = node, round(1e9 * robot.control_period_s)
        joints = value(node, 'command_joints')
        ours = [signal.joint for signal in robot.actions]
        if joints and len(set(ours)) < len(ours):
            raise ValueError(
                f'command_joints cannot order {ours}: a joint has several actions; leave it unset'
            )
        if joints and sorted(joints) != sorted(ours):
            raise ValueError(f"command_joints are {joints}, the bundle's robot has {ours}")
        self._order = [ours.index(j) for j in joints] or list(range(len(ours)))
        self._joints = [joint_map.get(joint, joint) for joint in joints or ours]
        kind, topic = _interface(value(node, 'command_interface'), robot)
        self.dry_run: bool = value(node, 'dry_run')
        """Whether no command reaches the robot."""
        if self.dry_run:
            node.get_logger().warning(
                f'dry run: nothing is sent on {topic}, what would be is on ~/dry_run'
            )
            topic = '~/dry_run'
        self._trajectory = kind is JointTrajectory
        self._publisher = node.create_publisher(kind, topic, 1)

    def send(self, command: np.ndarray) -> None:
        """Publish a command, in the order and units of the RobotSpec's actions."""
        values = [float(command[i]) for i in self._order]
        if not self._trajectory:
            self._publisher.publish(Float64MultiArray(data=values))
            return
        point = JointTrajectoryPoint(
            positions=values, time_from_start=DurationMessage(sec=0, nanosec=self._period_ns)
        )
        self._publisher.publish(JointTrajectory(joint_names=self._joints, points=[point]))

    def wait(self, longest_s: float) -> None:
        """Wait until the robot's driver has acknowledged the last command, but no longer."""
        self._publisher.wait_for_all_acked(Duration(seconds=longest_s))

    def destroy(self) -> None:
        """Let go of the publisher."""
        self._node.destroy_publisher(self._publisher)


def _interface(name: str, robot: RobotSpec) -> tuple[type, str]:
    """Message and topic of a command interface."""
    if name == 'forward':
        return Float64MultiArray, 'forward_command_controller/commands'
    if name != 'trajectory':
        raise ValueError(f"command_interface is '{name}'; set forward or trajectory")
    if any(action.quantity != 'position' for action in robot.actions):
        names = [action.name for action in robot.actions]
        raise ValueError(
            f"a trajectory holds positions, the bundle's actions are {names}; set "
            "command_interface to 'forward'"
        )
    return JointTrajectory, 'joint_trajectory_controller/joint_trajectory'
