"""The node reference_node: publishes a joint trajectory of sinusoids, over and over.

Something to follow for the demo and for first tests; a user's own planner publishes `reference`
itself.
"""

from __future__ import annotations

import math

from builtin_interfaces.msg import Duration
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from reptile_agent_ros import wire
from reptile_agent_ros.qos import LATCHED
from reptile_agent_ros.run import run
from reptile_agent_ros.settings import declare, value
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

POINT_PERIOD_S = 0.2
"""Time between two points of the trajectory; velocities go with them."""
EPSILON_S = 1e-5
"""Step of the difference that velocities are computed by."""


class ReferenceNode(Node):
    """Sinusoids about a middle, growing from rest in the first seconds."""

    def __init__(self) -> None:
        super().__init__('reference_node')
        strings, doubles = Parameter.Type.STRING_ARRAY, Parameter.Type.DOUBLE_ARRAY
        declare(self, 'joints', strings, 'Joints to move.')
        declare(self, 'middle_rad', doubles, 'Middle of each joint [rad].')
        declare(self, 'amplitude_rad', doubles, 'Amplitude of each joint [rad].')
        declare(self, 'period_s', doubles, 'Period of each joint [s].')
        declare(self, 'ease_s', 2.0, 'Time in which the amplitude grows [s].', between=(0.0, 60.0))
        declare(self, 'duration_s', 10.0, 'Length of one trajectory [s].', between=(1.0, 600.0))
        self._joints = value(self, 'joints')
        arrays = {n: value(self, n) for n in ('middle_rad', 'amplitude_rad', 'period_s')}
        for name, array in arrays.items():
            if len(array) != len(self._joints) or not self._joints:
                raise ValueError(
                    f'{name} has {len(array)} values for {len(self._joints)} joints; '
                    'give one each in the params_file'
                )
        self._middle, self._amplitude, self._period_s = (np.array(a) for a in arrays.values())
        if not (self._period_s > 0.1).all():
            raise ValueError(f'period_s is {arrays["period_s"]}; each must exceed 0.1 s')
        self._publisher = self.create_publisher(JointTrajectory, 'reference', LATCHED)
        self._begin_s = 0.0
        self._publish()
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(value(self, 'duration_s'), self._publish, clock=self._steady_clock)

    def _publish(self) -> None:
        """The next stretch; it overlaps the one after by some seconds."""
        length_s = value(self, 'duration_s')
        times_s = np.arange(0.0, length_s + 5.0, POINT_PERIOD_S)
        positions = self.course(self._begin_s + times_s)
        after = self.course(self._begin_s + times_s + EPSILON_S)
        velocities = (after - positions) / EPSILON_S
        message = JointTrajectory(joint_names=self._joints)
        message.header.stamp = wire.stamp(self)
        for time_s, position, velocity in zip(times_s, positions, velocities):
            whole = math.floor(time_s)
            message.points.append(
                JointTrajectoryPoint(
                    positions=position.tolist(),
                    velocities=velocity.tolist(),
                    time_from_start=Duration(
                        sec=whole, nanosec=min(round((time_s - whole) * 1e9), 999_999_999)
                    ),
                )
            )
        self._publisher.publish(message)
        self._begin_s += length_s

    def course(self, time_s: np.ndarray) -> np.ndarray:
        """Joint positions at times since the node's start, [times, joints]."""
        ease_s = value(self, 'ease_s')
        grown = np.clip(time_s / ease_s, 0.0, 1.0) if ease_s > 0 else np.ones_like(time_s)
        wave = np.sin(2 * np.pi * time_s[:, None] / self._period_s)
        return self._middle + grown[:, None] * self._amplitude * wave


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(ReferenceNode, args)


if __name__ == '__main__':
    main()
