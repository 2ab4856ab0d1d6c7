"""List the task families, what varies in each with ranges and units, and their splits."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.task import TaskFamily
from sim import registry
from sim.splits import INFEASIBLE


@dataclass
class Command:
    """List the task families, what varies in each with ranges and units, and their splits."""

    family: Annotated[str | None, tyro.conf.Positional] = None
    """Only this one; default: all."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Print."""
        families, broken = _families(self.family)
        if self.json:
            rows = [
                {
                    "family": family.name,
                    "robot": family.robot.model_dump(),
                    "variations": family.describe(),
                    "splits": {name: len(tasks) for name, tasks in family.splits().items()},
                }
                for family in families
            ]
            print(json.dumps(rows, indent=1))
        else:
            for family in families:
                _print(family)
        for line in broken:
            print(f"reptile-agent tasks: {line}", file=sys.stderr)
        return 2 if broken else 0


def _families(name: str | None) -> tuple[list[TaskFamily], list[str]]:
    """That family, or all; and what is wrong with those that one cannot have.

    One package that is broken does not keep the others from being listed.
    """
    if name:
        return [registry.get(name)], []
    families, broken = [], []
    for each in registry.names():
        try:
            family = registry.get(each)
            family.splits()
        except (LookupError, ValueError, OSError) as error:
            broken.append(str(error))
        else:
            families.append(family)
    return families, broken


def _range(row: dict[str, Any], which: str) -> str:
    low, high = row[which]
    choices = [choice for choice in row["choices"] if low <= choice <= high]
    return ", ".join(f"{c:g}" for c in choices) if choices else f"{low:g} .. {high:g}"


def _print(family: TaskFamily) -> None:
    robot = family.robot
    doc = (type(family).__doc__ or "").split("\n")[0]
    console.print(f"\n[bold]{family.name}[/bold]: {doc}")
    console.print(
        f"{len(robot.observations)} observations, {len(robot.actions)} actions, "
        f"{1 / robot.control_period_s:g} Hz, episodes of {family.episode_steps} periods"
    )
    rows = [
        [
            str(row["name"]),
            str(row["unit"]),
            f"{row['nominal']:g}",
            "held out" if row["held_out"] else _range(row, "train"),
            _range(row, "beyond"),
        ]
        for row in family.describe()
    ]
    columns = ["variation", "unit", "nominal", "train, in_range", "extrapolated, held_out"]
    console.print(table("", columns, rows))
    reasons: dict[str, list[str]] = {}
    for row in family.describe():
        reasons.setdefault(str(row["why"]), []).append(str(row["name"]))
    for why, names in reasons.items():
        console.print(f"  [bold]{', '.join(names)}[/bold]: {why}")
    sizes = ", ".join(f"{name} {len(tasks)}" for name, tasks in family.splits().items())
    held_out = [str(row["name"]) for row in family.describe() if row["held_out"]]
    kind = f" (held_out: {', '.join(held_out)})" if held_out else ""
    console.print(f"splits, tasks in each: {sizes}{kind}")
    if family.splits().get(INFEASIBLE):
        console.print(f"{INFEASIBLE}: drawn, and beyond what any controller could do; kept apart")
