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

from bench.adaptation import on_policy
from bench.adaptation.judging import Condition, Tasks, judge
from bench.adaptation.methods import experience, finish
from bench.adaptation.quick import quickened
from bench.adaptation.report import RESULTS
from bench.adaptation.settings import (
    EPSILON,
    INNER_LR,
    NO_INNER_LR,
    ON_POLICY_EPSILON,
    ON_POLICY_INNER_LR,
    SETTINGS,
    OnPolicySetting,
    Setting,
    Tuned,
)
from reptile_agent.commands.console import console
from reptile_agent.meta.on_policy_evaluate import evaluate_on_policy
from reptile_agent.task import TaskFamily
from sim import registry

SEED = 1000
TASKS = 24
"""Validation tasks of a trial: more than the benchmark judges, because one seed is all there is."""


@dataclass
class Args:
    """Try every method with as many step sizes on validation, inner and outer ones."""

    families: tuple[str, ...] = tuple(SETTINGS)
    """Families to tune."""
    methods: tuple[str, ...] | None = None
    """Methods to try; the others keep their trials. Default: all that are trained."""
    out: Path = RESULTS / "adaptation_tuning.json"
    """File of all trials; families that are not run keep theirs."""
    threads: int = 1
    """Of torch."""
    quick: bool = False
    """Hardly any training and two tasks: to see that everything runs, not what comes out."""
    json: bool = False
    """Print the trials as JSON too."""


def main(args: Args) -> int:
    """Run every trial and write the file."""
    torch.set_num_threads(args.threads)
    for name in args.families:
        if name not in SETTINGS:
            known = ", ".join(SETTINGS)
            console.print(f"no settings for {name} (there are: {known})", style="red")
            return 2
        setting = SETTINGS[name]
        can = setting.methods if isinstance(setting, Setting) else on_policy.TUNED
        unknown = [method for method in args.methods or () if method not in can]
        if unknown:
            console.print(
                f"{name} has no method {', '.join(unknown)} (it has: {', '.join(can)})", style="red"
            )
            return 2
    for name in args.families:
        setting = quickened(SETTINGS[name]) if args.quick else SETTINGS[name]
        trials = tune(registry.get(name), setting, args.methods)
        # Read late: another process may have written its own meanwhile.
        known = json.loads(args.out.read_text()) if args.out.exists() else {}
        tried = {trial["method"] for trial in trials}
        kept = [trial for trial in known.get(name, []) if trial["method"] not in tried]
        text = json.dumps(known | {name: kept + trials}, indent=1)
        args.out.write_text(text + "\n")
        if args.json:
            print(text)
    return 0


def tune(
    family: TaskFamily, setting: Setting | OnPolicySetting, methods: tuple[str, ...] | None
) -> list[dict[str, Any]]:
    """Trials of a family: return on validation as the verdict will be read, at its k."""
    if isinstance(setting, OnPolicySetting):
        return _tune_on_policy(family, setting, methods or on_policy.TUNED)
    tasks = Tasks.of(family, ("validation",), TASKS)
    shared = experience(family, setting, SEED, lambda _: None)
    trials = Trials(family.name)
    for method in (m for m in setting.methods if m in (methods or setting.methods)):

        def attempt(tuned: Tuned, method: str = method) -> float:
            start = finish(shared, setting, method, lambda _: None, tuned)
            rows = judge(family, setting, start.trainer, tasks, Condition(10), SEED)
            return trials.add(method, tuned, [row["episode_return"] for row in rows])

        usual = setting.train.epsilon
        best = max(INNER_LR, key=lambda inner_lr: attempt(Tuned(inner_lr, usual)))
        for epsilon in EPSILON:
            attempt(Tuned(best, epsilon))
    return trials.found


def _tune_on_policy(
    family: TaskFamily, setting: OnPolicySetting, methods: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Trials of policy gradients, at k = 1; an oracle's at k = 0, on tasks that it knows."""
    tasks = Tasks.of(family, ("validation",), TASKS)
    trials = Trials(family.name)
    for method in methods:

        def attempt(tuned: Tuned, method: str = method) -> float:
            config = on_policy.config_of(setting, method, SEED, tuned)
            trainer = on_policy.trained(family, config, tasks, lambda _: None)
            k = [0 if trainer.own else 1]
            (found,) = evaluate_on_policy(trainer, tasks.tasks, k, config.episodes)
            return trials.add(method, tuned, found.episode_return.tolist())

        usual = setting.train.inner_lr
        best = max(ON_POLICY_EPSILON, key=lambda epsilon: attempt(Tuned(usual, epsilon)))
        if method in NO_INNER_LR:
            for epsilon in NO_INNER_LR[method]:
                attempt(Tuned(usual, epsilon))
        else:
            for inner_lr in ON_POLICY_INNER_LR:
                attempt(Tuned(inner_lr, best))
    return trials.found


class Trials:
    """What was tried and what it came to."""

    def __init__(self, family: str) -> None:
        self.found: list[dict[str, Any]] = []
        self._family = family

    def add(self, method: str, tuned: Tuned, returns: list[float]) -> float:
        """Remember a trial, tell of it, and give its mean return."""
        mean, median = float(np.mean(returns)), float(np.median(returns))
        trial = {"method": method, **dataclasses.asdict(tuned)}
        trial |= {"mean": mean, "median": median, "worst": float(min(returns))}
        self.found.append(trial)
        console.print(self._family, trial)
        return mean


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
