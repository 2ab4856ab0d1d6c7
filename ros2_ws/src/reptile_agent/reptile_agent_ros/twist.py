"""Twist and TwistStamped: velocities to follow, and velocities that are commanded."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Twist, TwistStamped
import numpy as np
from reptile_agent.spec import RobotSpec, Signal
from reptile_agent_ros.fields import check_units, match_all

KINDS: dict[str, type] = {'twist': Twist, 'twist_stamped': TwistStamped}
"""Message by the name that parameters have for it."""
FIELDS = tuple(f'{part}.{axis}' for part in ('linear', 'angular') for axis in 'xyz')


def velocity_fields(
    parameter: str, pairs: Sequence[str], signals: Sequence[Signal]
) -> list[tuple[str, str]]:
    """The part of a Twist and the axis for each signal, in order.

    Args:
        parameter: name of it, for errors.
        pairs: its value, `['x.velocity=linear.x']`.
        signals: each needs a field of its own.

    Raises:
        ValueError: the pairs do not fit, a signal is no velocity, or may not be zero: a Twist
            that stops coming, and a command to hold, mean zero.
    """
    strange = [s.name for s in signals if s.quantity != 'velocity']
    if strange:
        raise ValueError(f'a Twist holds velocities, the bundle has {", ".join(strange)}')
    moving = [s for s in signals if not s.low <= 0 <= s.high]
    if moving:
        raise ValueError(
            f"'{moving[0].name}' lies in [{moving[0].low:g}, {moving[0].high:g}] and cannot be "
            'zero, which a Twist must be able to say'
        )
    names = [signal.name for signal in signals]
    fields = match_all(parameter, pairs, names, FIELDS)
    check_units(parameter, dict(zip(names, fields)), signals)
    return [(part, axis) for part, _, axis in (field.partition('.') for field in fields)]


class TwistTrack:
    """Velocities to follow as a Twist says them; zero before one came, and after a time without.

    As `track.Track` for trajectories.

    Args:
        robot: of the bundle.
        pairs: value of the parameter `reference_twist`.
        timeout_s: so long a Twist counts.

    Raises:
        ValueError: the robot's references are not what a Twist holds, or the pairs do not fit.
    """

    def __init__(self, robot: RobotSpec, pairs: Sequence[str], timeout_s: float) -> None:
        self._fields = velocity_fields('reference_twist', pairs, robot.references)
        self._signals, self.max_age_s = robot.references, timeout_s
        self._zero = np.zeros((1, len(self._signals)), np.float32)
        self._velocity, self._begin_s = self._zero, -np.inf

    def stay(self, reference: np.ndarray) -> None:
        """Stand still: what is measured, [ref_dim], is a velocity that would be kept."""
        self._velocity, self._begin_s = self._zero, -np.inf

    def follow(self, message: Twist | TwistStamped, begin_s: float) -> None:
        """Follow a Twist that was said at a time of the steady clock.

        Raises:
            ValueError: a velocity is not finite or out of limits. What was followed before stays,
                for its time.
        """
        twist = message.twist if isinstance(message, TwistStamped) else message
        values = [getattr(getattr(twist, part), axis) for part, axis in self._fields]
        for signal, wanted in zip(self._signals, values):
            if not signal.low <= wanted <= signal.high:
                raise ValueError(
                    f"Twist asks '{signal.name}' for {wanted:.3g}, outside "
                    f'[{signal.low:.3g}, {signal.high:.3g}]'
                )
        self._velocity, self._begin_s = np.array([values], np.float32), begin_s

    def goes_on(self, now_s: float) -> bool:
        """Whether the newest Twist still counts."""
        return now_s - self._begin_s <= self.max_age_s

    def ahead(self, now_s: float, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` control periods, float32 [horizon, ref_dim]."""
        velocity = self._velocity if self.goes_on(now_s) else self._zero
        return velocity.repeat(horizon, axis=0)


class TwistCommand:
    """Makes commands a Twist or TwistStamped; fields without an action are zero.

    Args:
        robot: whose actions are commanded.
        pairs: value of the parameter `command_twist`.
        kind: Twist or TwistStamped.
        frame: frame_id of a TwistStamped.

    Raises:
        ValueError: the robot's actions are not what a Twist holds, or the pairs do not fit.
    """

    def __init__(self, robot: RobotSpec, pairs: Sequence[str], kind: type, frame: str) -> None:
        self._fields = velocity_fields('command_twist', pairs, robot.actions)
        self.message = kind()
        """Filled anew for every command."""
        if isinstance(self.message, TwistStamped):
            self.message.header.frame_id = frame
        self._twist = self.message.twist if kind is TwistStamped else self.message

    def fill(self, command: np.ndarray) -> None:
        """Put a command [act_dim] into the message."""
        for (part, axis), wanted in zip(self._fields, command):
            setattr(getattr(self._twist, part), axis, float(wanted))
