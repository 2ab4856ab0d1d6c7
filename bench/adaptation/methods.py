"""One meta-training seed of one family: every method from the same experience, and the oracle."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from bench.adaptation.settings import METHODS, Setting, Tuned, digest
from reptile_agent.meta.agent import Agent
from reptile_agent.meta.checkpoint import CheckpointError
from reptile_agent.meta.collect import drive, excite
from reptile_agent.meta.compiled import CompiledAdaptation
from reptile_agent.meta.guide import guide
from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learner import Params, stack
from reptile_agent.meta.online import to_tensors
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from reptile_agent.replay import Replay
from reptile_agent.task import Task, TaskFamily

KEPT = Path("runs/adaptation/experience")
"""Where experience is kept, so that another method, trial or judgement does not gather it anew.
Delete it where a simulator or the trainer has changed: only settings are told apart."""


@dataclass(frozen=True)
class Start:
    """What a method came to."""

    method: str
    trainer: Trainer
    train_env_steps: int
    train_s: float


def experience(
    family: TaskFamily,
    setting: Setting,
    seed: int,
    tell: Callable[[str], None],
    folder: Path | None = None,
) -> Start:
    """What all methods share: every round of experience and the joint fit, no meta phase yet.

    Args:
        family: whose training tasks.
        setting: how.
        seed: of meta-training.
        tell: called with what is done next.
        folder: where it is kept, for who asks for the same again; None: nowhere.
    """
    config = dataclasses.replace(setting.train, seed=seed, algorithm="joint")
    if folder is None:
        return _gathered(family, config, tell)
    gathered_with = TypeAdapter(TrainConfig).dump_python(config, mode="json")
    del gathered_with["adaptation"]  # nothing adapts before the meta-phase
    told = [
        gathered_with,
        *(asdict(family.planning), family.plan_horizon, family.plan_noise),
        family.splits()["train"][: config.tasks],
    ]
    kept = folder / f"{family.name}-{seed}-{digest(told)}.safetensors"
    took = kept.with_suffix(".json")
    if kept.exists() and took.exists():
        with suppress(CheckpointError):  # a damaged file is worth no more than none
            base = fork(Trainer.resume(family, kept), config)
            return Start("shared", base, base.env_steps, json.loads(took.read_text())["train_s"])
    found = _gathered(family, config, tell)
    folder.mkdir(parents=True, exist_ok=True)
    took.write_text(json.dumps({"train_s": found.train_s}))
    found.trainer.save(kept)
    return found


def _gathered(family: TaskFamily, config: TrainConfig, tell: Callable[[str], None]) -> Start:
    """The shared experience, made now."""
    began = time.monotonic()
    base = Trainer(family, config)
    before = base.total_iterations - config.iterations
    for doing in base.run():
        tell(doing)
        if base.done_iterations >= before:
            break
    return Start("shared", base, base.env_steps, time.monotonic() - began)


def finish(
    shared: Start, setting: Setting, method: str, tell: Callable[[str], None], tuned: Tuned
) -> Start:
    """One method's own outer steps, on the shared experience."""
    began = time.monotonic()
    base, changes = shared.trainer, METHODS[method]
    adaptation = setting.train.adaptation.model_copy(update={"inner_lr": tuned.inner_lr})
    changes = changes | setting.also.get(method, {})
    config = dataclasses.replace(
        base.config, adaptation=adaptation, epsilon=tuned.epsilon, **changes
    )
    # Never more outer steps than the setting has, which may be a quick one.
    fewest = min(config.iterations, base.config.iterations)
    config = dataclasses.replace(config, iterations=fewest)
    trainer = fork(base, config)
    for _ in trainer.run():
        tell(method)
    return Start(method, trainer, base.env_steps, shared.train_s + time.monotonic() - began)


def scratch(shared: Start) -> Start:
    """Fresh parameters, which only know what usual sizes are."""
    trainer = fork(shared.trainer, shared.trainer.config)
    seed = torch.Generator().manual_seed(trainer.config.seed)
    fresh = trainer.agent.learner.init(seed)
    trainer.state.params = {name: value.requires_grad_() for name, value in fresh.items()}
    return Start("scratch", trainer, 0, 0.0)


def fork(base: Trainer, config: TrainConfig) -> Trainer:
    """A trainer that goes on from where `base` stands, with another configuration."""
    trainer, state = Trainer(base.family, config, base.log), base.state
    params = {name: value.clone().requires_grad_() for name, value in base.params.items()}
    fresh = {"log_lr": None, "outer": None, "contexts": None}
    trainer.state = dataclasses.replace(state, params=params, **fresh)
    return trainer


def oracle(
    family: TaskFamily, setting: Setting, base: Start, tasks: list[Task], seed: int
) -> Params:
    """Each task's own parameters, `[tasks, ...]`: the joint start, trained on it alone.

    As many rounds of experience per task as in meta-training, of the same kinds, each followed by
    `oracle_steps` Adam steps on all of the task's own experience.
    """
    config, agent = base.trainer.config, base.trainer.agent
    rng = np.random.default_rng([seed, 77])
    replay = agent.replay(config.rounds * config.round_steps, len(tasks))
    own: Params = stack(base.trainer.params, len(tasks))
    adapt: Adapt = CompiledAdaptation() if config.compiled else adapt_tasks
    for number in range(config.rounds):
        sim = family.make_sim(tasks)
        sim.reset(seed=5000 + 1000 * seed + number)
        steps, explore = config.round_steps, config.explore
        if number == 0:
            rollout = excite(sim, family.robot, family.plan_noise, steps, config.excitation, rng)
        elif number <= config.guided_rounds:
            rollout = guide(sim, family, steps, rng, explore)
        else:
            rollout = drive(sim, agent, own, steps, rng, stacked=True, explore=explore)
        rollout.transitions(replay, agent.learner.experience.sees_reference)
        own = _fitted(agent, own, replay, setting.oracle_steps, rng, adapt)
    return own


def _fitted(
    agent: Agent,
    own: Params,
    replay: Replay,
    steps: int,
    rng: np.random.Generator,
    adapt: Adapt,
    chunk: int = 50,
) -> Params:
    """Adam steps of every task on its own experience; fresh moments for each chunk."""
    learner, optimizer = agent.learner, InnerOptimizer(kind="adam")
    for at in range(0, steps, chunk):
        lr = step_sizes({n: v[0] for n, v in own.items()}, 1e-3 * (1 - at / steps))
        found = replay.sample(
            rng,
            chunk,
            64,
            segment=learner.segment,
            fields=learner.experience.fields,
            past_end=learner.experience.past_end,
        )
        batches = to_tensors(learner.inputs(found, rng, at))
        own, _ = adapt(learner, optimizer, own, batches, lr, stacked=True)
    return own
