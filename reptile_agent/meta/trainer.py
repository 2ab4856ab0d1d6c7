"""Meta-training: rounds of experience, each followed by outer steps on all experience so far.

Round 0 excites the robots; in later rounds the agent drives, so that what is learned is good where
it is used (GrBAL, arXiv 1803.11347, algorithm 1). Every random draw comes from a generator seeded
by (seed, purpose, round, iteration): a run resumed from a checkpoint continues to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import agent, checkpoint
from reptile_agent.meta.agent import Agent, Arrays
from reptile_agent.meta.algorithms import joint, maml, reptile
from reptile_agent.meta.algorithms.step_sizes import from_log, to_log
from reptile_agent.meta.collect import drive
from reptile_agent.meta.compiled import CompiledAdaptation
from reptile_agent.meta.droppable import Droppable
from reptile_agent.meta.epsilon import schedule
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.inner_loop import Adapt, adapt_tasks, step_sizes
from reptile_agent.meta.kept_contexts import CONTEXT, KeptContexts
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.temporal_difference import TARGET
from reptile_agent.meta.meta_batch import meta_batch
from reptile_agent.meta.online import OnlineAdaptation, to_tensors
from reptile_agent.meta.priorities import Priorities, draw
from reptile_agent.meta.recorded import RecordedLanes, recorded_lanes
from reptile_agent.meta.rounds import check_plans, judging_seed, run_round, simulated_periods
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.train_state import TrainState, restore_moments
from reptile_agent.meta.tried_plans import all_rows, drawn, joined
from reptile_agent.replay import Replay
from reptile_agent.task import TaskFamily, objective_of
from reptile_agent.transition import Batch

Log = Callable[[str, float, int], None]
"""Called with (metric name, value, step)."""
EXCITE, DRIVE, FIT, META, REHEARSAL, VALIDATE, TRY = range(7)  # purposes of random generators
DIRECTIONS = {
    "reptile": reptile.direction,
    "fomaml": partial(maml.direction, order=1),
    "maml": partial(maml.direction, order=2),
    "joint": joint.direction,
}


class Trainer:
    """Runs a TrainConfig on a family; iterate over it to train.

    Args:
        family: whose train split is trained on.
        config: what to do.
        log: called with (metric name, value, step).
    """

    def __init__(
        self,
        family: TaskFamily,
        config: TrainConfig,
        log: Log = lambda *_: None,
    ) -> None:
        self.family, self.config, self.log = family, config, log
        split = family.splits()["train"]
        if not 1 <= config.tasks <= len(split):
            raise ValueError(
                f"tasks must be 1..{len(split)} (size of the train split of "
                f"'{family.name}'), got {config.tasks}"
            )
        config.check()
        self._tasks = split[: config.tasks]
        blank = family.robot.reward_signals.values()
        objective_of(family)(*(torch.zeros(len(s)) for s in blank))  # one that has none says so now
        check_plans(family, config, self._tasks)
        self._adapt: Adapt = CompiledAdaptation() if config.compiled else adapt_tasks
        self._rounds = 1 if config.algorithm == "scratch" else config.rounds
        self.state = TrainState()
        self.droppable = Droppable()

    @property
    def total_iterations(self) -> int:
        """Outer steps of a whole run, fitting included."""
        if self.config.algorithm == "scratch":
            return 0
        return self._rounds * self.config.fit_iterations + self.config.iterations

    @property
    def done_iterations(self) -> int:
        """Outer steps taken so far."""
        return self.state.round * self.config.fit_iterations + self.state.iteration

    @property
    def env_steps(self) -> int:
        """Control periods simulated for training so far, over all tasks, tried plans included."""
        if self.state.replay is None:
            return 0
        config, seen = self.config, len(self.state.replay)
        return simulated_periods(config, self.family.plan_horizon, seen) * config.tasks

    def run(self) -> Iterator[str]:
        """Train to the end; yields what is being done after every iteration.

        Raises:
            LossNotFinite: a loss came out infinite or not a number.
            DatasetError: there is more to gather, and the recorded robots' file is not as it was.
        """
        config, state = self.config, self.state
        while state.round < self._rounds:
            if state.replay is None or len(state.replay) < (state.round + 1) * config.round_steps:
                yield f"round {state.round + 1}: gathering experience"
                self._gather()
            if config.algorithm == "scratch":
                return
            last = state.round == self._rounds - 1
            length = config.fit_iterations + (config.iterations if last else 0)
            while state.iteration < length:
                if state.iteration < config.fit_iterations:
                    self._fit()
                    doing = f"round {state.round + 1}: fitting the model"
                else:
                    self._meta()
                    doing = config.algorithm
                state.iteration += 1
                yield doing
            if last:
                break
            state.round, state.iteration = state.round + 1, 0

    def rehearsal(self, segments: int = 512) -> Batch:
        """Segments of all tasks and rounds so far, `[segments, ...]`; a function of the state."""
        rng, lanes = self._rng(REHEARSAL), self._replay.lanes
        per_task = -(-segments // lanes)
        found, _ = draw(self._replay, self.agent.learner, rng, per_task)
        flat = {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}
        order = rng.permutation(per_task * lanes)[:segments]
        return {name: value[order] for name, value in flat.items()}

    def online(
        self, adaptation: AdaptationConfig | None = None, gated: bool = False
    ) -> OnlineAdaptation:
        """How the start adapts on its robots."""
        adaptation = adaptation or self.config.adaptation
        lr = step_sizes(self.params, adaptation.inner_lr, self.lr_scale)
        return OnlineAdaptation(adaptation, self.config.inner, lr, self.rehearsal(), gated)

    def validate(self, tasks: int = 8, steps: int = 100) -> float:
        """Minus the mean reward, adapting, on some tasks of the validation split.

        It draws from generators of its own: a run goes the same way whether it is called or not.
        """
        sim = self.family.make_sim(self.family.splits()["validation"][:tasks])
        sim.reset(seed=judging_seed(self.config.seed))
        rng = np.random.default_rng([self.config.seed, VALIDATE])
        rollout = drive(sim, self.agent, self.params, steps, rng, adaptation=self.online())
        return -float(rollout.reward[:, steps // 2 :].mean())

    def save(self, path: Path) -> None:
        """Write a checkpoint that `resume` continues from, atomically."""
        state = self.state
        progress = {
            "family": self.family.name,
            "config": TypeAdapter(TrainConfig).dump_python(self.config, mode="json"),
            "round": state.round,
            "iteration": state.iteration,
            "dataset_sha256": state.dataset_sha256,
        }
        checkpoint.write(path, state.arrays(), progress)

    @classmethod
    def resume(cls, family: TaskFamily, path: Path, log: Log = lambda *_: None) -> Trainer:
        """A trainer that continues where `save` was called, to the bit on the same machine.

        Raises:
            CheckpointError: the file is damaged, or of another family.
        """
        parts, progress = checkpoint.read_run(path, family.name)
        trainer = cls(family, TypeAdapter(TrainConfig).validate_python(progress["config"]), log)
        state = trainer.state
        state.round, state.iteration = progress["round"], progress["iteration"]
        state.dataset_sha256 = progress.get("dataset_sha256", "")
        if "params" in parts:
            trainer.build(parts["normaliser"], len(parts["replay"]["obs"]))
            trainer._replay.restore(parts["replay"])
            state.tried = parts.get("tried")
            if state.priorities is not None and "priorities" in parts:
                state.priorities.error = parts["priorities"]["error"].copy()
            for name, value in trainer._params.items():
                value.data.copy_(torch.from_numpy(parts["params"][name]))
            trainer._restore_outer(parts.get("log_lr", {}), parts.get("outer", {}))
            if state.contexts is not None:
                state.contexts.value.copy_(torch.from_numpy(parts["contexts"]["value"]))
        return trainer

    def _restore_outer(self, log_lr: Arrays, arrays: Arrays) -> None:
        """Put learned step sizes and an optimizer's moments back, `<index>.<name>`."""
        if self.state.iteration > self.config.fit_iterations:
            self._begin_meta()
            for name, value in (self.state.log_lr or {}).items():
                value.data.copy_(torch.from_numpy(log_lr[name]))
        if self.state.outer is not None and arrays:
            restore_moments(self.state.outer, arrays)

    @property
    def agent(self) -> Agent:
        """The learner and what drives with it."""
        if self.state.agent is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.agent

    @property
    def params(self) -> Params:
        """The start as it stands, detached."""
        return {name: value.detach() for name, value in self._params.items()}

    @property
    def lr_scale(self) -> dict[str, float]:
        """Factor on adaptation.inner_lr of each parameter (or prefix), learned ones included."""
        if self.state.log_lr is None:
            return self.config.lr_scale | self._learners_lr_scale
        inner_lr = self.config.adaptation.inner_lr
        # The longest name first: the first prefix that fits counts.
        names = sorted(self.state.log_lr, key=len, reverse=True)
        return {name: float(self.state.log_lr[name].detach().exp()) / inner_lr for name in names}

    @property
    def _learners_lr_scale(self) -> dict[str, float]:
        """The learner's own factors, where the configuration has none for them."""
        own, given = self.agent.learner.lr_scale, self.config.lr_scale
        return {n: f for n, f in own.items() if not any(n.startswith(prefix) for prefix in given)}

    def _lr(self) -> Params:
        """Inner step sizes as they stand, or begin."""
        if self.state.log_lr is not None:
            return from_log({name: v.detach() for name, v in self.state.log_lr.items()})
        return step_sizes(self.params, self.config.adaptation.inner_lr, self.lr_scale)

    @property
    def _params(self) -> Params:
        if self.state.params is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.params

    @property
    def _replay(self) -> Replay:
        if self.state.replay is None:
            raise ValueError("nothing is remembered yet: the first round was not gathered")
        return self.state.replay

    def _rng(self, purpose: int) -> np.random.Generator:
        state = self.state
        return np.random.default_rng([self.config.seed, purpose, state.round, state.iteration])

    def _gather(self) -> None:
        """One round of experience; the first one also fixes normalisers and networks."""
        config, state, recorded = self.config, self.state, self._recorded
        rngs = self._rng(DRIVE if state.round else EXCITE), self._rng(TRY)
        own = (self.agent, self.params) if state.round else None
        with self.droppable:
            rollout, tried = run_round(
                self.family, config, self._tasks, state.round, rngs, own, self.droppable.tell
            )
        self.log("collect/tracking_error", float(rollout.tracking_error.mean()), state.round)
        self.log("collect/reward", float(rollout.reward.mean()), state.round)
        if recorded is not None:
            rollout = recorded.join(rollout, state.round)
        if state.round == 0:
            self.build(agent.measure(self.family, rollout.flat()), len(rollout.obs))
        rollout.transitions(self._replay, self.agent.learner.experience.sees_reference)
        state.tried = joined(state.tried, tried)

    @cached_property
    def _recorded(self) -> RecordedLanes | None:
        """The recorded robots to train on; read only where there is something to gather."""
        return recorded_lanes(self.family, self.config, self.state)

    def build(self, normaliser: Arrays, lanes: int) -> None:
        """Make the agent, fresh parameters, an empty replay and the outer optimizer."""
        config, state = self.config, self.state
        state.agent = agent.make(self.family, config, normaliser)
        state.replay = state.agent.replay(self._rounds * config.round_steps, lanes)
        fresh = state.agent.learner.init(torch.Generator().manual_seed(config.seed))
        state.params = {name: value.requires_grad_() for name, value in fresh.items()}
        state.outer = torch.optim.Adam(self._led(), lr=config.fit_lr)
        if config.priority > 0:
            state.priorities = Priorities(config.priority, config.priority_correction)

    def _led(self) -> list[torch.Tensor]:
        """What the outer optimizer moves.

        That is all but target networks, which follow by themselves, and the start's context where
        tasks keep their own: a mean of equal numbers is not quite that number, and Adam would make
        steps of it.
        """
        still = (TARGET,) if self.state.contexts is None else (TARGET, CONTEXT)
        return [value for name, value in self._params.items() if not name.startswith(still)]

    def _begin_meta(self) -> None:
        """Step sizes to be learned, and the outer optimizer of the meta-algorithm, fresh."""
        config, state = self.config, self.state
        if config.keep > 0:
            state.contexts = KeptContexts.begin(self.params, self._replay.lanes)
        groups = [{"params": self._led()}]
        if config.learn_lr > 0:
            state.log_lr = {n: v.requires_grad_() for n, v in to_log(self._lr()).items()}
            groups.append({"params": list(state.log_lr.values())})
        kind = torch.optim.Adam if config.outer == "adam" else torch.optim.SGD
        state.outer = kind(groups, lr=config.epsilon)

    def _fit(self) -> None:
        """One step of joint training on all tasks' experience."""
        config, learner, priorities = self.config, self.agent.learner, self.state.priorities
        rng, per_task = self._rng(FIT), max(1, config.fit_batch // self._replay.lanes)
        tried = self.state.tried
        lived = per_task if tried is None else max(1, per_task // 2)
        found, age = draw(self._replay, learner, rng, lived, priorities)
        others = [] if tried is None else [drawn(tried, rng, 1, max(1, per_task - lived))]
        rows = all_rows([found, *others])
        batches = to_tensors(learner.inputs(rows, rng, self.done_iterations))
        if priorities is not None:
            flat = {name: value[0, 0, : age.size] for name, value in batches.items()}
            error = learner.prediction_error(self.params, flat)
            priorities.note(age, error.numpy().reshape(age.shape))
        nothing = {name: value[:, :0] for name, value in batches.items()}
        found = joint.direction(learner, config.inner, self.params, batches, nothing, {})
        self._check("fit/loss", found.info["before"], batches)
        for name, value in found.towards.items():
            self._check(f"fit/direction of {name}", value, batches)
        self._step(found.towards, config.fit_lr)
        self.log("fit/loss", float(found.info["before"]), self.done_iterations)

    def _meta(self) -> None:
        """One outer step of the meta-algorithm."""
        config, state = self.config, self.state
        step = state.iteration - config.fit_iterations
        if step == 0:
            self._begin_meta()
        rng = self._rng(META)
        lanes, support, query = meta_batch(
            self.agent.learner, config, self._replay, state.tried, self.rehearsal(), rng
        )
        adapt = self._adapt
        if state.contexts is not None:
            adapt = state.contexts.keeping(adapt, lanes, rng.random(lanes.size) < config.keep)
        found = DIRECTIONS[config.algorithm](
            self.agent.learner,
            config.inner,
            self.params,
            support,
            query,
            self._lr(),
            learn_lr=config.learn_lr > 0,
            adapt=adapt,
        )
        seen = support | {f"query.{name}": value for name, value in query.items()}
        for name, value in found.info.items():
            self._check(f"meta/{name}", value, seen)
            self.log(f"meta/{name}", float(value), self.done_iterations)
        for name, value in (*found.towards.items(), *(found.log_lr or {}).items()):
            self._check(f"meta/direction of {name}", value, seen)
        left = schedule(config.epsilon_schedule, step / config.iterations)
        self._step(found.towards, config.epsilon * left, found.log_lr, config.learn_lr * left)

    def _check(self, what: str, loss: torch.Tensor, batch: TensorBatch) -> None:
        """Stop before a loss or a direction that is not finite spoils the parameters."""
        if not torch.isfinite(loss).all():
            state = self.state
            began = {f"params.{name}": value for name, value in self.params.items()}
            began |= {f"log_lr.{name}": value for name, value in (state.log_lr or {}).items()}
            if state.contexts is not None:
                began["contexts"] = state.contexts.value
            arrays = {name: value.detach().numpy() for name, value in (batch | began).items()}
            raise LossNotFinite(f"{what} at step {self.done_iterations}", arrays)

    def _step(
        self, towards: Params, lr: float, by_log_lr: Params | None = None, lr_of_lr: float = 0.0
    ) -> None:
        outer, state = self.state.outer, self.state
        if outer is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        for group, size in zip(outer.param_groups, (lr, lr_of_lr)):
            group["lr"] = size
        for name, value in self._params.items():
            value.grad = towards[name] if not name.startswith(TARGET) else None
        for name, value in (state.log_lr or {}).items():
            value.grad = (by_log_lr or {})[name]
        outer.step()
        outer.zero_grad()
        with torch.no_grad():
            for name, value in self.agent.learner.after_step(self.params).items():
                self._params[name].copy_(value)
