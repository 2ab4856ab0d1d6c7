"""Meta-training of policies on policy: each iteration samples, adapts, samples again, and moves.

Every random draw comes from a generator seeded by (seed, purpose, iteration): a run resumed from
a checkpoint continues to the bit. All algorithms take the same number of episodes per iteration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import TypeAdapter

from reptile_agent.meta import checkpoint
from reptile_agent.meta.algorithms import Direction, maml, ppo, promp, reptile, rl2
from reptile_agent.meta.algorithms.step_sizes import from_log, to_log
from reptile_agent.meta.droppable import Droppable
from reptile_agent.meta.epsilon import schedule
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.inner_loop import step_sizes
from reptile_agent.meta.learner import Params, TensorBatch, stack
from reptile_agent.meta.learners.policy_gradient import (
    OnPolicyNormaliser,
    PolicyGradientLearner,
    PolicyLearner,
)
from reptile_agent.meta.learners.recurrent import RecurrentLearner
from reptile_agent.meta.on_policy import (
    Experience,
    adapt_on_policy,
    minibatch,
    sample,
    stacked,
)
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.on_policy_evaluate import evaluate_on_policy
from reptile_agent.meta.train_state import restore_moments
from reptile_agent.task import Task, TaskFamily, VecSim

if TYPE_CHECKING:
    from reptile_agent.meta.trainer import Log

TASKS, SAMPLE = range(1, 3)  # purposes of random generators
ON_POLICY = "on_policy"
"""What a checkpoint says it is, so that others can tell whose it is."""


@dataclass
class OnPolicyState:
    """All that a run carries from one iteration to the next."""

    iteration: int
    eta: np.ndarray
    """Weight of promp's penalty at each inner step, [k]."""
    learner: PolicyLearner | None = None
    params: Params | None = None
    log_lr: Params | None = None
    """Logarithms of the inner step sizes, where they are learned."""
    outer: torch.optim.Optimizer | None = None


