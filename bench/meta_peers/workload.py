"""The same networks and data for every implementation, from a seed; needs torch and pydantic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from reptile_agent.meta.learner import Learner, Params, TensorBatch
from reptile_agent.meta.learners.actor_critic import ActorCriticLearner
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.spec import RobotSpec

LearnerName = Literal["dynamics", "actor_critic"]
Method = Literal["reptile", "maml"]
BATCH = 48
"""Rows of a minibatch: 32 live ones and 16 rehearsed, as the arm takes them."""
LR = 0.01
SHIPPED = Path(__file__).parents[2] / "ros2_ws/src/reptile_agent/bundle/arm/manifest.json"
"""Names the arm's signals without a simulator, which a peer's environment does not have."""


@dataclass(frozen=True)
class Work:
    """One meta-batch."""

    learner: Learner
    params: Params
    support: TensorBatch
    """Minibatches of the inner loops, [tasks, k, batch, ...]."""
    query: TensorBatch
    """What MAML judges them by, [tasks, 1, batch, ...]."""

    @property
    def tasks(self) -> int:
        """Size of the meta-batch."""
        return next(iter(self.query.values())).shape[0]

    def one_by_one(self) -> Iterator[tuple[list[TensorBatch], TensorBatch]]:
        """Each task's inner minibatches and its query minibatch."""
        k = next(iter(self.support.values())).shape[1]
        for task in range(self.tasks):
            steps = [{n: v[task, step] for n, v in self.support.items()} for step in range(k)]
            yield steps, {name: value[task, 0] for name, value in self.query.items()}

    def network(self) -> Network:
        """The learner with fresh copies of the parameters."""
        return Network(self.learner, self.params)


class Network(nn.Module):
    """A learner as the module that the peers ask for: calling it on a minibatch gives the loss."""

    def __init__(self, learner: Learner, params: Params) -> None:
        super().__init__()
        self.learner = learner
        # A module's parameter may have no dot in its name.
        self.keys = {name: name.replace(".", "__") for name in params}
        for name, value in params.items():
            self.register_parameter(self.keys[name], nn.Parameter(value.clone()))

    def forward(self, batch: TensorBatch) -> Tensor:
        """Loss of a minibatch."""
        return self.learner.loss(self.named(), batch)

    def named(self) -> Params:
        """The parameters as they stand, under the learner's names."""
        return {name: getattr(self, key) for name, key in self.keys.items()}

    def followed(self) -> Params:
        """What the learner changes after a step (target networks), under the learner's names."""
        now = self.named()
        after = self.learner.after_step(now)
        return {name: value for name, value in after.items() if value is not now[name]}

    def put(self, values: Params) -> None:
        """Let these tensors be the parameters of those names, graphs and all."""
        for name, value in values.items():
            self._parameters[self.keys[name]] = value  # pyright: ignore[reportArgumentType]

    def gradients(self, tasks: int) -> Params:
        """What `backward` gathered in the parameters, divided by the number of tasks."""
        return {
            name: torch.zeros_like(value) if value.grad is None else value.grad / tasks
            for name, value in self.named().items()
        }


def make(learner: LearnerName, tasks: int, k: int) -> Work:
    """A meta-batch of random data: what takes time does not depend on its values."""
    made = _learner(learner)
    rng = np.random.default_rng([tasks, k])
    arrays = _arrays(made, (tasks, k + 1, BATCH), rng)
    batches = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in arrays.items()}
    return Work(
        learner=made,
        params=made.init(torch.Generator().manual_seed(0)),
        support={name: value[:, :k] for name, value in batches.items()},
        query={name: value[:, k:] for name, value in batches.items()},
    )


@cache
def _learner(name: LearnerName) -> DynamicsLearner | ActorCriticLearner:
    """One of a kind, so that what is compiled for it serves all meta-batches."""
    robot = RobotSpec.model_validate(json.loads(SHIPPED.read_text())["robot"])
    observed, acted, followed = (
        len(signals) for signals in (robot.observations, robot.actions, robot.references)
    )
    common = {
        "obs_mean": _full(observed, 0.0),
        "obs_std": _full(observed, 1.0),
        "action_mean": _full(acted, 0.0),
        "action_std": _full(acted, 1.0),
    }
    if name == "dynamics":
        normaliser = Normaliser(**common, delta_std=_full(observed, 1.0))
        return DynamicsLearner(robot, DynamicsConfig(), normaliser)
    policy_normaliser = PolicyNormaliser(
        **common,
        distance=_full(followed, 1.0),
        offset_std=_full(acted, 0.1),
        reward_mean=_full(1, 0.0),
        reward_scale=_full(1, 1.0),
    )
    return ActorCriticLearner(robot, ActorCriticConfig(), policy_normaliser)


def _arrays(
    learner: DynamicsLearner | ActorCriticLearner, shape: tuple[int, ...], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    robot, segment = learner.robot, learner.config.segment
    critic = isinstance(learner, ActorCriticLearner)
    seen = len(robot.observations) + (len(robot.references) if critic else 0)
    arrays = {
        "obs": _normal(rng, *shape, seen),
        "action": _normal(rng, *shape, segment, len(robot.actions)),
        "next_obs": _normal(rng, *shape, segment, seen),
        "weight": np.ones(shape, np.float32),
    }
    if not critic:
        return arrays
    arrays["reward"] = _normal(rng, *shape, segment)
    arrays["terminated"] = np.zeros((*shape, segment), np.float32)
    return learner.inputs(arrays, rng)


def _full(size: int, value: float) -> np.ndarray:
    return np.full(size, value, np.float32)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)
