"""List the task families, what varies in each with ranges and units, and their splits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.task import TaskFamily
from sim import registry


@dataclass
class Command:
    """List the task families, what varies in each with ranges and units, and their splits."""

    family: Annotated[str | None, tyro.conf.Positional] = None
    """Only this one; default: all."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Print."""
        families = [registry.get(name) for name in ([self.family] if self.family else _names())]
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
            return 0
        for family in families:
            _print(family)
        return 0


def _names() -> list[str]:
    return registry.names()


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
            "{:g} .. {:g}".format(*row["train"]),
            "{:g} .. {:g}".format(*row["beyond"]),
        ]
        for row in family.describe()
        if not row["held_out"]
    ]
    columns = ["variation", "unit", "nominal", "train, in_range", "extrapolated"]
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
