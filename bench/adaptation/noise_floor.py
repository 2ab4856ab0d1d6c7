"""How many runs does chance alone make worse? Each start run twice with other noise of the planner.

    python -m bench.adaptation.noise_floor --json

A run counts as made worse where its return falls by more than 5 % of its size at k = 0. Two runs
without any adaptation, same start, task, course and initial state, differ as well, because the
planner tries other noisy plans: `worse_by_chance`. `worse_by_adapting` compares runs that differ in
noise as well, and `worse_by_adapting_same_noise` such as do not, as the benchmark does; there a run
in which the gate refuses everything is the same run. One meta-training seed that the benchmark does
not use.
docs/results/noise_floor.json keeps the shares.
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
import torch
import tyro

from bench.adaptation.estimates import worse
from bench.adaptation.judging import Condition, Tasks, judge
from bench.adaptation.methods import KEPT, Start, experience, finish
from bench.adaptation.quick import quickened
from bench.adaptation.report import RESULTS
from bench.adaptation.settings import SETTINGS, SPLITS, TUNING_SEED, VERDICT, Setting
from bench.machine import about
from reptile_agent.commands.console import console
from sim import registry


@dataclass
class Args:
    """Judge joint training's and Reptile's starts again and again."""

    family: str = "arm"
    """Family of the benchmark that has a planner."""
    runs: int = 5
    """Pairs of runs of each task."""
    out: Path | None = None
    """File of the shares; other families keep theirs. Default: docs/results/noise_floor.json, and
    runs/noise_floor.json of a quick run."""
    threads: int = 1
    """Of torch."""
    quick: bool = False
    """Hardly any training and two tasks: to see that everything runs, not what comes out."""
    json: bool = False
    """Print the file."""


def main(args: Args) -> int:
    """Train, run, and write the file."""
    setting = SETTINGS.get(args.family)
    if not isinstance(setting, Setting):
        planned = ", ".join(name for name, s in SETTINGS.items() if isinstance(s, Setting))
        console.print(f"'{args.family}' has no planner here (these have: {planned})", style="red")
        return 2
    torch.set_num_threads(args.threads)
    if args.quick:
        setting = quickened(setting)
        assert isinstance(setting, Setting)
    rows = measure(args.family, setting, args.runs, None if args.quick else KEPT)
    out = args.out or (Path("runs") if args.quick else RESULTS) / "noise_floor.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(out.read_text())["rows"] if out.exists() else []
    rows = [row for row in known if row["family"] != args.family] + rows
    text = json.dumps({"about": about(), "rows": rows}, indent=1)
    out.write_text(text + "\n")
    if args.json:
        print(text)
    return 0


def measure(
    name: str, setting: Setting, runs: int, folder: Path | None = None
) -> list[dict[str, Any]]:
    """Shares made worse, of each method and split."""
    family = registry.get(name)
    tasks = Tasks.of(family, SPLITS, setting.tasks)
    splits = np.array(tasks.splits)
    with console.status(f"{name}: gathering experience") as status:
        shared = experience(family, setting, TUNING_SEED, status.update, folder)
        rows = []
        for method in VERDICT:
            tuned = setting.tuned_for(method)
            start = finish(shared, setting, method, status.update, tuned)
            status.update(f"{method}: runs")
            first, again, adapted, paired = (
                np.array([_returns(setting, start, tasks, k, run, noise) for run in range(runs)])
                for k, noise in ((0, 0), (0, 1), (10, 1), (10, 0))
            )
            for split in SPLITS:
                of = splits == split
                by_chance = worse(first[:, of], again[:, of])
                by_adapting = worse(first[:, of], adapted[:, of])
                same_noise = worse(first[:, of], paired[:, of])
                rows.append(
                    {
                        "family": name,
                        "split": split,
                        "method": method,
                        "runs": runs * int(of.sum()),
                        "worse_by_chance": round(by_chance.share, 4),
                        "worse_by_adapting": round(by_adapting.share, 4),
                        "worse_by_adapting_same_noise": round(same_noise.share, 4),
                    }
                )
    return rows


def _returns(
    setting: Setting, start: Start, tasks: Tasks, k: int, run: int, noise: int
) -> list[float]:
    """Of every task; runs differ in courses and initial states, noises only in the planner's."""
    how = Condition(k, noise=noise)
    found = judge(start.trainer.family, setting, start.trainer, tasks, how, run)
    return [row["episode_return"] for row in found]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
