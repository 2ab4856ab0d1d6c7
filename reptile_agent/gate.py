"""The gate: decides whether adapted parameters may be offered to the controller at all.

A lower prediction error is no proof of better control (probation looks at that); but parameters
that predict the last moments worse, forget what simulation taught, or wander off are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.trust_region import breach


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
    layers: Mapping[str, float] = field(default_factory=dict)
    """Relative distance of each layer (`trust_region.layer_distances`); empty: not judged."""
    plan_gain: float | None = None
    """What plans made with the adapted parameters, or a policy's actions, are thought to be worth
    more per control period than those of the parameters in use; None: nobody asked."""

    @property
    def figures(self) -> dict[str, float]:
        """Everything that was measured, by name; a layer's distance as `layer.<name>`."""
        asked = {} if self.plan_gain is None else {"plan_gain": self.plan_gain}
        return {
            "live_before": self.live_before,
            "live_after": self.live_after,
            "rehearsal_start": self.rehearsal_start,
            "rehearsal_after": self.rehearsal_after,
            "distance": self.distance,
            **{f"layer.{name}": value for name, value in self.layers.items()},
            **asked,
        }


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why."""

    accepted: bool
    word: str
    """accepted, not_finite, too_far, layer_too_far, forgets, not_better, or plans_worse; on the
    robot also cancelled or diverged, where the steps did not end well."""
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    """All that was measured, whatever decided."""


def judge(evidence: Evidence, config: AdaptationConfig) -> Verdict:
    """Accept only what is finite, near the start, remembers simulation, and predicts better."""
    refused = _objection(evidence, config)
    if refused is not None:
        return Verdict(False, *refused, figures=evidence.figures)
    before, after = evidence.live_before, evidence.live_after
    reason = f"error on held-out live data {before:.3g} -> {after:.3g}"
    return Verdict(True, "accepted", reason, evidence.figures)


def _objection(e: Evidence, config: AdaptationConfig) -> tuple[str, str] | None:
    """The first reason to refuse: a word and a sentence."""
    values = (e.live_after, e.rehearsal_start, e.rehearsal_after, e.distance, *e.layers.values())
    if not np.isfinite(values).all():
        return "not_finite", "the adapted parameters or their errors are not finite"
    outside = breach(e.distance, e.layers, config)
    if outside is not None:
        return outside
    allowed = (1 + config.rehearsal_margin) * e.rehearsal_start
    if e.rehearsal_after > allowed:
        return (
            "forgets",
            f"error on simulation data {e.rehearsal_after:.3g} exceeds {allowed:.3g} "
            f"(start: {e.rehearsal_start:.3g})",
        )
    asked = (1 - config.margin) * e.live_before
    if np.isfinite(e.live_before) and not e.live_after < asked:
        return (
            "not_better",
            f"error on held-out live data {e.live_after:.3g} is not below {asked:.3g}",
        )
    # Written so that a gain that is not a number does not pass.
    if e.plan_gain is not None and not e.plan_gain >= 0:
        if np.isnan(e.plan_gain):
            return "plans_worse", "what would be done is not known: nothing was seen to follow"
        worth = f"{-e.plan_gain:.3g} less per control period"
        return "plans_worse", f"what would be done is thought to be worth {worth}"
    return None
