"""One file a meta-algorithm: how inner loops become a direction for the start."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reptile_agent.meta.learner import Params


@dataclass(frozen=True)
class Direction:
    """What a meta-algorithm hands to the outer optimizer."""

    towards: Params
    """As if it were the gradient of the start."""
    info: dict[str, Tensor]
    """Losses `before` and `after` adaptation, means over tasks."""
    log_lr: Params | None = None
    """Gradient of the logarithms of the inner step sizes, where it was asked for; scalars."""
