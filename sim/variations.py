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
    choices: tuple[float, ...] = ()
    """Whole numbers to draw from instead of a range, such as the index of a joint; those outside
    `train` are drawn where a value is to lie beyond it."""

    def __post_init__(self) -> None:
        for label, (low, high) in (("train", self.train), ("beyond", self.beyond)):
            if not low <= high:
                raise ValueError(f"variation '{self.name}': {label} range {low}..{high} is empty")
            if self.log and low <= 0:
                raise ValueError(f"variation '{self.name}': log needs {label} above 0, got {low}")
        if any(not float(choice).is_integer() for choice in self.choices):
            raise ValueError(f"variation '{self.name}': choices {self.choices} are not whole")
        if not (self.unit and self.why):
            raise ValueError(f"variation '{self.name}' needs a unit and a reason (why)")
        if not self.beyond[0] <= self.nominal <= self.beyond[1]:
            raise ValueError(
                f"variation '{self.name}': nominal {self.nominal} is outside beyond {self.beyond}"
            )
        if not self.beyond[0] <= self.train[0] <= self.train[1] <= self.beyond[1]:
            raise ValueError(
                f"variation '{self.name}': beyond {self.beyond} must contain train {self.train}"
            )

    def draw_train(self, rng: np.random.Generator) -> float:
        """A value inside the training range."""
        if self.choices:
            low, high = self.train
            return float(rng.choice([c for c in self.choices if low <= c <= high]))
        return self._between(rng, *self.train)

    def draw_beyond(self, rng: np.random.Generator) -> float:
        """A value outside the training range; the nominal one where there is no outside."""
        (low, high), (inner_low, inner_high) = self.beyond, self.train
        if self.choices:
            outside = [c for c in self.choices if not inner_low <= c <= inner_high]
            return float(rng.choice(outside or [self.nominal]))
        sides = [(a, b) for a, b in ((low, inner_low), (inner_high, high)) if b > a]
        return self._between(rng, *sides[rng.integers(len(sides))]) if sides else self.nominal

    def check(self, value: float) -> None:
        """Refuse what no robot of the family has.

        Raises:
            ValueError: the value is not finite, outside `beyond`, or none of the choices.
        """
        low, high = self.beyond
        if not low <= value <= high:
            raise ValueError(f"is {value}, outside its range {low}..{high}")
        if self.choices and value not in self.choices:
            raise ValueError(f"is {value}, not one of {self.choices}")

    def _between(self, rng: np.random.Generator, low: float, high: float) -> float:
        if self.log:
            return float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return float(rng.uniform(low, high))


def column(tasks: list[dict[str, float]], variation: Variation) -> np.ndarray:
    """The variation's value in each task, float64 [tasks]; nominal where a task is silent."""
    return np.array([task.get(variation.name, variation.nominal) for task in tasks])
