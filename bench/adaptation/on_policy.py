"""Policy gradients: one meta-training seed of every method, judged after k steps on fresh episodes.

Nothing is planned and no gate refuses a step: the policy of each task samples episodes, takes an
inner step, and samples anew, as in MAML and ProMP. What it gains in the episodes after the k-th
step is its return. `reptile_agent/meta/on_policy_evaluate.py` does it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

from bench.adaptation.comparison import ON_POLICY
from bench.adaptation.judging import Row, Tasks
from bench.adaptation.settings import OnPolicySetting, Tuned
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.on_policy_evaluate import OnPolicyResult, evaluate_on_policy
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer
from reptile_agent.task import TaskFamily

NAN = float("nan")
METHODS = ("joint", "reptile", "fomaml", "maml", "promp", "rl2", "scratch", "oracle")
TUNED = tuple(method for method in METHODS if method != "scratch")
"""What is trained, and so has step sizes."""


def run(
    family: TaskFamily,
    setting: OnPolicySetting,
    tasks: Tasks,
    seed: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, list[Row]]]:
    """Every method and its rows, one after the other."""
    for method in METHODS:
        began = time.monotonic()
        trainer = trained(family, config_of(setting, method, seed), tasks, tell)
        train_s = time.monotonic() - began
        tell(f"judging {method}")
        steps = [0] if trainer.own else list(setting.steps)
        found = evaluate_on_policy(trainer, tasks.tasks, steps, trainer.config.episodes)
        same = {
            "family": family.name,
            "seed": seed,
            "learner": ON_POLICY,
            "method": method,
            "train_env_steps": trainer.env_steps // (len(tasks.tasks) if trainer.own else 1),
            "train_s": train_s,
        }
        yield method, [same | row for result in found for row in _rows(result, tasks)]


def trained(
    family: TaskFamily, config: OnPolicyConfig, tasks: Tasks, tell: Callable[[str], None]
) -> OnPolicyTrainer:
    """A trainer at its end; an oracle's tasks are those that it is judged on."""
    trainer = OnPolicyTrainer(family, config)
    if trainer.own:
        trainer.tasks = tasks.tasks  # of all splits at once, instead of one whole split
    for doing in trainer.run():
        tell(f"{doing} {trainer.done_iterations}/{trainer.total_iterations}")
    return trainer


def config_of(
    setting: OnPolicySetting, method: str, seed: int, tuned: Tuned | None = None
) -> OnPolicyConfig:
    """How a method is trained: as all others, but for its step sizes (`tuned`, or the setting's).

    Who takes one outer step on an iteration's episodes takes one as long as the others' together.
    RL2 remembers for as many episodes as the others see before and after their inner steps.
    """
    trial = setting.train.episodes * (setting.train.inner_steps + 1)
    config = dataclasses.replace(setting.train, algorithm=method, seed=seed, trial_episodes=trial)
    sizes = tuned or setting.tuned_for(method)
    factor = 1 if config.clipped else config.outer_steps
    return dataclasses.replace(config, inner_lr=sizes.inner_lr, epsilon=factor * sizes.epsilon)


def _rows(result: OnPolicyResult, tasks: Tasks) -> list[Row]:
    """One row a task, after the result's number of steps."""
    return [
        {
            "split": tasks.splits[lane],
            "task": tasks.numbers[lane],
            "k": result.k,
            "seconds_of_data": float(result.seconds_of_data[lane]),
            "gate": "off",
            "experiment": "adapt",
            "episode_return": float(result.episode_return[lane]),
            "tracking_error": NAN,
            "falls": int(result.falls[lane]),
            "recovery_s": NAN,
        }
        for lane in range(len(tasks.tasks))
    ]
