"""Draw a family's splits anew and freeze them: `python -m sim.freeze_splits FAMILY --seed 0`.

Results quoted for the old splits are void afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from reptile_agent.task import Task
from sim import registry, splits
from sim.variations import Variation


@runtime_checkable
class Freezable(Protocol):
    """A family whose splits lie in its folder."""

    folder: Path
    variations: tuple[Variation, ...]

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """Values of the held-out kind."""
        ...

    def feasible(self, task: Task) -> bool:
        """Whether a controller could solve the task."""
        ...


def main() -> None:
    """Write the family's splits.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    family = registry.get(args.family)
    if not isinstance(family, Freezable):
        raise SystemExit(f"family '{args.family}' does not keep its splits in a file of this kind")
    drawn = splits.draw(family.variations, family.draw_held_out, family.feasible, args.seed)
    splits.write(family.folder / "splits.json", drawn, args.seed, family.variations)
    print(f"wrote {family.folder / 'splits.json'}")


if __name__ == "__main__":
    main()
