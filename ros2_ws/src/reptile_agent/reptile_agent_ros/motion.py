"""Imu and Odometry to observations: which fields there are, and when they are not believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math
from operator import attrgetter
from typing import Any

from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry
import numpy as np
from reptile_agent.spec import RobotSpec
from sensor_msgs.msg import Imu

UNIT = 0.01
"""By how much the length of a quaternion may differ from 1."""
TURN = 2 * math.pi
UNMEASURED = -1.0
"""In the first element of a covariance of an Imu: the device has no such measurement."""

Getter = Callable[[Any], float]


class MotionError(ValueError):
    """An Imu or Odometry message does not hold what is to be read of it."""


def _normalised(q: Quaternion) -> tuple[float, float, float, float]:
    """w, x, y, z of length 1."""
    length = math.sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z)
    return q.w / length, q.x / length, q.y / length, q.z / length


def _roll(q: Quaternion) -> float:
    w, x, y, z = _normalised(q)
    return math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))


def _pitch(q: Quaternion) -> float:
    w, x, y, z = _normalised(q)
    return math.asin(min(1.0, max(-1.0, 2 * (w * y - z * x))))


def _yaw(q: Quaternion) -> float:
    w, x, y, z = _normalised(q)
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _rotated(axis: int, vector: Callable[[Any], Any], orientation: Callable[[Any], Any]) -> Getter:
    """A component of a vector of the child frame, along an axis of the parent's."""

    def get(message: Any) -> float:
        w, x, y, z = _normalised(orientation(message))
        v = vector(message)
        rows = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        a, b, c = rows[axis]
        return a * v.x + b * v.y + c * v.z

    return get


def _angle(of: Callable[[Quaternion], float], orientation: Callable[[Any], Any]) -> Getter:
    return lambda message: of(orientation(message))


def _vector(name: str, path: str, axes: str = 'xyz') -> dict[str, Getter]:
    return {f'{name}.{axis}': attrgetter(f'{path}.{axis}') for axis in axes}


def _orientation(name: str, path: str) -> dict[str, Getter]:
    """Roll, pitch and yaw about fixed axes (REP-103), then the quaternion as it was sent."""
    quaternion = attrgetter(path)
    angles = {'roll': _roll, 'pitch': _pitch, 'yaw': _yaw}
    return {f'{name}.{word}': _angle(of, quaternion) for word, of in angles.items()} | _vector(
        name, path, 'xyzw'
    )


def _is_measured(group: str) -> Callable[[Any], None]:
    """That the device measures this at all, by the definition of sensor_msgs/Imu."""
    covariance = attrgetter(f'{group}_covariance')

    def check(message: Any) -> None:
        if covariance(message)[0] == UNMEASURED:
            raise MotionError(
                f'imu has no {group}: {group}_covariance[0] is -1; take its signals elsewhere'
            )

    return check


def _is_unit(topic: str, name: str, path: str) -> Callable[[Any], None]:
    """That an orientation is one; a driver that knows none often sends zeros."""
    quaternion = attrgetter(path)

    def check(message: Any) -> None:
        q = quaternion(message)
        length = math.hypot(q.w, q.x, q.y, q.z)
        if not abs(length - 1) <= UNIT:  # Not a number is not near 1 either.
            raise MotionError(
                f'{name} of {topic} has the length {length:.3g}, a unit quaternion has 1; mend '
                'the driver'
            )

    return check


@dataclass(frozen=True)
class Source:
    """A kind of message that measures motion."""

    topic: str
    """Relative; reasons name it."""
    parameter: str
    """Which `signal=field` are taken from it."""
    message: type
    fields: Mapping[str, Getter]
    """By name."""
    checks: Mapping[str, tuple[Callable[[Any], None], ...]]
    """By the beginning of the fields that they are for; each raises MotionError."""


IMU = Source(
    'imu',
    'imu_signals',
    Imu,
    {
        **_vector('angular_velocity', 'angular_velocity'),
        **_vector('linear_acceleration', 'linear_acceleration'),
        **_orientation('orientation', 'orientation'),
    },
    {
        'angular_velocity': (_is_measured('angular_velocity'),),
        'linear_acceleration': (_is_measured('linear_acceleration'),),
        'orientation': (
            _is_measured('orientation'),
            _is_unit('imu', 'orientation', 'orientation'),
        ),
    },
)
"""Vectors are along the axes of header.frame_id, which is fixed to the robot."""

_POSE, _TWIST = 'pose.pose.orientation', 'twist.twist'
_POSE_IS_UNIT = _is_unit('odom', 'pose.orientation', _POSE)
ODOMETRY = Source(
    'odom',
    'odometry_signals',
    Odometry,
    {
        **_vector('pose.position', 'pose.pose.position'),
        **_orientation('pose.orientation', _POSE),
        **_vector('twist.linear', f'{_TWIST}.linear'),
        **_vector('twist.angular', f'{_TWIST}.angular'),
        **{
            f'twist_w.{part}.{word}': _rotated(
                axis, attrgetter(f'{_TWIST}.{part}'), attrgetter(_POSE)
            )
            for part in ('linear', 'angular')
            for axis, word in enumerate('xyz')
        },
    },
    {
        'pose.orientation': (_POSE_IS_UNIT,),
        'twist_w': (_POSE_IS_UNIT,),
    },
)
"""Pose in header.frame_id, twist in child_frame_id (the robot's), as the message is defined;
`twist_w` is the twist along the axes of header.frame_id."""


class MotionReader:
    """Picks observations of a RobotSpec out of one kind of message, and notes when each came.

    Roll and yaw lie in (-pi, pi]. A signal whose limits allow more than two turns is counted on
    from there, by the nearest way: so a simulator's joint without stops reads, and so it was
    learned from.

    Args:
        source: the kind of message.
        robot: of the bundle.
        fields: of each signal that is taken from it, as `fields.match` finds them.
        obs: newest of each signal, shared with other readers; overwritten by `take`, [obs_dim].
        received_s: when each signal came, shared likewise, [obs_dim].
    """

    def __init__(
        self,
        source: Source,
        robot: RobotSpec,
        fields: Mapping[str, str],
        obs: np.ndarray,
        received_s: np.ndarray,
    ) -> None:
        signals = [s for s in robot.observations if s.name in fields]
        wanted = [fields[s.name] for s in signals]
        self._obs, self._received_s = obs, received_s
        self._columns = np.array([robot.observations.index(s) for s in signals], int)
        self._getters = [source.fields[field] for field in wanted]
        self._checks = dict.fromkeys(
            check
            for group, checks in source.checks.items()
            if any(field.startswith(f'{group}.') for field in wanted)
            for check in checks
        )
        self._turning = [
            place
            for place, (signal, field) in enumerate(zip(signals, wanted))
            if field.endswith(('.roll', '.yaw')) and signal.high - signal.low > 2 * TURN
        ]

    def take(self, message: Any, now_s: float) -> None:
        """Take in a message. On an error nothing changes.

        Args:
            message: as it came.
            now_s: steady clock.

        Raises:
            MotionError: it does not hold what is to be read of it.
        """
        for check in self._checks:
            check(message)
        values = [get(message) for get in self._getters]
        for place in self._turning:
            before = float(self._obs[self._columns[place]])
            if math.isfinite(before):
                values[place] += TURN * round((before - values[place]) / TURN)
        self._obs[self._columns] = values
        self._received_s[self._columns] = now_s
