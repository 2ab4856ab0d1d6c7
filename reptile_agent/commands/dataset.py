"""Turn recorded bags into a file that `reptile-agent train --dataset` learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.bags.recording import read
from reptile_agent.commands.console import UserError, console, table
from reptile_agent.meta.dataset import Dataset, recorded_task, write
from reptile_agent.onboard.bundle import Bundle


@dataclass
class Command:
    """Turn recorded bags into a file that `reptile-agent train FAMILY --dataset FILE` learns from.

    Each bag is a task of its own: record one for every way in which the robot differs (a payload, a
    worn servo), and a new one when it changes. The bundle that drove names the signals.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of bags, or .mcap or .db3 files."""
    bundle: Path
    """Folder of the bundle that drove the robot."""
    namespace: str | None = None
    """Of the robot's nodes; needed where a bag holds several robots."""
    out: Path = Path("dataset.safetensors")
    """The file to write."""

    def run(self) -> int:
        """Read, check, write."""
        if not self.bags:
            raise UserError("name one bag or more")
        names = [bag.name.removesuffix(".mcap").removesuffix(".db3") for bag in self.bags]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"bags are tasks by their names, and {twice} are there twice")
        manifest = Bundle.load(self.bundle).manifest
        robot = manifest.robot
        tasks = tuple(
            recorded_task(name, robot, read(bag, manifest, self.namespace).transitions)
            for name, bag in zip(names, self.bags, strict=True)
        )
        write(self.out, Dataset(robot, tasks))
        rows = []
        for task in tasks:
            seconds, stretches = len(task) * robot.control_period_s, int(task.first.sum())
            rows.append([task.name, str(len(task)), f"{seconds:.1f}", str(stretches)])
        console.print(table(str(self.out), ["task", "transitions", "seconds", "stretches"], rows))
        family = manifest.provenance.family
        console.print(f"train on it: reptile-agent train {family} --dataset {self.out}")
        return 0
