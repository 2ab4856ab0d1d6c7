"""One adaptation of the robot: what it began with, what came out, what the gate says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reptile_agent.gate import Evidence, Verdict
from reptile_agent.onboard.inner_steps import Stop


@dataclass(frozen=True)
class Asked:
    """What an adaptation began with: with the transitions themselves, all it takes to repeat it."""

    steps: int
    """K, though something may have ended them before."""
    window: int
    """Newest transitions to look at, without those held out."""
    start: str
    """`start` or `last`."""
    inner_lr: float
    in_use: np.ndarray
    """Parameters that drove the robot, flat float32."""
    remembered: int
    """Transitions that there were."""
    newest: int
    """Number of the newest of them, as it was given with it."""


@dataclass(frozen=True)
class Adaptation:
    """One adaptation: what came out, and what the gate says of it."""

    parameters: np.ndarray
    """Adapted, flat float32."""
    loss: np.ndarray
    """Inner loss before each step taken, [steps]; none where nothing was learned (a restore)."""
    grad_norm: np.ndarray
    """Gradient norm of each step taken, [steps]."""
    evidence: Evidence
    """Errors that were not measured, because the steps were stopped, are nan."""
    verdict: Verdict
    duration_ms: float
    stop: Stop = "done"
    """Why no further step was taken."""
    asked: Asked | None = None
    """None where nothing was learned."""
    tau: float = math.nan
    """Recency of the minibatches that these steps were taken on."""

    @property
    def steps(self) -> int:
        """Inner steps taken."""
        return self.loss.size
