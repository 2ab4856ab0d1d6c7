"""How commands leave policy_node: which message, on which topic, in which order of joints."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Duration as DurationMessage
from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from reptile_agent.spec import RobotSpec
from reptile_agent_ros import qos, wire
from reptile_agent_ros.settings import value
from reptile_agent_ros.twist import KINDS, TwistCommand
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint


class Commands:
    """Publishes what policy_node commands, as its parameters ask for.

    Args:
        node: whose parameters `command_interface`, `command_joints`, `command_twist`,
            `command_frame` and `dry_run` say how.
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
        name = value(node, 'command_interface')
        kind, topic = _interface(name, robot)
        pairs = value(node, 'command_twist')
        self._twist: TwistCommand | None = None
        if name in KINDS:
            if joints:
                raise ValueError(
                    'command_joints orders joints, and a Twist has none; leave it unset'
                )
            self._twist = TwistCommand(robot, pairs, kind, value(node, 'command_frame'))
        elif pairs:
            raise ValueError(
                f"command_twist is set and command_interface is '{name}'; set it to twist or "
                'twist_stamped, or leave command_twist unset'
            )
        self.dry_run: bool = value(node, 'dry_run')
        """Whether no command reaches the robot."""
        if self.dry_run:
            node.get_logger().warning(
                f'dry run: nothing is sent on {topic}, what would be is on ~/dry_run'
            )
            topic = '~/dry_run'
        self._trajectory, self._stamped = kind is JointTrajectory, kind is TwistStamped
        self._publisher = qos.advertise(node, kind, topic, qos.NEWEST)

    def send(self, command: np.ndarray) -> None:
        """Publish a command, in the order and units of the RobotSpec's actions."""
        if self._twist is not None:
            self._twist.fill(command)
            if self._stamped:
                self._twist.message.header.stamp = wire.stamp(self._node)
            self._publisher.publish(self._twist.message)
            return
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
    if name in KINDS:
        return KINDS[name], 'cmd_vel'
    if name != 'trajectory':
        raise ValueError(
            f"command_interface is '{name}'; set forward, trajectory, twist or twist_stamped"
        )
    if any(action.quantity != 'position' for action in robot.actions):
        names = [action.name for action in robot.actions]
        raise ValueError(
            f"a trajectory holds positions, the bundle's actions are {names}; set "
            "command_interface to 'forward'"
        )
    return JointTrajectory, 'joint_trajectory_controller/joint_trajectory'
