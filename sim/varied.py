"""What all families have in common: quantities that vary, and tasks that name values of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from reptile_agent.task import Task
from sim.variations import Variation


class VariedFamily:
    """Base of families, whoever simulates them."""

    name: str
    variations: tuple[Variation, ...]
    held_out: tuple[Variation, ...] = ()
    """What only the split held_out varies; its range of training is the nominal value alone."""

    def describe(self) -> list[dict[str, Any]]:
        """The variations as rows; `held_out` tells those that only that split has."""
        rows = [asdict(v) | {"held_out": False} for v in self.variations]
        return rows + [asdict(v) | {"held_out": True} for v in self.held_out]

    def check(self, tasks: list[Task]) -> None:
        """Refuse tasks that this family does not know.

        Raises:
            LookupError: a variation has another name.
            ValueError: a value is outside its widest range, or not finite.
        """
        known = {v.name: v for v in (*self.variations, *self.held_out)}
        for name, value in ((name, value) for task in tasks for name, value in task.items()):
            if name not in known:
                raise LookupError(
                    f"family '{self.name}' has no variation '{name}' "
                    f"(there are: {', '.join(sorted(known)) or 'none'})"
                )
            try:
                known[name].check(value)
            except ValueError as error:
                raise ValueError(f"variation '{name}' of family '{self.name}' {error}") from error

    def check_inside(self, tasks: list[Task]) -> None:
        """Refuse tasks that are not inside the ranges of training, every variation named.

        Raises:
            ValueError: a value is outside, or missing.
        """
        for task in tasks:
            for variation in self.variations:
                low, high = variation.train
                value = task.get(variation.name)
                if value is None or not low <= value <= high:
                    raise ValueError(
                        f"a training task has {variation.name} = {value}, outside {low}..{high}"
                    )
