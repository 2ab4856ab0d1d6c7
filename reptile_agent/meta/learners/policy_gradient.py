"""Learner `policy_gradient`: a stochastic policy and its value function, learned on policy.

Its inner loss weighs advantages by the ratio of the probabilities that the policy and the one
that sampled give an action: J^LR of ProMP (Rothfuss et al. 2018, arXiv 1810.06784, section 5).
At the sampling policy its gradient is that of the score function, and, unlike that of
`log pi * A`, its second derivative is the one that MAML needs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reptile_agent.meta.learner import Learner, Params, TensorBatch
from reptile_agent.meta.learners.actions import Actions
from reptile_agent.meta.networks import init_mlp, mlp
from reptile_agent.spec import RobotSpec


@dataclass(frozen=True)
class PolicyConfig:
    """Size of the networks, what they see, and the weights of the losses."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths, with tanh: those of MAML and ProMP."""
    initial_std: float = 0.5
    """Of a fresh policy's commands, whose limits are at -1 and 1."""
    sees_reference: bool = False
    """Whether the networks see the reference of now. Where the reference is the task (a goal, a
    speed) that is to be found out by its reward, as in the papers, they must not."""
    value_weight: float = 0.5
    """Of the value function's squared error beside the policy's loss."""
    entropy_weight: float = 0.0
    """Of the policy's entropy, which keeps it exploring."""


@dataclass(frozen=True)
class OnPolicyNormaliser:
    """Shift and scale of what the networks see, measured once on a fresh policy; float32."""

    obs_mean: np.ndarray
    obs_std: np.ndarray
    reward_scale: np.ndarray
    """Root mean square of the reward, []; values count in it."""

    @classmethod
    def fit(cls, obs: np.ndarray, reward: np.ndarray) -> OnPolicyNormaliser:
        """Measure on observations [n, obs_dim] and rewards [n]; what never changes gets scale 1."""
        std, scale = obs.std(axis=0, dtype=np.float64), np.sqrt(np.square(reward).mean())
        return cls(
            obs_mean=obs.mean(axis=0, dtype=np.float64).astype(np.float32),
            obs_std=np.where(std > 1e-6, std, 1.0).astype(np.float32),
            reward_scale=np.array(scale if scale > 1e-6 else 1.0, np.float32),
        )


@dataclass(frozen=True)
class PolicyLearner(Learner):
    """What policies with and without a memory share: what they see, and their losses.

    Minibatches [lanes, steps, ...] (made by `reptile_agent.meta.on_policy`) hold what the policy
    saw (`inputs`), its `action`, the `head` that the action was drawn from and its `log_prob`,
    `advantage`, `value_target`, and `weight`, 0 where an episode was over.
    """

    robot: RobotSpec
    config: PolicyConfig
    normaliser: OnPolicyNormaliser

    inputs: ClassVar[tuple[str, ...]] = ("obs", "reference")
    """What the networks may see, by name in a minibatch."""

    @abstractmethod
    def memory(self, lanes: int) -> Tensor:
        """What a policy remembers at first, [lanes, memory_dim]."""

    @abstractmethod
    def step(self, params: Params, memory: Tensor, inputs: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads [lanes, head_dim] and the new memory of one control period, [lanes, ...] all."""

    @abstractmethod
    def evaluate(self, params: Params, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads [..., steps, head_dim] and values [..., steps] of a minibatch, in any lanes."""

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """The inner loss: minus J^LR, the value function's error, minus entropy."""
        return self._loss(params, batch, clip=None)

    def clipped_loss(self, params: Params, batch: TensorBatch, clip: float) -> Tensor:
        """The same with PPO's clipped objective (Schulman et al. 2017, arXiv 1707.06347, eq. 7)."""
        return self._loss(params, batch, clip)

    def divergence(self, params: Params, batch: TensorBatch) -> Tensor:
        """Mean Kullback-Leibler divergence from the policy that sampled, a scalar."""
        head, _ = self.evaluate(params, batch)
        return _mean(self.actions.divergence(batch["head"], head), batch["weight"])

    def features(self, inputs: TensorBatch) -> Tensor:
        """What the networks see of measurement and reference, [..., feature_dim]."""
        c, obs = self._constants, inputs["obs"]
        parts = [((obs - c["obs_mean"]) / c["obs_std"]) @ c["plain"]]
        if c["periodic"].shape[-1]:
            angle = obs @ c["periodic"]
            parts += [angle.sin(), angle.cos()]
        if self.config.sees_reference:
            parts.append((inputs["reference"] - c["reference_mean"]) / c["reference_std"])
        return torch.cat(parts, dim=-1)

    @property
    def feature_dim(self) -> int:
        """Width of `features`."""
        periodic = sum(signal.periodic for signal in self.robot.observations)
        seen = len(self.robot.references) if self.config.sees_reference else 0
        return len(self.robot.observations) + periodic + seen

    @cached_property
    def actions(self) -> Actions:
        """The distribution of the robot's actions."""
        return Actions(self.robot)

    def _loss(self, params: Params, batch: TensorBatch, clip: float | None) -> Tensor:
        head, value = self.evaluate(params, batch)
        advantage = batch["advantage"]
        ratio = (self.actions.log_prob(head, batch["action"]) - batch["log_prob"]).exp()
        gain = ratio * advantage
        if clip is not None:
            gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * advantage)
        error = self.config.value_weight * (value - batch["value_target"]).square()
        bonus = self.config.entropy_weight * self.actions.entropy(head)
        return _mean(error - gain - bonus, batch["weight"])

    def _with_spread(self, params: Params, outputs: Tensor) -> Tensor:
        """A Gaussian's head of its means [members, rows, outputs]; logits as they are."""
        if self.actions.discrete:
            return outputs
        log_std = params["policy.log_std"].flatten(0, -3)
        return torch.cat([outputs, log_std.expand_as(outputs)], dim=-1)

    def _fresh_spread(self) -> Params:
        if self.actions.discrete:
            return {}
        size, value = (1, 1, self.actions.outputs), math.log(self.config.initial_std)
        return {"policy.log_std": torch.full(size, value)}

    def __post_init__(self) -> None:
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self._constants, self.actions

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        size, n = len(self.robot.observations), self.normaliser
        periodic = np.array([signal.periodic for signal in self.robot.observations])
        columns = self.robot.reference_columns
        arrays = {
            "obs_mean": n.obs_mean,
            "obs_std": n.obs_std,
            "reference_mean": n.obs_mean[columns],
            "reference_std": n.obs_std[columns],
            "reward_scale": n.reward_scale,
            "plain": np.eye(size)[:, ~periodic],
            "periodic": np.eye(size)[:, periodic],
        }
        return {name: torch.from_numpy(np.asarray(a, np.float32)) for name, a in arrays.items()}


