"""Judge a trained start on a split, with and without adaptation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.commands.train import CHECKPOINT
from reptile_agent.meta import checkpoint
from reptile_agent.meta.evaluate import Result, evaluate
from reptile_agent.meta.trainer import Trainer
from reptile_agent.provenance import versions
from sim import registry


@dataclass
class Command:
    """Judge a trained start on a split, with and without adaptation.

    Every task is tracked once per method with the same course. Tune on 'validation' only.
    """

    run_folder: Annotated[Path, tyro.conf.Positional] = Path("runs/arm")
    """Folder that `reptile-agent train` wrote."""
    split: str = "validation"
    """Tasks to judge on."""
    inner_steps: tuple[int, ...] = (0, 1, 5, 10, 20)
    """Numbers of inner steps (k) to compare; 0 is no adaptation."""
    steps: int = 250
    """Control periods per task."""
    judged_from: int = 100
    """First control period that counts."""
    override: dict[str, float] = field(default_factory=dict)
    """Settings of the adaptation to change, to tune on 'validation': name and value, such as
    inner_lr 0.03 holdout 25."""
    json: bool = False
    """Print JSON instead of a table; it is written beside the checkpoint either way."""

    def run(self) -> int:
        """Evaluate, print and write evaluation-SPLIT.json."""
        _, progress = checkpoint.read(self.run_folder / CHECKPOINT)
        family = registry.get(progress["family"])
        trainer = Trainer.resume(family, self.run_folder / CHECKPOINT)
        splits = family.splits()
        if self.split not in splits:
            raise LookupError(f"no split '{self.split}' (there are: {', '.join(splits)})")
        results = evaluate(
            trainer,
            splits[self.split],
            self.steps,
            self.judged_from,
            list(self.inner_steps),
            self.override,
        )
        rows = [_row(result, results) for result in results]
        document = {
            "family": family.name,
            "split": self.split,
            "override": self.override,
            "seed": trainer.config.seed,
            "finished_training": trainer.done_iterations == trainer.total_iterations,
            "versions": versions(),
            "rows": rows,
        }
        text = json.dumps(document, indent=1)
        (self.run_folder / f"evaluation-{self.split}.json").write_text(text + "\n")
        if self.json:
            print(text)
            return 0
        unit = family.robot.references[0].unit
        shown = [
            [
                row["method"],
                *(f"{row[key]:.4f}" for key in ("mean", "median", "worst")),
                str(row["better"]),
                str(row["worse"]),
                f"{row['reward']:.3f}",
                str(row["falls"]),
            ]
            for row in rows
        ]
        title = (
            f"{family.name}, {self.split}: tracking error [{unit}], {len(splits[self.split])} tasks"
        )
        columns = ["method", "mean", "median", "worst", "better", "worse", "reward", "falls"]
        console.print(table(title, columns, shown))
        console.print("better, worse: tasks whose error is over 5 % below or above that of k=0")
        return 0


def _row(result: Result, results: list[Result]) -> dict:
    """Summary of one method; better and worse count tasks against k=0."""
    error = result.tracking_error
    base = next((r.tracking_error for r in results if r.method.endswith("k=0")), error)
    return {
        "method": result.method,
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "worst": float(error.max()),
        "better": int((error < 0.95 * base).sum()),
        "worse": int((error > 1.05 * base).sum()),
        "reward": float(result.reward.mean()),
        "falls": int(result.falls.sum()),
        "tracking_error": [float(e) for e in error],
    }
