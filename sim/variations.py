"""What may differ between two robots of a family: ranges with units and reasons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variation:
    """One quantity that varies, uniformly in its range unless `log` is set."""

    name: str
    """Key in a task."""
    unit: str
    """SI unit, or 'x' for a factor on the nominal value."""
    nominal: float
    """Value of the robot as built; what a task that does not name the variation has."""
    train: tuple[float, float]
    """Range of meta-training and of the split in_range."""
    beyond: tuple[float, float]
    """Range of the split extrapolated; the training range is cut out of it."""
    why: str
    """Where the range comes from."""
    log: bool = False
    """Draw uniformly in the logarithm: for factors."""

    def __post_init__(self) -> None:
        for label, (low, high) in (("train", self.train), ("beyond", self.beyond)):
            if not low <= high:
                raise ValueError(f"variation '{self.name}': {label} range {low}..{high} is empty")
            if self.log and low <= 0:
                raise ValueError(f"variation '{self.name}': log needs {label} above 0, got {low}")
        if not self.beyond[0] <= self.train[0] <= self.train[1] <= self.beyond[1]:
            raise ValueError(
                f"variation '{self.name}': beyond {self.beyond} must contain train {self.train}"
            )

    def draw_train(self, rng: np.random.Generator) -> float:
        """A value inside the training range."""
        return self._between(rng, *self.train)

    def draw_beyond(self, rng: np.random.Generator) -> float:
        """A value outside the training range; the nominal one where there is no outside."""
        (low, high), (inner_low, inner_high) = self.beyond, self.train
        sides = [(a, b) for a, b in ((low, inner_low), (inner_high, high)) if b > a]
        return self._between(rng, *sides[rng.integers(len(sides))]) if sides else self.nominal

    def _between(self, rng: np.random.Generator, low: float, high: float) -> float:
        if self.log:
            return float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return float(rng.uniform(low, high))


def column(tasks: list[dict[str, float]], variation: Variation) -> np.ndarray:
    """The variation's value in each task, float64 [tasks]; nominal where a task is silent."""
    return np.array([task.get(variation.name, variation.nominal) for task in tasks])