class OnPolicyTrainer:
    """Runs an OnPolicyConfig on a family; iterate over `run` to train.

    Args:
        family: whose tasks are trained on.
        config: what to do.
        log: called with (metric name, value, step).

    Raises:
        ValueError: the configuration contradicts itself or the family.
    """

    def __init__(
        self, family: TaskFamily, config: OnPolicyConfig, log: Log = lambda *_: None
    ) -> None:
        self.family, self.config, self.log = family, config, log
        self.tasks = config.tasks(family)
        self.state = OnPolicyState(0, np.full(config.inner_steps, config.eta))
        self.droppable = Droppable()
        self._sim: VecSim | None = None

    @property
    def total_iterations(self) -> int:
        """Of a whole run; the first only measures what the networks will see."""
        return 1 + (self.config.iterations if self.config.algorithm != "scratch" else 0)

    @property
    def done_iterations(self) -> int:
        """Iterations so far."""
        return self.state.iteration

    @property
    def env_steps(self) -> int:
        """Control periods simulated for training so far, over all tasks."""
        config, done = self.config, self.state.iteration
        rounds = min(done, 1) + max(done - 1, 0) * (config.inner_steps + 1)
        tasks = len(self.tasks) if self.own else config.meta_batch
        return rounds * tasks * config.episodes * config.sampling.episode_steps

    @property
    def params(self) -> Params:
        """The start as it stands, detached; an oracle's are [tasks of the split, ...]."""
        return {name: value.detach() for name, value in self._params.items()}

    @property
    def lr(self) -> Params:
        """Inner step sizes as they stand."""
        if self.state.log_lr is not None:
            return from_log({name: v.detach() for name, v in self.state.log_lr.items()})
        return step_sizes(self.params, self.config.inner_lr, self.config.lr_scale)

    @property
    def learner(self) -> PolicyLearner:
        """Of the policy.

        Raises:
            ValueError: nothing was measured yet.
        """
        if self.state.learner is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.learner

    @property
    def own(self) -> bool:
        """Whether every task has parameters of its own."""
        return self.config.algorithm == "oracle"

    def run(self) -> Iterator[str]:
        """Train to the end; yields what is being done after every iteration.

        Raises:
            LossNotFinite: a loss is no number any more; it holds the batch.
        """
        while self.state.iteration < self.total_iterations:
            if self.state.iteration == 0:
                self._measure()
                doing = "measuring what a fresh policy sees"
            else:
                self._iterate()
                doing = self.config.algorithm
            self.state.iteration += 1
            yield doing

    def validate(self, tasks: int = 8) -> float:
        """Minus the mean reward after training's inner steps, on some validation tasks.

        An oracle is judged on the tasks that it knows. What is drawn for it is no part of the run.
        """
        some = self.tasks if self.own else self.family.splits()["validation"][:tasks]
        k, episodes = self.config.inner_steps, self.config.episodes
        (found,) = evaluate_on_policy(self, some, [k], episodes)
        return -float(found.episode_return.mean()) / self.config.sampling.episode_steps

    def save(self, path: Path) -> None:
        """Write a checkpoint that `resume` continues from, atomically."""
        state, arrays = self.state, {"eta": self.state.eta}
        if state.learner is not None:
            n = state.learner.normaliser
            arrays |= {f"normaliser.{f.name}": getattr(n, f.name) for f in fields(n)}
            arrays |= {f"params.{name}": value.numpy() for name, value in self.params.items()}
        for name, value in (state.log_lr or {}).items():
            arrays[f"log_lr.{name}"] = value.detach().numpy()
        if state.outer is not None:
            for i, moments in state.outer.state_dict()["state"].items():
                found = {name: value for name, value in moments.items() if value is not None}
                arrays |= {f"outer.{i}.{name}": value.numpy() for name, value in found.items()}
        progress = {
            "kind": ON_POLICY,
            "family": self.family.name,
            "config": TypeAdapter(OnPolicyConfig).dump_python(self.config, mode="json"),
            "iteration": state.iteration,
        }
        checkpoint.write(path, arrays, progress)

    @classmethod
    def resume(cls, family: TaskFamily, path: Path, log: Log = lambda *_: None) -> OnPolicyTrainer:
        """A trainer that continues where `save` was called, to the bit on the same machine.

        Raises:
            CheckpointError: the file is damaged, or of another family.
        """
        parts, progress = checkpoint.read_run(path, family.name)
        trainer = cls(family, TypeAdapter(OnPolicyConfig).validate_python(progress["config"]), log)
        trainer.state.iteration, trainer.state.eta = progress["iteration"], parts["eta"][""]
        if "params" in parts:
            trainer._build(OnPolicyNormaliser(**parts["normaliser"]))
            for name, value in trainer._params.items():
                value.data.copy_(torch.from_numpy(parts["params"][name]))
            for name, value in (trainer.state.log_lr or {}).items():
                value.data.copy_(torch.from_numpy(parts["log_lr"][name]))
            restore_moments(trainer._outer, parts.get("outer", {}))
        return trainer

    @property
    def _params(self) -> Params:
        if self.state.params is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.params

    @property
    def _outer(self) -> torch.optim.Optimizer:
        if self.state.outer is None:
            raise ValueError("nothing is trained yet: the first round was not gathered")
        return self.state.outer

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, purpose, self.state.iteration])

    def _measure(self) -> None:
        """Let a fresh policy act, and fix the normaliser by what it sees."""
        size = (len(self.family.robot.observations),)
        blank = OnPolicyNormaliser(
            np.zeros(size, np.float32), np.ones(size, np.float32), np.ones((), np.float32)
        )
        learner = PolicyGradientLearner(self.family.robot, self.config.policy, blank)
        params = learner.init(torch.Generator().manual_seed(self.config.seed))
        tasks, rng = self._choose(), self._rng(SAMPLE)
        steps = self.config.sampling.episode_steps
        sim = self._simulate(tasks, self.config.episodes)
        found = sample(sim, learner, params, len(tasks), steps, rng)
        seen = found.weight > 0
        obs = found.inputs["obs"][:, :, :-1]
        self._build(OnPolicyNormaliser.fit(obs[seen].numpy(), found.reward[seen].numpy()))

    def _build(self, normaliser: OnPolicyNormaliser) -> None:
        """Make the learner, fresh parameters and the outer optimizer."""
        kind = RecurrentLearner if self.config.algorithm == "rl2" else PolicyGradientLearner
        state = self.state
        state.learner = kind(self.family.robot, self.config.policy, normaliser)
        fresh = state.learner.init(torch.Generator().manual_seed(self.config.seed))
        if self.own:
            fresh = {name: value.clone() for name, value in stack(fresh, len(self.tasks)).items()}
        state.params = {name: value.requires_grad_() for name, value in fresh.items()}
        groups = [{"params": list(state.params.values())}]
        if self.config.learn_lr > 0:
            state.log_lr = {n: v.requires_grad_() for n, v in to_log(self.lr).items()}
            groups.append({"params": list(state.log_lr.values())})
        kind = torch.optim.Adam if self.config.outer == "adam" else torch.optim.SGD
        state.outer = kind(groups, lr=self.config.epsilon)

    def _choose(self) -> list[Task]:
        """Tasks of this iteration."""
        if self.own:
            return self.tasks
        rng, size = self._rng(TASKS), self.config.meta_batch
        return [self.tasks[i] for i in rng.choice(len(self.tasks), size=size, replace=False)]

    def _simulate(self, tasks: list[Task], lanes: int) -> VecSim:
        """A simulator of so many lanes per task; made once, then only told the tasks."""
        every = [task for task in tasks for _ in range(lanes)]
        if self._sim is None or self._sim.num_envs != len(every):
            self._sim = self.family.make_sim(every)
        else:
            self._sim.set_tasks(every)
        return self._sim

    def _iterate(self) -> None:
        """Sample from some tasks, and move the start."""
        config = self.config
        with self.droppable:
            rounds, batches = self._gather()
        for _ in range(config.outer_steps if config.clipped else 1):
            found = self._direction(batches)
            self._check(found, batches)
            self._step(found)
        for name, value in found.info.items():
            self.log(f"meta/{name}", float(value.mean()), self.state.iteration)
        for step, experience in enumerate(rounds):
            self.log(f"return/{step}", float(experience.returns.mean()), self.state.iteration)
        if config.algorithm == "promp":
            divergence = found.info["divergence"].numpy()
            self.state.eta = promp.adapted_eta(self.state.eta, divergence, config.eta_target)

    def _gather(self) -> tuple[list[Experience], list[TensorBatch]]:
        """Experience of this iteration's tasks, and the minibatches made of it."""
        config, start, rng = self.config, self.params, self._rng(SAMPLE)
        tasks = self._choose()
        if not config.has_inner_loop:
            in_turn = config.trial_episodes if config.algorithm == "rl2" else 1
            lanes = config.episodes * (config.inner_steps + 1) // in_turn
            sim = self._simulate(tasks, lanes)
            found = sample(
                sim, self.learner, start, len(tasks), config.sampling.episode_steps, rng, in_turn
            )
            return [found], [minibatch(self.learner, start, found, config.sampling)]
        return adapt_on_policy(
            self._simulate(tasks, config.episodes),
            self.learner,
            config.inner,
            stack(start, len(tasks)),
            self.lr,
            config.inner_steps,
            config.sampling,
            rng,
        )

    def _direction(self, batches: list[TensorBatch]) -> Direction:
        """Where this algorithm moves the start, given what was sampled."""
        config, learner, start = self.config, self.learner, self.params
        if not config.has_inner_loop:
            if config.algorithm == "rl2":
                return rl2.direction(learner, start, batches[0], config.clip)
            return ppo.direction(learner, start, batches[0], config.clip, own=self.own)
        support, query = stacked(batches[:-1]), stacked(batches[-1:])
        common = (learner, config.inner, start, support, query, self.lr)
        learned = config.learn_lr > 0
        match config.algorithm:
            case "promp":
                eta = torch.from_numpy(self.state.eta.astype(np.float32))
                return promp.direction(*common, clip=config.clip, eta=eta, learn_lr=learned)
            case "reptile":
                return reptile.direction(*common, learn_lr=learned)
            case _:
                order = 2 if config.algorithm == "maml" else 1
                return maml.direction(*common, order=order, learn_lr=learned)

    def _check(self, found: Direction, batches: list[TensorBatch]) -> None:
        """Refuse to go on with what is no number.

        Raises:
            LossNotFinite: a loss or a gradient is not finite.
        """
        values = {**found.info, **found.towards, **(found.log_lr or {})}
        wrong = [name for name, value in values.items() if not value.isfinite().all()]
        if wrong:
            batch = {f"{i}.{n}": v.numpy() for i, b in enumerate(batches) for n, v in b.items()}
            params = {f"params.{name}": value.numpy() for name, value in self.params.items()}
            what = f"{self.config.algorithm}'s {wrong[0]} at iteration {self.state.iteration}"
            raise LossNotFinite(what, batch | params)

    def _step(self, found: Direction) -> None:
        """One outer step."""
        config, outer = self.config, self._outer
        left = schedule(config.epsilon_schedule, (self.state.iteration - 1) / config.iterations)
        for group, size in zip(outer.param_groups, (config.epsilon, config.learn_lr)):
            group["lr"] = size * left
        for name, value in self._params.items():
            value.grad = found.towards[name]
        for name, value in (self.state.log_lr or {}).items():
            value.grad = (found.log_lr or {})[name]
        if not self.own:  # one long gradient among the oracles must not shorten the others
            torch.nn.utils.clip_grad_norm_(self._params.values(), config.outer_clip_norm)
        outer.step()
        outer.zero_grad()
