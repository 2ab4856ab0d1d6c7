"""Judges a start on policy: the return after k inner steps, each on fresh episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from reptile_agent.meta.learner import stack
from reptile_agent.meta.on_policy import adapt_on_policy, sample
from reptile_agent.task import Task

if TYPE_CHECKING:
    from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer


@dataclass(frozen=True)
class OnPolicyResult:
    """One method after k inner steps; arrays [tasks]."""

    method: str
    k: int
    episode_return: np.ndarray
    """Undiscounted, mean over the episodes after the k-th step."""
    seconds_of_data: np.ndarray
    """What the task had seen until then, on the robot's clock."""
    falls: np.ndarray
    """How many of the episodes after the k-th step ended early, int."""


def evaluate_on_policy(
    trainer: OnPolicyTrainer,
    tasks: list[Task],
    inner_steps: list[int],
    episodes: int,
    *,
    seed: int = 0,
) -> list[OnPolicyResult]:
    """Return of every task after each number of inner steps, as in MAML and ProMP.

    Before each inner step the policy of the task samples `episodes` anew; what it gains in them is
    its return after the steps so far. RL2 has as many episodes in turn with one memory. So all
    methods see the same number of episodes. Policies act as they do in training, at random.

    Args:
        trainer: at the end of its run.
        tasks: to be judged on; an oracle's own split.
        inner_steps: values of k.
        episodes: per task and inner step.
        seed: of starts and actions; of nothing that training drew.

    Raises:
        ValueError: an oracle was trained on other tasks.
    """
    config, learner, params = trainer.config, trainer.learner, trainer.params
    if trainer.own and tasks != trainer.tasks:
        raise ValueError(
            f"the oracle was trained on the split '{config.split}' and can be judged on no other "
            f"tasks; train it with the split that is to be judged"
        )
    rounds, steps = max(inner_steps) + 1, config.sampling.episode_steps
    rng = np.random.default_rng([config.seed, seed, 99])
    if config.algorithm == "rl2":
        sim = trainer.family.make_sim(tasks)
        trial = sample(sim, learner, params, len(tasks), steps, rng, rounds * episodes)
        returns = trial.returns.reshape(len(tasks), rounds, episodes)
        lasted = trial.steps.reshape(len(tasks), rounds, episodes)
        by_round = [(returns[:, k], lasted[:, k]) for k in range(rounds)]
    else:
        sim = trainer.family.make_sim([task for task in tasks for _ in range(episodes)])
        found, _ = adapt_on_policy(
            sim,
            learner,
            config.inner,
            params if trainer.own else stack(params, len(tasks)),
            trainer.lr,
            rounds - 1,
            config.sampling,
            rng,
        )
        by_round = [(one.returns[:, :, 0], one.steps[:, :, 0]) for one in found]
    lengths = [torch.zeros(len(tasks)), *(lasted.sum(1) for _, lasted in by_round)]
    seconds = torch.stack(lengths).cumsum(0).numpy() * trainer.family.robot.control_period_s
    return [
        OnPolicyResult(
            method=config.algorithm,
            k=k,
            episode_return=by_round[k][0].mean(1).numpy(),
            seconds_of_data=seconds[k],
            falls=(by_round[k][1] < steps).sum(1).numpy(),
        )
        for k in inner_steps
    ]
