"""Equal tuning for every method: the same step sizes, tried on the split `validation` alone.

    python -m bench.adaptation.tune --families arm --json

One meta-training seed that the benchmark does not use. What wins goes into `settings.py` by hand;
docs/results/adaptation_tuning.json keeps every trial.
"""

from __future__ import annotations

import dataclasses
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

from bench.adaptation.judging import Condition, Tasks, judge
from bench.adaptation.methods import experience, finish
from bench.adaptation.report import RESULTS
from bench.adaptation.settings import EPSILON, INNER_LR, METHODS, SETTINGS, Setting, Tuned
from reptile_agent.commands.console import console
from sim import registry

SEED = 1000
TASKS = 24
"""Validation tasks of a trial: more than the benchmark judges, because one seed is all there is."""


@dataclass
class Args:
    """Try every method with every step size on validation: inner ones first, then outer ones."""

    families: tuple[str, ...] = tuple(n for n, s in SETTINGS.items() if isinstance(s, Setting))
    """Families to tune."""
    methods: tuple[str, ...] = ("joint", "reptile", "fomaml", "maml")
    """Methods to try; the others keep their trials."""
    out: Path = RESULTS / "adaptation_tuning.json"
    """File of all trials; families that are not run keep theirs."""
    threads: int = 1
    """Of torch."""
    json: bool = False
    """Print the trials as JSON too."""


def main(args: Args) -> int:
    """Run every trial and write the file."""
    torch.set_num_threads(args.threads)
    unknown = [method for method in args.methods if method not in METHODS]
    if unknown:
        console.print(
            f"no method {', '.join(unknown)} (there are: {', '.join(METHODS)})", style="red"
        )
        return 2
    for name in args.families:
        trials = tune(name, args.methods)
        # Read late: another process may have written its own meanwhile.
        known = json.loads(args.out.read_text()) if args.out.exists() else {}
        kept = [trial for trial in known.get(name, []) if trial["method"] not in args.methods]
        text = json.dumps(known | {name: kept + trials}, indent=1)
        args.out.write_text(text + "\n")
        if args.json:
            print(text)
    return 0


def tune(name: str, methods: tuple[str, ...]) -> list[dict[str, Any]]:
    """Trials of a family: mean return on validation at k = 10, gate on."""
    family, setting = registry.get(name), SETTINGS[name]
    if not isinstance(setting, Setting):
        raise ValueError(f"'{name}' is of the policy-gradient suite, which has no inner step here")
    tasks = Tasks.of(family, ("validation",), TASKS)
    shared = experience(family, setting, SEED, lambda _: None)
    found: list[dict[str, Any]] = []

    def attempt(method: str, tuned: Tuned) -> float:
        start = finish(shared, setting, method, lambda _: None, tuned)
        rows = judge(family, setting, start.trainer, tasks, Condition(10), SEED)
        returns = [row["episode_return"] for row in rows]
        mean, median = float(np.mean(returns)), float(np.median(returns))
        trial = {"method": method, **dataclasses.asdict(tuned)}
        trial |= {"mean": mean, "median": median, "worst": float(min(returns))}
        found.append(trial)
        console.print(name, trial)
        return mean

    for method in (m for m in setting.methods if m in methods):
        usual = setting.train.epsilon
        best = max(INNER_LR, key=lambda inner_lr: attempt(method, Tuned(inner_lr, usual)))
        for epsilon in EPSILON:
            attempt(method, Tuned(best, epsilon))
    return found


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
