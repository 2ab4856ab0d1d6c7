"""Equal tuning for every method: the same step sizes, tried on the split `validation` alone.

    python -m bench.adaptation.tune --families arm --json

One meta-training seed that the benchmark does not use. What wins goes into `settings.py` by hand;
docs/results/adaptation_tuning.json keeps every trial.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import tyro

from bench.adaptation import on_policy
from bench.adaptation.judging import Condition, Tasks, judge
from bench.adaptation.methods import KEPT, Start, experience, finish
from bench.adaptation.quick import quickened
from bench.adaptation.report import RESULTS
from bench.adaptation.settings import (
    EPSILON,
    INNER_LR,
    INNER_LR_BEYOND,
    NO_INNER_LR,
    ON_POLICY_EPSILON,
    ON_POLICY_INNER_LR,
    SETTINGS,
    TUNING_SEED,
    OnPolicySetting,
    Setting,
    Tuned,
)
from reptile_agent.commands.console import console
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.on_policy_evaluate import evaluate_on_policy
from reptile_agent.task import TaskFamily
from sim import registry

Trial = dict[str, Any]
TASKS = 24
"""Validation tasks of a trial: more than the benchmark judges, because one seed is all there is."""


@dataclass
class Args:
    """Try every method with as many step sizes on validation, inner and outer ones."""

    families: tuple[str, ...] = tuple(SETTINGS)
    """Families to tune."""
    methods: tuple[str, ...] | None = None
    """Methods to try; the others keep their trials. Default: all that are trained."""
    out: Path | None = None
    """File of all trials; what is not tried keeps its own. Default:
    docs/results/adaptation_tuning.json, and runs/adaptation_tuning.json of a quick run."""
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
    usual = Path("runs") if args.quick else RESULTS
    out = args.out or usual / "adaptation_tuning.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.families:
        setting = quickened(SETTINGS[name]) if args.quick else SETTINGS[name]
        folder = None if args.quick else KEPT
        for method, trials in tune(registry.get(name), setting, args.methods, folder):
            # Read late: another process may have written its own meanwhile.
            known = json.loads(out.read_text()) if out.exists() else {}
            kept = [trial for trial in known.get(name, []) if trial["method"] != method]
            out.write_text(json.dumps(known | {name: kept + trials}, indent=1) + "\n")
    if args.json:
        print(out.read_text())
    return 0


def tune(
    family: TaskFamily,
    setting: Setting | OnPolicySetting,
    methods: tuple[str, ...] | None,
    folder: Path | None = None,
) -> Iterator[tuple[str, list[Trial]]]:
    """Methods and their trials: return on validation as the verdict will be read, at its k."""
    if isinstance(setting, OnPolicySetting):
        for method in methods or on_policy.TUNED:
            yield method, _tune_on_policy(family, setting, method)
        return
    shared = experience(family, setting, TUNING_SEED, lambda _: None, folder)
    for method in (m for m in setting.methods if m in (methods or setting.methods)):
        yield method, _tune_planner(family, setting, shared, method)


def _tune_planner(family: TaskFamily, setting: Setting, shared: Start, method: str) -> list[Trial]:
    """Trials of one method that starts from the shared experience, at k = 10, gate on."""
    tasks = Tasks.of(family, ("validation",), TASKS)

    def returns(tuned: Tuned) -> list[float]:
        start = finish(shared, setting, method, lambda _: None, tuned)
        rows = judge(family, setting, start.trainer, tasks, Condition(10), TUNING_SEED)
        return [row["episode_return"] for row in rows]

    trials = Trials(family.name, method, returns)
    usual = setting.train.epsilon
    best = trials.best(Tuned(inner_lr, usual) for inner_lr in INNER_LR)
    if best.inner_lr in INNER_LR_BEYOND:
        best = trials.best([best, Tuned(INNER_LR_BEYOND[best.inner_lr], usual)])
    trials.best(Tuned(best.inner_lr, epsilon) for epsilon in EPSILON)
    return trials.found


def _tune_on_policy(family: TaskFamily, setting: OnPolicySetting, method: str) -> list[Trial]:
    """Trials of a method of policy gradients, at k = 1; an oracle's at k = 0, on its own tasks."""
    tasks = Tasks.of(family, ("validation",), TASKS)

    def returns(tuned: Tuned) -> list[float]:
        config = on_policy.config_of(setting, method, TUNING_SEED, tuned)
        trainer = on_policy.trained(family, config, tasks, lambda _: None)
        k = [0 if trainer.own else 1]
        (found,) = evaluate_on_policy(trainer, tasks.tasks, k, config.episodes)
        return found.episode_return.tolist()

    trials = Trials(family.name, method, returns)
    usual, (lowest, *between, highest) = setting.train.inner_lr, ON_POLICY_EPSILON
    best = trials.best(Tuned(usual, epsilon) for epsilon in between)
    if method in NO_INNER_LR:
        trials.best(Tuned(usual, epsilon) for epsilon in (lowest, highest))
        return trials.found
    # At an edge the best may lie beyond it.
    beyond = {between[0]: [lowest], between[-1]: [highest]}.get(best.epsilon, [])
    best = trials.best([best, *(Tuned(usual, epsilon) for epsilon in beyond)])
    trials.best(Tuned(inner_lr, best.epsilon) for inner_lr in ON_POLICY_INNER_LR)
    return trials.found


class Trials:
    """What was tried of one method, and what it came to.

    Args:
        family: its name.
        method: its name.
        returns: trains with step sizes, and gives the return of every task.
    """

    def __init__(self, family: str, method: str, returns: Callable[[Tuned], list[float]]) -> None:
        self.found: list[Trial] = []
        self._family, self._method, self._returns = family, method, returns
        self._mean: dict[Tuned, float] = {}

    def best(self, some: Iterable[Tuned]) -> Tuned:
        """The step sizes with the highest mean return; what was tried before is not tried again."""
        return max(some, key=self._try)

    def _try(self, tuned: Tuned) -> float:
        if tuned in self._mean:
            return self._mean[tuned]
        try:
            returns = self._returns(tuned)
            figures = {
                "mean": float(np.mean(returns)),
                "median": float(np.median(returns)),
                "worst": float(min(returns)),
            }
        except LossNotFinite as error:
            console.print(f"{self._family}, {self._method}: {error}", style="red")
            figures = {"mean": None, "median": None, "worst": None}
        trial = {"method": self._method, **dataclasses.asdict(tuned), **figures}
        console.print(self._family, trial)
        self.found.append(trial)
        mean = figures["mean"]
        self._mean[tuned] = -math.inf if mean is None or math.isnan(mean) else mean
        return self._mean[tuned]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
