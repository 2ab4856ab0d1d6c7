"""The gate: decides whether adapted parameters may be offered to the controller at all.

A lower prediction error is no proof of better control (probation looks at that); but parameters
that predict the last moments worse, forget what simulation taught, or wander off are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reptile_agent.adaptation import AdaptationConfig


@dataclass(frozen=True)
class Evidence:
    """What the gate judges on; errors are means of squared error over segments."""

    live_before: float
    """Error of the parameters in use on held-out live data."""
    live_after: float
    """Error of the adapted ones on the same."""
    rehearsal_start: float
    """Error of the start on data from simulation."""
    rehearsal_after: float
    """Error of the adapted ones on the same."""
    distance: float
    """Euclidean distance of the adapted parameters from the start."""
    plan_gain: float | None = None
    """What plans made with the adapted parameters are thought to be worth more per control period
    than those made with the parameters in use; None: nobody asked."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why."""

    accepted: bool
    word: str
    """accepted, not_finite, too_far, forgets, not_better, or plans_worse."""
    reason: str


def judge(evidence: Evidence, config: AdaptationConfig) -> Verdict:
    """Accept only what is finite, near the start, remembers simulation, and predicts better."""
    e = evidence
    values = (e.live_before, e.live_after, e.rehearsal_start, e.rehearsal_after, e.distance)
    if not np.isfinite(values[1:]).all():
        return Verdict(False, "not_finite", "the adapted parameters or their errors are not finite")
    if e.distance > config.max_distance:
        return Verdict(
            False,
            "too_far",
            f"distance {e.distance:.3g} from the start exceeds max_distance "
            f"{config.max_distance:.3g}",
        )
    allowed = (1 + config.rehearsal_margin) * e.rehearsal_start
    if e.rehearsal_after > allowed:
        return Verdict(
            False,
            "forgets",
            f"error on simulation data {e.rehearsal_after:.3g} exceeds {allowed:.3g} "
            f"(start: {e.rehearsal_start:.3g})",
        )
    asked = (1 - config.margin) * e.live_before
    if np.isfinite(e.live_before) and not e.live_after < asked:
        return Verdict(
            False,
            "not_better",
            f"error on held-out live data {e.live_after:.3g} is not below {asked:.3g}",
        )
    # Written so that a gain that is not a number does not pass.
    if e.plan_gain is not None and not e.plan_gain >= 0:
        return Verdict(
            False,
            "plans_worse",
            f"what would be planned is thought to be worth {e.plan_gain:.3g} more per period",
        )
    return Verdict(
        True,
        "accepted",
        f"error on held-out live data {e.live_before:.3g} -> {e.live_after:.3g}",
    )
