"""Limits of a command: acceleration, then rate, then range, which has the last word.

An acceleration limit alone would let a command run at its range's end and stop there at once,
which no acceleration limit allows. So a command that has one brakes in time.
"""

from __future__ import annotations

import numpy as np

from reptile_agent.spec import RobotSpec, Signal, limits

ANY_ACCELERATION = 1e12
"""Stands for no limit: far above what any robot does, and still finite when multiplied."""


class CommandLimits:
    """Moves commands to the nearest that the robot's signals allow.

    Args:
        robot: whose actions they are.
    """

    def __init__(self, robot: RobotSpec) -> None:
        period_s = robot.control_period_s
        self._low, self._high = limits(robot.actions)
        self._step = np.array([_step(a, period_s) for a in robot.actions], np.float32)
        changes = [a.max_acceleration for a in robot.actions]
        self._change: np.ndarray | None = None
        """Allowed change of the step from one period to the next, [act_dim]."""
        if any(change is not None for change in changes):
            per_s2 = [ANY_ACCELERATION if c is None else c for c in changes]
            self._change = np.array(per_s2, np.float32) * np.float32(period_s**2)

    def apply(self, wanted: np.ndarray, last: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """The allowed command nearest to the wanted one.

        Args:
            wanted: finite, [act_dim].
            last: sent one period ago; where it is not finite, only the range counts.
            moved: how far `last` was from the command before it; not finite counts as zero.

        Returns:
            A new array [act_dim].
        """
        allowed = np.array(wanted, np.float32)
        if np.isfinite(last).all():
            if self._change is not None:
                self._brake(allowed, last, moved, self._change)
            np.maximum(allowed, last - self._step, out=allowed)
            np.minimum(allowed, last + self._step, out=allowed)
        np.maximum(allowed, self._low, out=allowed)
        np.minimum(allowed, self._high, out=allowed)
        return allowed

    def _brake(
        self, allowed: np.ndarray, last: np.ndarray, moved: np.ndarray, change: np.ndarray
    ) -> None:
        """Limit the acceleration, in place, so that it need never be broken at the range's end."""
        moved = np.where(np.isfinite(moved), moved, np.float32(0.0))
        np.minimum(allowed, last + _stoppable(self._high - last, change), out=allowed)
        np.maximum(allowed, last - _stoppable(last - self._low, change), out=allowed)
        np.maximum(allowed, last + (moved - change), out=allowed)
        np.minimum(allowed, last + (moved + change), out=allowed)


def _step(action: Signal, period_s: float) -> float:
    return np.inf if action.max_rate is None else action.max_rate * period_s


def _stoppable(room: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Longest step from which one can stop within `room`, each step shorter by `change`.

    Steps v, v - c, v - 2c... add up to at most v^2 / 2c + v / 2 + c / 8 (the sum is piecewise
    linear, and touches v^2 / 2c + v / 2 where v is a multiple of c). That is no more than the
    room for v <= c (sqrt(2 room / c) - 1 / 2); after such a step the next one, shorter by c,
    meets the same bound again. A step of c or less can be followed by none at all.
    """
    room = np.maximum(room, 0.0)
    return np.maximum(np.minimum(room, change), change * (np.sqrt(2.0 * room / change) - 0.5))
