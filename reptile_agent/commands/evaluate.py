"""Judge a trained start on a split, with and without adaptation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from reptile_agent.commands import trained
from reptile_agent.commands.console import UserError, console, table
from reptile_agent.commands.train import CHECKPOINT
from reptile_agent.meta.evaluate import Result, evaluate
from reptile_agent.meta.on_policy_evaluate import OnPolicyResult, evaluate_on_policy
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer
from reptile_agent.meta.trainer import Trainer
from reptile_agent.provenance import versions
from reptile_agent.task import Task

PLANNED, ON_POLICY = (0, 1, 2, 5, 10, 20), (0, 1, 2, 5)
"""Default numbers of inner steps."""


@dataclass
class Command:
    """Judge a trained start on a split, with and without adaptation.

    Every task is tracked once per method with the same course. A policy of `train-on-policy`
    samples episodes before each inner step instead, and is judged by the return of those after
    the last. Tune on 'validation' only.
    """

    run_folder: Annotated[Path, tyro.conf.Positional] = Path("runs/arm")
    """Folder that `reptile-agent train` or `train-on-policy` wrote."""
    split: str = "validation"
    """Tasks to judge on."""
    inner_steps: tuple[int, ...] | None = None
    """Numbers of inner steps (k) to compare; 0 is no adaptation. Default: 0 1 2 5 10 20; on policy,
    0 1 2 5, and of an oracle 0."""
    steps: int = 250
    """Control periods per task; on policy, episodes are as long as in training."""
    judged_from: int = 100
    """First control period that counts; on policy, all do."""
    episodes: int | None = None
    """Episodes per task and inner step, on policy; default: as in training."""
    override: dict[str, float] = field(default_factory=dict)
    """Settings of the adaptation to change, to tune on 'validation': name and value, such as
    inner_lr 0.03 holdout 25."""
    gated: bool = False
    """Let the gate and probation decide what drives, as they do on the robot."""
    json: bool = False
    """Print JSON instead of a table; it is written beside the checkpoint either way."""

    def run(self) -> int:
        """Evaluate, print and write evaluation-SPLIT.json."""
        trainer = trained.load(self.run_folder / CHECKPOINT)
        family = trainer.family
        splits = family.splits()
        if self.split not in splits:
            raise LookupError(f"no split '{self.split}' (there are: {', '.join(splits)})")
        tasks = splits[self.split]
        if isinstance(trainer, OnPolicyTrainer):
            what, rows = "return of an episode", self._on_policy(trainer, tasks)
        else:
            what = f"tracking error [{family.robot.references[0].unit}]"
            rows = self._planned(trainer, tasks)
        document = {
            "family": family.name,
            "split": self.split,
            "override": self.override,
            "gated": self.gated,
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
        columns = [name for name, value in rows[0].items() if not isinstance(value, list)]
        shown = [[_words(row[name]) for name in columns] for row in rows]
        title = f"{family.name}, {self.split}: {what}, {len(tasks)} tasks"
        console.print(table(title, columns, shown))
        if "better" in columns:
            console.print(
                f"better, worse: tasks whose {what} is over 5 % better or worse than at k=0",
                markup=False,
            )
        return 0

    def _planned(self, trainer: Trainer, tasks: list[Task]) -> list[dict]:
        """Rows of a start with which a robot is driven on and on."""
        if self.episodes is not None:
            raise UserError("--episodes is of policies; this start is judged for --steps periods")
        if self.steps <= self.judged_from:
            raise UserError(
                f"--steps {self.steps} ends before --judged-from {self.judged_from} begins; "
                f"nothing would be judged"
            )
        with console.status("judging") as status:
            results = evaluate(
                trainer,
                tasks,
                self.steps,
                self.judged_from,
                list(PLANNED if self.inner_steps is None else self.inner_steps),
                self.override,
                self.gated,
                lambda doing: status.update(f"judging on {len(tasks)} tasks: {doing}"),
            )
        return [_row(result, results) for result in results]

    def _on_policy(self, trainer: OnPolicyTrainer, tasks: list[Task]) -> list[dict]:
        """Rows of a policy that adapts on episodes of its own."""
        if self.gated or self.override:
            raise UserError(
                "--gated and --override are of starts that adapt as the robot does; a policy "
                "adapts as it did in training, with no gate"
            )
        usual = ON_POLICY if not trainer.own else (0,)
        steps = list(usual if self.inner_steps is None else self.inner_steps)
        episodes = trainer.config.episodes if self.episodes is None else self.episodes
        if episodes < 1 or min(steps, default=-1) < 0:
            raise UserError(
                f"--episodes must be 1 or more, and --inner-steps 0 or more; got {episodes} and "
                f"{steps}"
            )
        with console.status(f"judging on {len(tasks)} tasks"):
            results = evaluate_on_policy(trainer, tasks, steps, episodes)
        return [_return_row(result, results) for result in results]


def _row(result: Result, results: list[Result]) -> dict:
    """Summary of one method; better and worse count tasks against k=0, where that ran."""
    error = result.tracking_error
    base = next((r.tracking_error for r in results if r.method.endswith("k=0")), None)
    beside = {}
    if base is not None:
        beside["better"] = int((error < 0.95 * base).sum())
        beside["worse"] = int((error > 1.05 * base).sum())
    return {
        "method": result.method,
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "worst": float(error.max()),
        **beside,
        "reward": float(result.reward.mean()),
        "falls": int(result.falls.sum()),
        "tracking_error": [float(e) for e in error],
    }


def _return_row(result: OnPolicyResult, results: list[OnPolicyResult]) -> dict:
    """The same of returns, of which more is better."""
    gained = result.episode_return
    base = next((r.episode_return for r in results if r.k == 0), None)
    beside = {}
    if base is not None:
        beside["better"] = int((gained > base + 0.05 * abs(base)).sum())
        beside["worse"] = int((gained < base - 0.05 * abs(base)).sum())
    return {
        "method": f"{result.method}, k={result.k}",
        "mean": float(gained.mean()),
        "median": float(np.median(gained)),
        "worst": float(gained.min()),
        **beside,
        "seconds_of_data": float(result.seconds_of_data.mean()),
        "falls": int(result.falls.sum()),
        "episode_return": [float(g) for g in gained],
    }


def _words(value: str | int | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
