"""What one episode of the demo left behind; plain arrays, no ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Attempt:
    """One adaptation as the adapter published it."""

    time_s: float
    accepted: bool
    verdict: str
    live_before: float
    live_after: float
    steps: int
    duration_ms: float


@dataclass
class Recording:
    """One episode; times count on the reference's clock: episodes can be laid side by side."""

    joints: list[str]
    fault_s: float
    time_s: np.ndarray
    """Of every measurement, [n]."""
    position: np.ndarray
    """Measured, [n, joints]."""
    reference: np.ndarray
    """To be followed, [n, joints]."""
    attempts: list[Attempt] = field(default_factory=list)
    versions: list[tuple[float, int]] = field(default_factory=list)
    """Time and version of the parameters that drove the robot, at every status."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Last status of the policy node."""

    @property
    def error(self) -> np.ndarray:
        """Mean absolute joint error at every measurement [n]."""
        return np.abs(self.position - self.reference).mean(axis=1)

    def mean_error(self, begin_s: float, end_s: float) -> float:
        """Mean error between two times."""
        inside = (self.time_s >= begin_s) & (self.time_s < end_s)
        return float(self.error[inside].mean()) if inside.any() else float("nan")
