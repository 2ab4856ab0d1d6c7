"""Judges a start: every lane tracks its own task, with and without adaptation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reptile_agent.meta.collect import drive, excite
from reptile_agent.meta.online import OnlineAdaptation
from reptile_agent.meta.rounds import judging_seed
from reptile_agent.meta.trainer import Trainer
from reptile_agent.task import Task


@dataclass(frozen=True)
class Result:
    """One method on one list of tasks; arrays [tasks], means over the judged control periods."""

    method: str
    tracking_error: np.ndarray
    """In the references' units."""
    reward: np.ndarray
    falls: np.ndarray
    """Episodes that ended for good; each gave the method a fresh start."""


def evaluate(
    trainer: Trainer,
    tasks: list[Task],
    steps: int,
    judged_from: int,
    inner_steps: list[int],
    override: Mapping[str, float] | None = None,
    gated: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Command passed through, no adaptation, and adaptation with each number of inner steps.

    All methods see the same tasks, courses and seeds.

    Args:
        trainer: at the end of its run.
        tasks: one lane each.
        steps: control periods per task.
        judged_from: first period that counts: adaptation needs data first.
        inner_steps: values of k; 0 is no adaptation.
        override: settings of the run's AdaptationConfig to change.
        gated: whether the gate and probation decide what drives, or all that is learned does.
        tell: called with what is done next.
    """
    sim = trainer.family.make_sim(tasks)
    seed = [trainer.config.seed, 99]
    results = []
    robot = trainer.family.robot
    if (robot.action_reference_columns() >= 0).any():
        sim.reset(seed=judging_seed(trainer.config.seed))
        noise = trainer.family.plan_noise
        rollout = excite(sim, robot, noise, steps, 0.0, np.random.default_rng(seed))
        results.append(("command passed through", rollout))
    for number, k in enumerate(inner_steps, 1):
        tell(f"k = {k} ({number} of {len(inner_steps)})")
        sim.reset(seed=judging_seed(trainer.config.seed))
        rollout = drive(
            sim,
            trainer.agent,
            trainer.params,
            steps,
            np.random.default_rng(seed),
            adaptation=adapting(trainer, k, override or {}, gated) if k else None,
        )
        results.append((f"{trainer.config.algorithm}, k={k}", rollout))
    return [
        Result(
            name,
            rollout.tracking_error[:, judged_from:].mean(axis=1),
            rollout.reward[:, judged_from:].mean(axis=1),
            rollout.first[:, max(judged_from, 1) :].sum(axis=1),
        )
        for name, rollout in results
    ]


def adapting(
    trainer: Trainer, inner_steps: int, override: Mapping[str, float], gated: bool
) -> OnlineAdaptation:
    """How a trained start adapts in evaluation: its own settings, but for those overridden."""
    usual = trainer.config.adaptation
    return trainer.online(usual.changed({**override, "inner_steps": inner_steps}), gated)
