"""One row: a call, many times, in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.machine import peak_rss_mb
from reptile_agent.onboard.bundle import Bundle

WARM_UP = 20
LR = 0.01
"""Inner step size."""
LEAST = 5
"""Calls timed, however few are asked for."""


@dataclass(frozen=True)
class Row:
    """What a call took."""

    subject: str
    what: str
    runtime: str
    k: int
    """Inner steps; 0 where none are taken."""
    batch: int
    """Rows of a minibatch."""
    p50_us: float
    p99_us: float
    rss_mb: float
    """Largest memory of the process up to then."""


@dataclass(frozen=True)
class Timer:
    """Times calls of one subject in one runtime."""

    subject: str
    runtime: str
    repeats: int

    def row(
        self, what: str, call: Callable[[], object], k: int = 0, batch: int = 1, share: int = 1
    ) -> Row:
        """Times `repeats / share` calls, after some that warm up."""
        return self.rows({what: call}, k, batch, share)[0]

    def rows(
        self, calls: Mapping[str, Callable[[], object]], k: int = 0, batch: int = 1, share: int = 1
    ) -> list[Row]:
        """Times several calls in turns, so that what the machine does meanwhile hits all alike."""
        repeats = max(self.repeats // share, LEAST)
        times_us: dict[str, list[float]] = {what: [] for what in calls}
        for number in range(min(WARM_UP, repeats) + repeats):
            for what, call in calls.items():
                began = time.perf_counter()
                call()
                if number >= min(WARM_UP, repeats):
                    times_us[what].append(1e6 * (time.perf_counter() - began))
        return [self._row(what, times, k, batch) for what, times in times_us.items()]

    def _row(self, what: str, times_us: list[float], k: int, batch: int) -> Row:
        p50, p99 = (float(np.percentile(times_us, q)) for q in (50, 99))
        return Row(self.subject, what, self.runtime, k, batch, p50, p99, peak_rss_mb())


def inputs(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """A measurement [obs_dim] and a reference [horizon, ref_dim], the same in every runtime."""
    rng = np.random.default_rng(0)
    robot, horizon = bundle.manifest.robot, bundle.manifest.plan.horizon
    obs = 0.1 * rng.standard_normal(len(robot.observations))
    reference = 0.1 * rng.standard_normal((horizon, len(robot.references)))
    return obs.astype(np.float32), reference.astype(np.float32)


def minibatches(bundle: Bundle, k: int, batch: int) -> dict[str, np.ndarray]:
    """Minibatches of the bundle's own rehearsal data, `[k, batch, ...]`."""
    rows = bundle.rehearsal["obs"].shape[0]
    at = np.random.default_rng(1).integers(rows, size=(k, batch))
    return {name: np.ascontiguousarray(value[at]) for name, value in bundle.rehearsal.items()}
