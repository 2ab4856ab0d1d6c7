"""Which kind of change a held-out task has: what one kind does must not hide behind the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from bench.adaptation import estimates
from bench.adaptation.comparison import Arm, Comparison, common
from bench.adaptation.scores import matrix
from sim import registry

SPLIT = "held_out"
"""The only split whose tasks have kinds of change that no training task has."""


def of_tasks(family: str, tasks: Iterable[int]) -> dict[str, list[int]]:
    """Kind of change -> the tasks that have it, of the split held_out; in the family's order.

    A task's kinds are the family's held-out variations that are not as built.
    """
    if family not in registry.names():
        return {}
    known = registry.get(family)
    frozen = known.splits()[SPLIT]
    found: dict[str, list[int]] = defaultdict(list)
    for variation in getattr(known, "held_out", ()):
        for number in tasks:
            if frozen[number].get(variation.name, variation.nominal) != variation.nominal:
                found[variation.name].append(number)
    return dict(found)


def rows(comparison: Comparison) -> list[list[str]]:
    """Kind, method, k, gate, median returns without and with the steps, share made worse, runs.

    The oracle takes no steps, and has the first of them alone.
    Medians: where robots are lost altogether, as by exchanged plugs, one run outweighs all others.
    """
    c, made = comparison, []
    if SPLIT not in c.splits:
        return made
    arms = [arm for arm in c.arms(SPLIT) if arm.gate == c.judged_gate or arm.method == "oracle"]
    held_out = c.rows[c.rows.split == SPLIT]
    for kind, tasks in of_tasks(c.family, held_out.task.unique()).items():
        of_kind = replace(c, rows=held_out.loc[held_out.task.isin(tasks)])
        for arm in arms:
            start = of_kind.runs(SPLIT, Arm(arm.method, 0, "-"))
            adapted = of_kind.runs(SPLIT, arm)
            if start.empty or adapted.empty:
                continue
            before, after = common([matrix(runs, "episode_return") for runs in (start, adapted)])
            steps = ["-", "-"]
            if arm.k:
                worse = estimates.worse(before, after)
                steps = [f"{np.median(after):.4g}", f"{worse.share:.0%}"]
            made.append(
                [
                    *(kind, arm.method, str(arm.k), arm.gate, f"{np.median(before):.4g}"),
                    *(*steps, f"{after.shape[0]} x {after.shape[1]}"),
                ]
            )
    return made
