"""How the outer step size falls over a run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def schedule(kind: Schedule, done_share: float) -> float:
    """Factor on the outer step size once `done_share` of the outer steps, 0 to 1, are taken.

    `linear` falls to zero as in the Reptile paper's experiments (arXiv 1803.02999, section 6);
    `cosine` is SGDR's without restarts (arXiv 1608.03983, equation 5).

    Raises:
        ValueError: the share is not one.
    """
    if not 0 <= done_share <= 1:
        raise ValueError(f"the share of outer steps taken must be 0 to 1, got {done_share}")
    match kind:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done_share
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done_share))
