"""How much is there to win by knowing the task? Before any learning, with MuJoCo as the model.

    python -m bench.headroom --json

The planner of guided rounds drives every task of a split by plans that it tries on the task itself,
on the nominal robot, or on another task of the split. What is lost by not knowing is what adapting
a model can hope for. Where it is nothing, no start can show that it adapts better than another.
docs/results/headroom.json keeps the rows.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import tyro
from rich.progress import track
from rich.table import Table

from bench.machine import about
from reptile_agent.commands.console import console
from reptile_agent.meta.guide import guide
from reptile_agent.task import Task
from sim import registry
from sim.backends.batch import BatchSim
from sim.family import MujocoFamily

RESULTS = Path(__file__).parents[1] / "docs/results/headroom.json"
JUDGED_FROM = 100
"""First control period that counts, as in bench.adaptation."""
DRAWS = 2000
"""Of the bootstrap over tasks."""


@dataclass
class Args:
    """Drive every task by plans of a simulator that knows it, and of some that do not."""

    families: tuple[str, ...] = ("arm", "half_cheetah", "ant", "rover")
    """Families to ask; the others, and other splits, keep their rows in --out."""
    split: str = "validation"
    """Whose tasks are driven."""
    tasks: int = 16
    """The first so many of the split."""
    seeds: int = 2
    """Runs of each task and belief."""
    periods: int = 165
    """Control periods of a run; the first 100 do not count."""
    out: Path = RESULTS
    """File of all rows."""
    json: bool = False
    """Print the rows as JSON instead of a table."""


def main(args: Args) -> int:
    """Run it."""
    if args.tasks < 2 or args.periods < 1:
        console.print("--tasks must be 2 or more and --periods 1 or more", style="red")
        return 2
    for name in args.families:
        family = registry.get(name)
        if not isinstance(family, MujocoFamily):
            console.print(f"'{name}' has no simulator that can try plans", style="red")
            return 2
        found = headroom(family, args)
        # Read late: another process may have written its own meanwhile.
        rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
        key = (name, args.split)
        rows = [row for row in rows if (row["family"], row["split"]) != key] + found
        args.out.write_text(json.dumps({"about": about(), "rows": rows}, indent=1) + "\n")
    if args.json:
        print(args.out.read_text())
    else:
        console.print(_table(json.loads(args.out.read_text())["rows"]))
    return 0


def beliefs(tasks: list[Task]) -> dict[str, list[Task]]:
    """What plans are tried on, one variant per lane."""
    return {"the task": tasks, "nominal": [{}] * len(tasks), "another": tasks[1:] + tasks[:1]}


def headroom(family: MujocoFamily, args: Args) -> list[dict[str, Any]]:
    """Rows of a family: mean return per belief, and how much less than by the truth."""
    tasks = family.splits()[args.split][: args.tasks]
    returns: dict[str, np.ndarray] = {}
    for belief, believed in beliefs(tasks).items():
        runs = []
        doing = f"{family.name}, plans for {belief}"
        for seed in track(range(args.seeds), doing, console=console, transient=True):
            sim = BatchSim(family, tasks, unstable="terminate", believed=believed)
            sim.reset(seed=seed)
            rollout = guide(sim, family, args.periods, np.random.default_rng(seed))
            runs.append(rollout.reward[:, min(JUDGED_FROM, args.periods - 1) :].sum(axis=1))
        returns[belief] = np.mean(runs, axis=0)
    rng, truth = np.random.default_rng(0), returns["the task"]
    rows = []
    for belief, value in returns.items():
        lost = truth - value
        draws = rng.choice(lost, (DRAWS, lost.size)).mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        rows.append(
            {
                "family": family.name,
                "split": args.split,
                "plans_for": belief,
                "tasks": len(tasks),
                "seeds": args.seeds,
                "mean_return": round(float(value.mean()), 4),
                "median_return": round(float(np.median(value)), 4),
                "worth_of_knowing": round(float(lost.mean()), 4),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
            }
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> Table:
    worth = "knowing is worth [95 % over tasks]"
    table = Table("family", "split", "plans for", "mean return", "median", worth)
    for row in rows:
        worth = f"{row['worth_of_knowing']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        table.add_row(
            row["family"],
            row["split"],
            row["plans_for"],
            f"{row['mean_return']:.4g}",
            f"{row['median_return']:.4g}",
            "-" if row["plans_for"] == "the task" else worth,
        )
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