@dataclass(frozen=True)
class PolicyGradientLearner(PolicyLearner):
    """A policy without memory: what it knows of its task is in its parameters.

    Where parameters have a leading axis of tasks, so have the minibatches.
    """

    def init(self, generator: torch.Generator) -> Params:
        """A fresh policy, whose mean is near the middle of the limits, and its value function."""
        params: Params = {}
        for part, outputs, scale in (("policy", self.actions.outputs, 0.01), ("value", 1, 0.1)):
            sizes = (self.feature_dim, *self.config.hidden, outputs)
            layers = init_mlp(sizes, 1, generator, last_scale=scale)
            params |= {f"{part}.{name}": value for name, value in layers.items()}
        return params | self._fresh_spread()

    def memory(self, lanes: int) -> Tensor:
        """None, [lanes, 0]."""
        return torch.zeros(lanes, 0)

    def step(self, params: Params, memory: Tensor, inputs: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads of one control period; lanes are in the order of the tasks."""
        features = self.features(inputs)
        rows = features.reshape(_members(params), -1, features.shape[-1])
        return self._head(params, rows).flatten(0, 1), memory

    def evaluate(self, params: Params, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads and values of all rows."""
        features = self.features(batch)
        rows = features.reshape(_members(params), -1, features.shape[-1])
        head, value = self._head(params, rows), _network(params, "value.", rows)
        shape = features.shape[:-1]
        return head.reshape(*shape, head.shape[-1]), value.reshape(shape)

    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """The likeliest action [..., act_dim] in the robot's units; see `policy_driver`."""
        features = self.features({"obs": obs, "reference": reference})
        head = self._head(params, features.reshape(1, -1, features.shape[-1]))
        return self.actions.command(self.actions.likeliest(head)).reshape(*obs.shape[:-1], -1)

    def _head(self, params: Params, rows: Tensor) -> Tensor:
        return self._with_spread(params, _network(params, "policy.", rows))


def _members(params: Params) -> int:
    """Networks side by side: the tasks that have parameters of their own, or 1."""
    return math.prod(params["value.w0"].shape[:-2])


def _network(params: Params, part: str, rows: Tensor) -> Tensor:
    """One of the two networks, [members, rows, ...]."""
    layers = {
        name.removeprefix(part): value.flatten(0, -3)
        for name, value in params.items()
        if name.startswith(part) and name != "policy.log_std"
    }
    return mlp(layers, rows, activation="tanh")


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum()
