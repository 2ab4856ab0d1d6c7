"""What policy_node is to follow: trajectories or velocities, as its parameters ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from reptile_agent.spec import RobotSpec
from reptile_agent_ros import qos, twist
from reptile_agent_ros.settings import value
from reptile_agent_ros.track import Track
from trajectory_msgs.msg import JointTrajectory

TOPIC = 'reference'
SAY_AGAIN_S = 1.0
"""Refused Twists come many a second; one line of the log in so long is enough."""


class References:
    """Subscribes to `reference`, and knows what is to be followed now.

    Args:
        node: whose parameters `reference_interface`, `reference_twist` and `reference_timeout_s`
            say how.
        robot: whose references they are.
        joint_map: the bundle's joint -> the robot's name of it, where that is another.
        now_s: steady clock.
        made: gets the subscriptions as they are made, for whoever destroys them.

    Raises:
        ValueError: the parameters do not fit the robot.
    """

    def __init__(
        self,
        node: Node,
        robot: RobotSpec,
        joint_map: dict[str, str],
        now_s: Callable[[], float],
        made: list,
    ) -> None:
        self._node, self._now_s = node, now_s
        self._columns = robot.reference_columns
        self._is_given = False
        name, pairs = value(node, 'reference_interface'), value(node, 'reference_twist')
        self._make: Callable[[RobotSpec], Track | twist.TwistTrack]
        if name == 'trajectory':
            if pairs:
                raise ValueError(
                    "reference_twist is set and reference_interface is 'trajectory'; set it to "
                    'twist or twist_stamped, or leave reference_twist unset'
                )
            self._make = lambda robot: Track(robot, joint_map)
            # Twice: a latched subscription does not hear publishers that do not latch, and only
            # a latched one hears what was published before it came. Hearing twice does no harm.
            kind, profiles = JointTrajectory, (qos.LATCHED, qos.NEWEST)
        elif name in twist.KINDS:
            timeout_s = value(node, 'reference_timeout_s')
            self._make = lambda robot: twist.TwistTrack(robot, pairs, timeout_s)
            kind, profiles = twist.KINDS[name], (qos.NEWEST,)
        else:
            raise ValueError(
                f"reference_interface is '{name}'; set trajectory, twist or twist_stamped"
            )
        self._track = self._make(robot)
        for profile in profiles:
            made.append(qos.subscribe(node, kind, TOPIC, self._on_message, profile))

    def begin(self) -> None:
        """Follow anew: what still runs, or else the place that will be measured."""
        self._is_given = self._track.goes_on(self._now_s())

    def renew(self, robot: RobotSpec) -> None:
        """Follow nothing of before, and from now on within the limits that another bundle gives.

        Args:
            robot: the same, with limits as strict or stricter.
        """
        self._track, self._is_given = self._make(robot), False

    def ahead(self, now_s: float, obs: np.ndarray, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` control periods, float32 [horizon, ref_dim].

        Args:
            now_s: steady clock.
            obs: newest measurement, where the robot stays if nothing was given, [obs_dim].
            horizon: control periods.
        """
        if not self._is_given:
            self._track.stay(obs[self._columns])
            self._is_given = True
        return self._track.ahead(now_s, horizon)

    def _on_message(self, message: Any) -> None:
        try:
            self._track.follow(message, self._now_s() - self._age_s(message))
        except ValueError as error:
            if isinstance(self._track, twist.TwistTrack):
                self._node.get_logger().error(
                    f'reference refused: {error}', throttle_duration_sec=SAY_AGAIN_S
                )
            else:
                self._node.get_logger().error(f'reference refused: {error}')
        else:
            self._is_given = True

    def _age_s(self, message: Any) -> float:
        """How long ago a message says that it begins; zero for one that begins at once.

        Raises:
            ValueError: its stamp is no time, or one that cannot be.
        """
        try:
            stamp = Time.from_msg(message.header.stamp) if hasattr(message, 'header') else Time()
        except ValueError as error:
            raise ValueError(f'its stamp is no time: {error}') from error
        if not stamp.nanoseconds:
            return 0.0
        age_s = (self._node.get_clock().now().nanoseconds - stamp.nanoseconds) * 1e-9
        if abs(age_s) > self._track.max_age_s:
            raise ValueError(
                f'its stamp is {age_s:.1f} s away from this clock; set the clocks alike, '
                'use_sim_time too, or leave the stamp zero to start at once'
            )
        # A Twist from the future would count for longer than any is to count.
        return max(age_s, 0.0) if isinstance(self._track, twist.TwistTrack) else age_s
