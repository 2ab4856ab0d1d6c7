"""Meta-training: rounds of experience, each followed by outer steps on all experience so far.

Round 0 excites the robots; in later rounds the planner drives, so that the model is good where
it is used (GrBAL, arXiv 1803.11347, algorithm 1). Every random draw comes from a generator seeded
by (seed, purpose, round, iteration): a run resumed from a checkpoint continues to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import TypeAdapter

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import checkpoint
from reptile_agent.meta.algorithms import joint, reptile
from reptile_agent.meta.collect import OnlineAdaptation, drive, excite, mixed_batches, to_tensors
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes
from reptile_agent.meta.learner import Params
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.planner import Planner, PlannerConfig
from reptile_agent.replay import Replay
from reptile_agent.task import TaskFamily
from reptile_agent.transition import Batch

Arrays = dict[str, np.ndarray]
Log = Callable[[str, float, int], None]
"""Called with (metric name, value, step)."""
EXCITE, DRIVE, FIT, META, REHEARSAL = range(5)  # purposes of random generators


@dataclass(frozen=True)
class TrainConfig:
    """What a meta-training run does."""

    algorithm: Literal["reptile", "joint"] = "reptile"
    """How the start is learned: reptile, or joint training (domain randomization)."""
    seed: int = 0
    """Of everything."""
    tasks: int = 64
    """Training tasks simulated side by side."""
    rounds: int = 3
    """Rounds of experience; the planner drives from the second on."""
    round_steps: int = 150
    """Control periods per task and round."""
    excitation: float = 1.5
    """Noise of the first round, in units of the planner's."""
    explore: float = 0.5
    """Noise added to the planner's actions in later rounds, in units of the planner's."""
    fit_iterations: int = 900
    """Joint-training steps after each round: Reptile starts from a model that predicts."""
    fit_batch: int = 384
    """Segments in each of them."""
    fit_lr: float = 1e-3
    """Their step size (Adam)."""
    iterations: int = 300
    """Outer steps of the meta-algorithm after the last round."""
    meta_batch: int = 16
    """Tasks per outer step; 1 is the serial Reptile of the paper."""
    outer: Literal["sgd", "adam"] = "adam"
    """Outer optimizer; sgd is params + epsilon * mean(adapted - params)."""
    epsilon: float = 5e-4
    """Outer step size."""
    epsilon_schedule: Literal["constant", "linear"] = "linear"
    """Whether epsilon falls to zero over the outer steps."""
    inner: InnerOptimizer = field(default_factory=InnerOptimizer)
    """Optimizer of the inner loop."""
    adaptation: AdaptationConfig = AdaptationConfig()
    """The inner loop as it will run on the robot."""
    train_inner_steps: int = 10
    """Inner steps per task in meta-training (k); the robot may take more."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Factor on the inner step size by prefix of the parameter's name, such as w:0.5."""
    model: DynamicsConfig = field(default_factory=DynamicsConfig)
    """Size of the dynamics model."""
    samples: int = 64
    """Plans that the planner tries per control period."""
    doubt: float = 0.0
    """Planner's cost of the ensemble's disagreement."""


@dataclass
class TrainState:
    """All that a run carries from one iteration to the next."""

    round: int
    iteration: int
    replay: Replay
    learner: DynamicsLearner | None = None
    params: Params | None = None
    outer: torch.optim.Optimizer | None = None


