"""A robot played over DDS: numbers its joint_states, and knows them again in the commands."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from bench.faults.nodes import Peer
from reptile_agent.spec import RobotSpec

TURN = 1000
"""Messages in a turn of the circle: 5 s at 200 Hz, so no old number is taken for a new one."""
RADIUS_SHARE = 0.1
"""Radius of the circle, as a share of the room that the signals have about their middle: so small
that a command may leap over dozens of messages without being clamped."""
SPREAD = 0.1
"""A command whose number is no whole one to within this does not come from a measurement as it
was sent."""
FOLLOW = 0.2
"""Share of the way to its command that any other joint goes between two messages."""


class EchoRobot:
    """Publishes joint_states once a period, and notes when each is answered.

    Times are of the wall clock [s], as DDS stamps what it receives.

    Args:
        peer: spins it.
        robot: of the bundle.
        columns: what is echoed, column of the action -> of the observation.
        period_s: from one message to the next.
    """

    def __init__(
        self, peer: Peer, robot: RobotSpec, columns: dict[int, int], period_s: float
    ) -> None:
        from rclpy.clock import Clock
        from rclpy.clock_type import ClockType
        from rclpy.qos import QoSProfile, qos_profile_sensor_data
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray

        self._peer, self._period_s, self._spec = peer, period_s, robot
        self._columns = columns
        echoed = [robot.observations[at] for at in columns.values()]
        self._middle = np.array([(signal.low + signal.high) / 2 for signal in echoed])
        room = min(signal.high - signal.low for signal in echoed) / 2
        self._radius = RADIUS_SHARE * room
        self._names = list(robot.observed_joints)
        self._place = dict.fromkeys(self._names, 0.0)
        self._message = JointState
        self._publisher = peer.node.create_publisher(
            JointState, "joint_states", qos_profile_sensor_data
        )
        peer.node.create_subscription(
            Float64MultiArray,
            "forward_command_controller/commands",
            self._on_command,
            QoSProfile(depth=100),
        )
        self._clock, self._timer = Clock(clock_type=ClockType.STEADY_TIME), None
        self.sent_s: list[float] = []
        """When each message was published, by its number."""
        self.answered_s: dict[int, float] = {}
        """When the first command that comes from a message had come, by the message's number."""
        self.commands_s: list[float] = []
        """When each command had come."""
        self.strange = 0
        """Commands that come from no measurement as it was sent: clamped, or a fallback's."""

    def publish_every(self, period_s: float, at_s: float | None = None) -> None:
        """Publish from now on with a period; `at_s`: so that messages fall on this time [s]."""
        if self._timer is not None:
            self._peer.node.destroy_timer(self._timer)
        if at_s is not None:
            # The first message comes a period after the timer was made.
            time.sleep((at_s - time.time()) % period_s)
        self._timer = self._peer.node.create_timer(period_s, self._publish, clock=self._clock)

    def _publish(self) -> None:
        angle = 2 * math.pi * len(self.sent_s) / TURN
        point = self._middle + self._radius * np.array([math.cos(angle), math.sin(angle)])
        for column, value in zip(self._columns.values(), point):
            self._place[self._spec.observations[column].joint] = float(value)
        message = self._message(
            name=self._names,
            position=[self._place[name] for name in self._names],
            velocity=[0.0] * len(self._names),
        )
        self.sent_s.append(time.time())
        self._publisher.publish(message)

    def _on_command(self, message: Any, info: Any) -> None:
        at_s = 1e-9 * info["received_timestamp"]
        self.commands_s.append(at_s)
        number = self._number([message.data[column] for column in self._columns])
        if number is None:
            self.strange += 1
        else:
            self.answered_s.setdefault(number, at_s)
        for column, action in enumerate(self._spec.actions):
            if action.quantity == "position" and column not in self._columns:
                place = self._place[action.joint]
                self._place[action.joint] = place + FOLLOW * (message.data[column] - place)

    def _number(self, echoed: list[float]) -> int | None:
        """The newest message that these positions were in; None: there was none."""
        x, y = (np.array(echoed) - self._middle) / self._radius
        exact = math.atan2(y, x) / (2 * math.pi) * TURN
        if abs(math.hypot(x, y) - 1) > SPREAD / TURN or abs(exact - round(exact)) > SPREAD:
            return None
        newest = len(self.sent_s) - 1
        return newest - (newest - round(exact)) % TURN
