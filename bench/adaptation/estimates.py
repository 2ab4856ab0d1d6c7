"""Statistics over seeds x tasks, as rliable has them (Agarwal et al. 2021, arXiv 2108.13264).

Intervals are 95 % percentile intervals of rliable's stratified bootstrap: seeds are drawn anew
for each task, the tasks stay. Two ways around rliable 1.2: its `random_state` does not reach its
draws, which come from NumPy's global generator, so that one is seeded; and IQM and probability
of improvement are written without the checks that make scipy's ten to a hundred times slower in
a bootstrap (the tests compare them to rliable's own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rliable import library

WORSE_BY = 0.05
"""A task counts as made worse when its return falls by more than this share of that at k = 0."""


@dataclass(frozen=True)
class Estimate:
    """Point estimates with their intervals, each `[n]`; nan where one seed gives no interval."""

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __str__(self) -> str:
        if np.isnan(self.point[0]):
            return "-"
        if np.isnan(self.low[0]):
            return f"{self.point[0]:.2f}"
        return f"{self.point[0]:.2f} [{self.low[0]:.2f}, {self.high[0]:.2f}]"


@dataclass(frozen=True)
class Worse:
    """Runs that adaptation made worse; drops as shares of the return's size at k = 0."""

    share: float
    mean_drop: float
    worst_drop: float


def interquartile_mean(scores: np.ndarray, reps: int) -> Estimate:
    """IQM over seeds and tasks.

    Args:
        scores: `[seeds, tasks]`, or `[seeds, tasks, n]` for n of them at once.
        reps: draws of the bootstrap.
    """
    return _estimate([scores.reshape(*scores.shape[:2], -1)], iqm, reps)


def mean(values: np.ndarray, reps: int) -> Estimate:
    """Mean over seeds and tasks, `[seeds, tasks, n]`."""
    return _estimate([values], lambda v: v.mean(axis=(0, 1)), reps)


def mean_over_tasks(values: np.ndarray, reps: int) -> Estimate:
    """Mean of one value a task, `[tasks]`, with tasks drawn anew: would others say it?"""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(reps, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(*(np.array([value]) for value in (values.mean(), low, high)))


def improvement(ours: np.ndarray, theirs: np.ndarray, reps: int) -> Estimate:
    """Probability that a seed of ours beats one of theirs on the same task, meaned over tasks.

    Args:
        ours: `[seeds, tasks]`.
        theirs: `[other seeds, tasks]`.
        reps: draws of the bootstrap.
    """
    return _estimate([ours, theirs], _probability_of_improvement, reps)


def seed_difference(ours: np.ndarray, theirs: np.ndarray, reps: int) -> Estimate:
    """How far the IQM of our scores lies above theirs, with whole seeds drawn anew.

    One trained start is judged on all tasks, so that what is peculiar to a seed is in all of its
    runs; drawing seeds anew for each task, as the stratified bootstrap does, takes that for noise
    that averages out. Here a seed comes with all its tasks, ours and theirs together: they share
    experience, courses and noise.

    Args:
        ours: `[seeds, tasks]`.
        theirs: of the same seeds and tasks.
        reps: draws of the bootstrap.
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(reps, len(ours)))
    point = iqm(ours[..., None]) - iqm(theirs[..., None])
    found = iqm(ours[drawn].transpose(1, 2, 0)) - iqm(theirs[drawn].transpose(1, 2, 0))
    low, high = np.quantile(found, [[0.025], [0.975]])
    return Estimate(point, low, high)


def share_above(scores: np.ndarray, thresholds: np.ndarray, reps: int) -> Estimate:
    """Performance profile: the share of runs whose score exceeds each threshold."""
    return _estimate([scores], lambda s: (s[..., None] > thresholds).mean(axis=(0, 1)), reps)


def share_within(seconds: np.ndarray, limits: np.ndarray, reps: int) -> Estimate:
    """Share of runs, `[seeds, tasks]`, that take no longer than each limit; inf never does."""
    return _estimate([seconds], lambda s: (s[..., None] <= limits).mean(axis=(0, 1)), reps)


def worse(start: np.ndarray, adapted: np.ndarray) -> Worse:
    """How often, and by how much, adaptation lowers the return by more than WORSE_BY.

    Args:
        start: returns at k = 0, of any shape.
        adapted: returns of the same seeds on the same tasks after adaptation.
    """
    drop, size = start - adapted, np.abs(start)
    lost = drop > WORSE_BY * size
    if not lost.any():
        return Worse(0.0, 0.0, 0.0)
    with np.errstate(divide="ignore"):  # a return of 0 that falls has lost infinitely more
        shares = drop[lost] / size[lost]
    return Worse(float(lost.mean()), float(shares.mean()), float(shares.max()))


def iqm(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of all runs, `[seeds, tasks, n]` -> `[n]`; rliable: aggregate_iqm."""
    ranked = np.sort(scores.reshape(-1, scores.shape[-1]), axis=0)
    cut = len(ranked) // 4
    return ranked[cut : len(ranked) - cut].mean(axis=0)


def _probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Mann-Whitney's U over its largest value: a tie is half a win."""
    wins = (ours[:, None] > theirs).mean() + 0.5 * (ours[:, None] == theirs).mean()
    return np.array([wins])


def _estimate(
    samples: list[np.ndarray], function: Callable[..., np.ndarray], reps: int
) -> Estimate:
    point = function(*samples)
    if min(len(sample) for sample in samples) < 2 or np.isnan(point).any():
        nothing = np.full_like(point, np.nan)
        return Estimate(point, nothing, nothing)
    with _seeded():
        _, intervals = library.get_interval_estimates({"": samples}, function, reps=reps)
    low, high = intervals[""]
    return Estimate(point, low, high)


@contextmanager
def _seeded() -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002 (rliable draws from it)
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
