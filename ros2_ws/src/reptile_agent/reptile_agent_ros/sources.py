"""Where measurements come from: joint_states, and what the parameters take from imu and odom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.node import Node
from reptile_agent.spec import RobotSpec
from reptile_agent_ros import qos
from reptile_agent_ros.fields import check_units, match
from reptile_agent_ros.joints import JointReader
from reptile_agent_ros.motion import IMU, MotionReader, ODOMETRY
from reptile_agent_ros.settings import value
from sensor_msgs.msg import JointState

JOINTS = 'joint_states'
WAITING = 'waiting for '


class Sources:
    """Subscribes to what measures the robot's signals, and holds the newest of each.

    Args:
        node: whose parameters `imu_signals`, `odometry_signals` and `strict_joints` say how.
        robot: whose observations are measured.
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
        names = [signal.name for signal in robot.observations]
        by_source = {
            source.topic: match(
                source.parameter, value(node, source.parameter), names, source.fields
            )
            for source in (IMU, ODOMETRY)
        }
        for source in (IMU, ODOMETRY):
            check_units(source.parameter, by_source[source.topic], robot.observations)
        twice = sorted(by_source[IMU.topic].keys() & by_source[ODOMETRY.topic])
        if twice:
            raise ValueError(
                f"{IMU.parameter} and {ODOMETRY.parameter} both name '{twice[0]}'; measure it once"
            )
        self.elsewhere: Mapping[str, str] = {
            name: topic for topic, fields in by_source.items() for name in fields
        }
        """Topic of each signal that does not come from joint_states, by name."""
        strict = value(node, 'strict_joints')
        self._now_s, self._seen = now_s, False
        self._errors: dict[str, str] = {}
        self._joints = JointReader(robot, joint_map, strict, self.elsewhere.keys())
        self.obs = self._joints.obs
        """Newest of each signal, NaN where none came; overwritten as messages come, [obs_dim]."""
        self.received_s = self._joints.received_s
        """When each signal came; overwritten as messages come, [obs_dim]."""
        self._of_joints = len(names) - len(self.elsewhere)

        if self._of_joints:
            profile = qos.NEWEST_SENSOR if strict else qos.PARTIAL_SENSOR
            heard = partial(self._take, JOINTS, self._joints)
            made.append(qos.subscribe(node, JointState, JOINTS, heard, profile))
        for source in (IMU, ODOMETRY):
            fields = by_source[source.topic]
            if fields:
                reader = MotionReader(source, robot, fields, self.obs, self.received_s)
                heard = partial(self._take, source.topic, reader)
                made.append(
                    qos.subscribe(node, source.message, source.topic, heard, qos.NEWEST_SENSOR)
                )

    @property
    def error(self) -> str:
        """What was wrong with a message; empty: nothing was.

        Until all was measured once, only each source's newest message counts.
        """
        return next(iter(self._errors.values()), '')

    def waiting(self) -> str:
        """What lacks before control can begin; empty once all was measured, until `forget`."""
        if self._seen:
            return ''
        missing = self._joints.missing
        self._seen = not missing and not self._errors
        if self._seen or self._errors:
            return self.error
        topics = [self.elsewhere.get(name, JOINTS) for name in missing]
        lacking = list(dict.fromkeys(topic for topic in topics if topic != JOINTS))
        if 0 < topics.count(JOINTS) < self._of_joints:
            names = [n for n, topic in zip(missing, topics) if topic == JOINTS]
            lacking.append(f'{JOINTS} to have {", ".join(names)}; is joint_map right?')
        elif JOINTS in topics:
            lacking.append(JOINTS)
        return WAITING + ', '.join(lacking)

    def forget(self) -> None:
        """Wait for new measurements of everything."""
        self._joints.forget()
        self._errors.clear()
        self._seen = False

    def _take(self, topic: str, reader: JointReader | MotionReader, message: Any) -> None:
        try:
            reader.take(message, self._now_s())
        except ValueError as error:
            self._errors[topic] = str(error)
        else:
            if not self._seen:
                self._errors.pop(topic, None)