def make_planner(family: TaskFamily, config: TrainConfig, learner: DynamicsLearner) -> Planner:
    """The family's planner over a learner's model."""
    planning = PlannerConfig(
        horizon=family.plan_horizon,
        noise=tuple(family.plan_noise),
        samples=config.samples,
        doubt=config.doubt,
    )
    return Planner(learner, planning, family.reward)


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
        self._tasks = split[: config.tasks]
        robot = family.robot
        blank = (robot.observations, robot.actions, robot.observations, robot.references)
        family.reward(*(torch.zeros(len(s)) for s in blank))  # one that has none says so now
        capacity = config.rounds * config.round_steps
        replay = Replay(capacity, len(robot.observations), len(robot.actions), config.tasks)
        self.state = TrainState(round=0, iteration=0, replay=replay)

    @property
    def total_iterations(self) -> int:
        """Outer steps of a whole run, fitting included."""
        return self.config.rounds * self.config.fit_iterations + self.config.iterations

    @property
    def done_iterations(self) -> int:
        """Outer steps taken so far."""
        return self.state.round * self.config.fit_iterations + self.state.iteration

    def run(self) -> Iterator[str]:
        """Train to the end; yields what is being done after every iteration."""
        config, state = self.config, self.state
        while state.round < config.rounds:
            if len(state.replay) < (state.round + 1) * config.round_steps:
                yield f"round {state.round + 1}: gathering experience"
                self._gather()
            last = state.round == config.rounds - 1
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
        rng = self._rng(REHEARSAL)
        per_task = -(-segments // self.config.tasks)
        found = self.state.replay.sample(rng, 1, per_task, segment=self._learner.config.segment)
        flat = {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}
        order = rng.permutation(per_task * self.config.tasks)[:segments]
        return {name: value[order] for name, value in flat.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint that `resume` continues from, atomically."""
        state = self.state
        arrays = {f"replay.{name}": value for name, value in state.replay.state().items()}
        if state.learner is not None:
            normaliser = normaliser_arrays(self._learner.normaliser)
            arrays |= {f"normaliser.{name}": value for name, value in normaliser.items()}
            arrays |= {f"params.{name}": value.numpy() for name, value in self.params.items()}
        if state.outer is not None:
            for i, moments in state.outer.state_dict()["state"].items():
                arrays |= {f"outer.{i}.{n}": v.numpy() for n, v in moments.items() if v is not None}
        progress = {
            "family": self.family.name,
            "config": TypeAdapter(TrainConfig).dump_python(self.config, mode="json"),
            "round": state.round,
            "iteration": state.iteration,
        }
        checkpoint.write(path, arrays, progress)

    @classmethod
    def resume(cls, family: TaskFamily, path: Path, log: Log = lambda *_: None) -> Trainer:
        """A trainer that continues where `save` was called, to the bit on the same machine.

        Raises:
            CheckpointError: the file is damaged, or of another family.
        """
        arrays, progress = checkpoint.read(path)
        if progress["family"] != family.name:
            raise checkpoint.CheckpointError(
                f"{path} is a run of family '{progress['family']}', not of '{family.name}'"
            )
        trainer = cls(family, TypeAdapter(TrainConfig).validate_python(progress["config"]), log)
        parts: dict[str, Arrays] = {}
        for name, value in arrays.items():
            group, _, rest = name.partition(".")
            parts.setdefault(group, {})[rest] = value
        state = trainer.state
        state.round, state.iteration = progress["round"], progress["iteration"]
        state.replay.restore(parts["replay"])
        if "params" in parts:
            trainer.build(Normaliser(**parts["normaliser"]))
            for name, value in trainer._params.items():
                value.data.copy_(torch.from_numpy(parts["params"][name]))
            trainer._restore_outer(parts.get("outer", {}))
        return trainer

    def _restore_outer(self, arrays: Arrays) -> None:
        """Put an optimizer's moments back, `<parameter's index>.<name>`."""
        if self.state.iteration > self.config.fit_iterations:
            self.state.outer = self._make_outer()
        outer = self.state.outer
        if outer is None or not arrays:
            return
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in arrays.items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
        outer.load_state_dict({**outer.state_dict(), "state": moments})

    def _make_outer(self) -> torch.optim.Optimizer:
        """The outer optimizer of the meta-algorithm, fresh."""
        kind = torch.optim.Adam if self.config.outer == "adam" else torch.optim.SGD
        return kind(self._params.values(), lr=self.config.epsilon)

    @property
    def planner(self) -> Planner:
        """The family's planner over the model as it stands."""
        return make_planner(self.family, self.config, self._learner)

    @property
    def params(self) -> Params:
        """The start as it stands, detached."""
        return {name: value.detach() for name, value in self._params.items()}

    @property
    def _learner(self) -> DynamicsLearner:
        if self.state.learner is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.learner

    @property
    def _params(self) -> Params:
        if self.state.params is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.params

    def _rng(self, purpose: int) -> np.random.Generator:
        state = self.state
        return np.random.default_rng([self.config.seed, purpose, state.round, state.iteration])

    def _gather(self) -> None:
        """One round of experience; the first one also fixes the normaliser and the network."""
        config, state = self.config, self.state
        sim = self.family.make_sim(self._tasks)
        sim.reset(seed=config.seed * 1000 + state.round)
        if state.round == 0:
            rollout = excite(
                sim,
                self.family.robot,
                self.family.plan_noise,
                config.round_steps,
                config.excitation,
                self._rng(EXCITE),
            )
            arrays = (rollout.obs, rollout.action, rollout.next_obs)
            normaliser = Normaliser.fit(
                self.family.robot, *(a.reshape(-1, a.shape[-1]) for a in arrays)
            )
            self.build(normaliser)
        else:
            rollout = drive(
                sim,
                self.planner,
                self.params,
                config.round_steps,
                self._rng(DRIVE),
                explore=config.explore,
            )
        rollout.transitions(state.replay)
        self.log("collect/tracking_error", float(rollout.tracking_error.mean()), state.round)
        self.log("collect/reward", float(rollout.reward.mean()), state.round)

    def build(self, normaliser: Normaliser) -> None:
        """Make the learner, fresh parameters and the outer optimizer."""
        config, state = self.config, self.state
        state.learner = DynamicsLearner(self.family.robot, config.model, normaliser)
        fresh = state.learner.init(torch.Generator().manual_seed(config.seed))
        state.params = {name: value.requires_grad_() for name, value in fresh.items()}
        state.outer = torch.optim.Adam(state.params.values(), lr=config.fit_lr)

    def _fit(self) -> None:
        config, state = self.config, self.state
        per_task = max(1, config.fit_batch // config.tasks)
        segment = self._learner.config.segment
        found = state.replay.sample(self._rng(FIT), 1, per_task, segment=segment)
        batches = to_tensors(found)
        grads, info = joint.direction(self._learner, config.inner, self.params, batches, {})
        self._step(grads, config.fit_lr)
        self.log("fit/loss", float(info["before"]), self.done_iterations)

    def _meta(self) -> None:
        """One outer step of the meta-algorithm."""
        config, state = self.config, self.state
        rng = self._rng(META)
        lanes = rng.choice(config.tasks, size=min(config.meta_batch, config.tasks), replace=False)
        adapting = config.adaptation.model_copy(
            update={"inner_steps": config.train_inner_steps, "holdout": 0}
        )
        online = OnlineAdaptation(adapting, config.inner, config.lr_scale, self.rehearsal())
        past = rng.integers(max(len(state.replay) - adapting.window, 1), size=lanes.size)
        segment = self._learner.config.segment
        batches = mixed_batches(state.replay, online, segment, rng, past, lanes)
        lr = step_sizes(self.params, adapting.inner_lr, config.lr_scale)
        algorithm = {"reptile": reptile, "joint": joint}[config.algorithm]
        towards, info = algorithm.direction(self._learner, config.inner, self.params, batches, lr)

        step = state.iteration - config.fit_iterations
        if step == 0:
            state.outer = self._make_outer()
        left = 1 - step / config.iterations if config.epsilon_schedule == "linear" else 1.0
        self._step(towards, config.epsilon * left)
        for name, value in info.items():
            self.log(f"meta/{name}", float(value), self.done_iterations)

    def _step(self, towards: Params, lr: float) -> None:
        outer = self.state.outer
        if outer is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        for group in outer.param_groups:
            group["lr"] = lr
        for name, value in self._params.items():
            value.grad = towards[name]
        outer.step()
        outer.zero_grad()


def normaliser_arrays(normaliser: Normaliser) -> Arrays:
    """A normaliser as arrays by field name."""
    return {f.name: getattr(normaliser, f.name) for f in fields(Normaliser)}
