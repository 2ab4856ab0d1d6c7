"""A path through points in time: what a robot is to follow, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Path:
    """Straight lines between points or, where they carry velocities, cubics.

    Before the first and after the last point it stays there. ros2_control's
    joint_trajectory_controller interpolates in the same way.
    """

    times_s: np.ndarray
    """Of the points, rising, [points]."""
    values: np.ndarray
    """At the points, [points, dim]."""
    slopes: np.ndarray | None = None
    """Velocities at the points, [points, dim]; None: straight lines."""

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Values at other times, [times, dim]."""
        if self.slopes is None or self.times_s.size < 2:
            columns = [np.interp(times_s, self.times_s, column) for column in self.values.T]
            return np.stack(columns, axis=1)
        inside = np.clip(times_s, self.times_s[0], self.times_s[-1])
        i = np.searchsorted(self.times_s, inside, side="right") - 1
        i = np.clip(i, 0, self.times_s.size - 2)
        length = (self.times_s[i + 1] - self.times_s[i])[:, None]
        s = (inside - self.times_s[i])[:, None] / length
        return (  # cubic Hermite spline
            (1 + 2 * s) * (1 - s) ** 2 * self.values[i]
            + s * (1 - s) ** 2 * length * self.slopes[i]
            + s**2 * (3 - 2 * s) * self.values[i + 1]
            + s**2 * (s - 1) * length * self.slopes[i + 1]
        )
