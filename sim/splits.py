"""Splits: which tasks are for training and which for judging, frozen in a file with its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reptile_agent.task import Task
from sim.variations import Variation

SIZES = {"train": 128, "validation": 32, "in_range": 32, "extrapolated": 32, "held_out": 32}
"""Tasks per split. Tune on validation (drawn like extrapolated); judge on the last three."""
INFEASIBLE = "infeasible"
"""Split of tasks that were drawn and that no controller can solve: there the right answer is to
leave the start alone, and a mean over them says nothing. At most as many as in extrapolated."""


def draw(
    variations: tuple[Variation, ...],
    held_out: Callable[[np.random.Generator], Task],
    feasible: Callable[[Task], bool],
    seed: int,
) -> dict[str, list[Task]]:
    """Draw all splits of a family.

    Args:
        variations: what varies.
        held_out: draws what a task of the held-out *kind* has beside values of the training range.
        feasible: whether a controller could solve the task at all; others are drawn again, and
            the first of them are kept in a split of their own.
        seed: of the whole draw.
    """

    def inside(rng: np.random.Generator) -> Task:
        return {v.name: v.draw_train(rng) for v in variations}

    def outside(rng: np.random.Generator) -> Task:
        # Two variations leave their ranges at a time: far enough to matter, and still solvable.
        task = inside(rng)
        can_leave = [v for v in variations if v.beyond != v.train]
        for i in rng.choice(len(can_leave), size=min(2, len(can_leave)), replace=False):
            task[can_leave[i].name] = can_leave[i].draw_beyond(rng)
        return task

    def other_kind(rng: np.random.Generator) -> Task:
        return inside(rng) | held_out(rng)

    makers = {
        "train": inside,
        "validation": outside,
        "in_range": inside,
        "extrapolated": outside,
        "held_out": other_kind,
    }
    splits: dict[str, list[Task]] = {}
    rejected: list[Task] = []
    for number, (split, make) in enumerate(makers.items()):
        rng = np.random.default_rng([seed, number])
        tasks: list[Task] = []
        for _ in range(100 * SIZES[split]):
            if len(tasks) == SIZES[split]:
                break
            task = {name: round(value, 6) for name, value in make(rng).items()}
            (tasks if feasible(task) else rejected).append(task)
        else:
            raise ValueError(f"split '{split}': too few feasible tasks; narrow the ranges")
        splits[split] = tasks
    return splits | {INFEASIBLE: rejected[: SIZES["extrapolated"]]}


def write(
    path: Path, splits: dict[str, list[Task]], seed: int, variations: tuple[Variation, ...]
) -> None:
    """Freeze splits in a JSON file, one task a line, with the ranges that they were drawn from."""
    ranges = _ranges(variations)
    document = {"seed": seed, "ranges": ranges, "sha256": _hash(splits), "splits": splits}
    text = json.dumps(document, indent=1)
    path.write_text(text.replace(",\n    ", ", ").replace("{\n    ", "{") + "\n")


def read(path: Path, variations: tuple[Variation, ...] | None = None) -> dict[str, list[Task]]:
    """Splits as frozen.

    Args:
        path: of the file.
        variations: that the family has now; None: nobody asks.

    Raises:
        ValueError: the file is not what was frozen, or was drawn from other ranges than
            `variations` have now.
    """
    try:
        document = json.loads(path.read_text())
        fits = _hash(document["splits"]) == document["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole file of splits ({error}); restore it, or draw anew with "
            f"`python -m sim.freeze_splits`"
        ) from error
    if not fits:
        raise ValueError(
            f"{path.name} was changed after it was frozen (its hash does not fit); "
            f"restore it, or draw anew with `python -m sim.freeze_splits`"
        )
    now = None if variations is None else _ranges(variations)
    drawn = document.get("ranges", now)
    if now is not None and drawn != now:
        name = next(n for n in {**drawn, **now} if drawn.get(n) != now.get(n))
        raise ValueError(
            f"{path} was frozen for other ranges ({name} was {drawn.get(name, 'not there')}, is "
            f"{now.get(name, 'not there')}); freeze it anew, which voids older results: "
            f"python -m sim.freeze_splits {path.parent.name}"
        )
    return document["splits"]


def _ranges(variations: tuple[Variation, ...]) -> dict[str, str]:
    """What tasks are drawn from, by name, in words that JSON gives back as they were."""
    return {
        v.name: f"{v.train[0]:g}..{v.train[1]:g}, beyond {v.beyond[0]:g}..{v.beyond[1]:g}"
        + ", log" * v.log
        + f", of {', '.join(f'{c:g}' for c in v.choices)}" * bool(v.choices)
        for v in variations
    }


def _hash(splits: dict[str, list[Task]]) -> str:
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()
