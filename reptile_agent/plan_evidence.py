"""Which plans are better, when no model is known to be right: a committee, weighed by evidence.

A lower prediction error is no proof of better control, and a model always prefers the plans that
it made itself. So the gate lets several models judge the plans: the start, which has seen every
task; the parameters in use; and the adapted ones. Each has a say by how well it predicted the
robot's last moments.
"""

from __future__ import annotations

import numpy as np

SHARPNESS = 4.0
"""Power of the inverse error by which a model is believed. The likelihood of Gaussian errors of
unknown size falls with the power n / 2 of their mean square; the last moments' segments overlap and
their errors hang together, so that n is far below their number."""


def plan_gain(error: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """What the committee thinks that the adapted parameters' plans are worth more.

    Args:
        error: mean squared prediction error of each model on the last moments, [models, ...].
        gain: return per control period of the adapted parameters' plans less that of the plans of
            those in use, as each model sees it, [models, ...].

    Returns:
        Weighted mean over models, [...]. A model whose error or gain is not finite has no say; nan
        where none has one.
    """
    heard = np.isfinite(error) & np.isfinite(gain)
    # A perfect model has the only say; nobody's error may divide by zero.
    size = np.maximum(np.where(heard, error, np.finfo(float).max), 1e-12)
    trust = np.where(heard, (size / size.min(axis=0)) ** -SHARPNESS, 0.0)
    total = trust.sum(axis=0)
    return (trust * np.where(heard, gain, 0.0)).sum(axis=0) / np.where(total > 0, total, np.nan)
