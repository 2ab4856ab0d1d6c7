"""Runs of one start on all test tasks at once, as rows of the results file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.adaptation.settings import VERDICT, Setting
from reptile_agent.meta.agent import Agent
from reptile_agent.meta.collect import Rollout, drive
from reptile_agent.meta.evaluate import adapting
from reptile_agent.meta.guide import guide
from reptile_agent.meta.learner import Params
from reptile_agent.meta.trainer import Trainer
from reptile_agent.task import Task, TaskFamily, VecSim

Row = dict[str, Any]
UNADAPTED: Row = {"k": 0, "seconds_of_data": 0.0, "gate": "on"}


@dataclass(frozen=True)
class Tasks:
    """Test tasks of several splits, judged side by side."""

    splits: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    @classmethod
    def of(cls, family: TaskFamily, splits: tuple[str, ...], count: int, first: int = 0) -> Tasks:
        """Tasks of each split: `count` of them from number `first` on."""
        found = cls()
        for split in splits:
            for number, task in enumerate(family.splits()[split][first : first + count]):
                found.splits.append(split)
                found.numbers.append(first + number)
                found.tasks.append(task)
        return found


@dataclass(frozen=True)
class Condition:
    """How a start is run."""

    k: int = 0
    gated: bool = True
    window: int | None = None
    """Transitions that an adaptation may look at; None: the setting's."""
    fault: bool = False
    """Whether the robot is nominal until it breaks in mid-episode."""
    noise: int = 0
    """Which noise the planner draws."""


def conditions(setting: Setting, method: str, seed: int, steps: tuple[int, ...]) -> list[Condition]:
    """What a method is run under in one seed: more than k = 0 and 10 only for the two that the
    verdict is about.
    """
    found = [Condition(0), Condition(10)]
    if method not in VERDICT:
        return found
    curves = seed < setting.curve_seeds
    if curves or seed < setting.ungated_seeds:
        found.append(Condition(10, gated=False))
    if curves:
        found += [Condition(k) for k in steps if k not in (0, 10)]
        found += [Condition(10, window=w) for w in setting.windows]
        found += [Condition(0, fault=True), Condition(10, fault=True)]
    return found


@dataclass(frozen=True)
class _Run:
    """The same tasks, starts and courses for whoever is judged, and the same noise for learners."""

    sim: VecSim
    """One lane per task, already reset."""
    periods: int
    rng: np.random.Generator
    faults: dict[int, list[Task]] | None

    @classmethod
    def of(
        cls,
        family: TaskFamily,
        setting: Setting,
        tasks: Tasks,
        fault: bool,
        seed: int,
        noise: int = 0,
    ) -> _Run:
        sim = family.make_sim([{}] * len(tasks.tasks) if fault else tasks.tasks)
        sim.reset(seed=90_000 + seed)
        periods = setting.periods + (setting.fault_at if fault else 0)
        faults = {setting.fault_at: tasks.tasks} if fault else None
        return cls(sim, periods, np.random.default_rng([seed, 99 + noise]), faults)


def judge(
    family: TaskFamily, setting: Setting, trainer: Trainer, tasks: Tasks, how: Condition, seed: int
) -> list[Row]:
    """One row a task for one way of running a start."""
    adaptation, data_s = None, 0.0
    if how.k:
        window = how.window or trainer.config.adaptation.window
        adaptation = adapting(trainer, how.k, {"window": window}, how.gated)
        seen = adaptation.config.lookback(trainer.agent.learner.segment)
        data_s = seen * family.robot.control_period_s
    run = _Run.of(family, setting, tasks, how.fault, seed, how.noise)
    rollout = drive(
        run.sim,
        trainer.agent,
        trainer.params,
        run.periods,
        run.rng,
        adaptation=adaptation,
        faults=run.faults,
    )
    return [
        row | {"k": how.k, "seconds_of_data": data_s, "gate": "on" if how.gated else "off"}
        for row in _rows(family, setting, rollout, tasks, how.fault)
    ]


def judge_oracle(
    family: TaskFamily,
    setting: Setting,
    agent: Agent,
    own: Params,
    tasks: Tasks,
    fault: bool,
    seed: int,
) -> list[Row]:
    """One row a task for parameters of its own, which it does not adapt."""
    run = _Run.of(family, setting, tasks, fault, seed)
    rollout = drive(run.sim, agent, own, run.periods, run.rng, stacked=True, faults=run.faults)
    return [row | UNADAPTED for row in _rows(family, setting, rollout, tasks, fault)]


def judge_simulator(
    family: TaskFamily, setting: Setting, tasks: Tasks, fault: bool, seed: int
) -> list[Row]:
    """One row a task for the planner with the task's own simulator as its model."""
    run = _Run.of(family, setting, tasks, fault, seed)
    rollout = guide(run.sim, family, run.periods, run.rng, faults=run.faults)
    return [row | UNADAPTED for row in _rows(family, setting, rollout, tasks, fault)]


def _rows(
    family: TaskFamily, setting: Setting, rollout: Rollout, tasks: Tasks, fault: bool
) -> list[Row]:
    begin = setting.fault_at if fault else setting.judged_from
    recovered = [float("nan")] * len(tasks.tasks)
    if fault:
        period_s = family.robot.control_period_s
        recovered = [recovery_s(r, setting.fault_at, period_s) for r in rollout.reward]
    return [
        {
            "family": family.name,
            "split": tasks.splits[lane],
            "task": tasks.numbers[lane],
            "experiment": "fault" if fault else "adapt",
            "episode_return": float(rollout.reward[lane, begin:].sum()),
            "tracking_error": float(rollout.tracking_error[lane, begin:].mean()),
            "falls": int(rollout.terminated[lane, begin:].sum()),
            "recovery_s": recovered[lane],
        }
        for lane in range(len(tasks.tasks))
    ]


def recovery_s(reward: np.ndarray, fault_at: int, period_s: float, smooth_s: float = 1.0) -> float:
    """Seconds from a fault until 90 % of what it took from the reward is back.

    Rewards are means over the last `smooth_s`. What the fault takes is the mean before it less the
    least mean in the three seconds after it; taking less than 5 % of the mean is taking nothing.

    Returns:
        0 where the fault takes nothing, infinity where the episode ends first.
    """
    width = max(1, round(smooth_s / period_s))
    smooth = np.convolve(reward, np.ones(width) / width, mode="valid")  # [i] ends at i + width - 1
    before = float(reward[max(0, fault_at - 2 * width) : fault_at].mean())
    after = smooth[fault_at:]  # windows that lie wholly behind the fault
    early = after[: max(1, round(3.0 / period_s))]
    worst = int(np.argmin(early))
    loss = before - float(early[worst])
    if loss <= 0.05 * abs(before):
        return 0.0
    back = np.flatnonzero(after[worst:] >= before - 0.1 * loss)
    if back.size == 0:
        return float("inf")
    return float((worst + back[0] + width) * period_s)
