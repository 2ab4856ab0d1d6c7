"""What TD3 and double DQN share: n-step targets, target networks, errors of a critic.

Values are discounted *means* of the rewards to come, `(1 - gamma) * sum gamma^t r_t`, in units of
the reward's scale: of the size of one reward whatever gamma is, so that one inner step size suits
all. What the network adds is the difference from the mean reward.

`detach` cuts every derivative, not only that of the inner step: second-order MAML through these
losses treats the targets, and the critic that a policy climbs, as constants.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reptile_agent.experience import Experience
from reptile_agent.meta.learner import Params, RobotLearner, TensorBatch
from reptile_agent.meta.learners.policy_features import PolicyFeatures, PolicyNormaliser
from reptile_agent.spec import RobotSpec

EXPERIENCE = Experience(
    fields=("obs", "action", "next_obs", "reward", "terminated"), past_end=True, sees_reference=True
)
TARGET = "target."
"""Prefix of the parameters that follow those of the same name without it."""


@dataclass(frozen=True)
class ActorCriticConfig:
    """Size and losses of an actor-critic learner; constants of TD3 where no other is named."""

    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of every network."""
    gamma: float = 0.97
    """Discount per control period: 0.97 looks about 33 periods ahead."""
    tau: float = 0.005
    """Share by which target networks follow in every step."""
    n_step: int = 3
    """Rewards that are summed before the critic takes over; transitions in a segment."""
    smoothing: float = 0.2
    """Standard deviation of the noise on the target policy's actions, in usual offsets."""
    noise_clip: float = 0.5
    """Largest such noise."""
    policy_period: int = 2
    """The policy moves in every such step only."""
    cloning: float = 0.0
    """Weight of the squared distance, in usual offsets, from the recorded action: holds a policy
    that adapts on few data near what was tried (TD3+BC, arXiv 2106.06860; there the critic's value
    is divided by its mean size, here rewards have been scaled already)."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must be at least 0 and below 1, got {self.gamma}")
        if min(self.n_step, self.policy_period) < 1:
            raise ValueError(
                f"n_step and policy_period must be at least 1, "
                f"got {self.n_step} and {self.policy_period}"
            )

    @property
    def segment(self) -> int:
        """Consecutive transitions in a segment: one for each reward of the sum."""
        return self.n_step


@dataclass(frozen=True)
class TemporalDifferenceLearner(RobotLearner):
    """Learns values off policy, and acts by them.

    Its batches are those of `reptile_agent.transition.Batch` with `experience.fields`, where `obs`
    and `next_obs` carry the reference of their moment behind the measurement, [..., obs_dim +
    ref_dim], and `experience.inputs`.
    """

    robot: RobotSpec
    config: ActorCriticConfig
    normaliser: PolicyNormaliser

    @property
    def experience(self) -> Experience:
        """Rewards and ends too, and what was to be followed."""
        return EXPERIENCE

    @property
    def segment(self) -> int:
        """Consecutive transitions that the loss looks at."""
        return self.config.segment

    @abstractmethod
    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """What the policy does, [..., act_dim] in the robot's units.

        Args:
            params: of the learner.
            obs: measurement now, [..., obs_dim].
            reference: what to follow now, [..., ref_dim].
        """

    @abstractmethod
    def _values(self, critic: Params, seen: Tensor, action: Tensor) -> Tensor:
        """Value of actions by every critic, [critics, rows]."""

    @abstractmethod
    def _next_value(self, params: Params, seen: Tensor, smoothing: Tensor | None) -> Tensor:
        """Value of where a segment ended, by the target networks, [rows]."""

    def after_step(self, params: Params) -> Params:
        """Target networks follow by `tau` (TD3, algorithm 1, but in every step)."""
        tau = self.config.tau
        return {
            name: value + tau * (params[name.removeprefix(TARGET)] - value)
            if name.startswith(TARGET)
            else value
            for name, value in params.items()
        }

    def td_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """Distance of the critics from their target, their mean per row [rows].

        In rewards of usual size; without smoothing noise. It measures priorities, and a gate may
        compare it.
        """
        target = self.target(params, batch)
        return (self._row_values(params, batch) - target).abs().mean(0)

    def prediction_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """What the gate compares: the TD error."""
        return self.td_error(params, batch)

    def action_value(
        self, params: Params, obs: Tensor, reference: Tensor, action: Tensor
    ) -> Tensor:
        """Smallest value of an action by any critic, [rows], per period in the reward's unit.

        Shapes: obs [rows, obs_dim], reference [rows, ref_dim], action [rows, act_dim].
        """
        seen = torch.cat([obs, reference], dim=-1)
        values = self._values(part(params, "critic."), seen, action)
        return values.amin(0) * self._reward_scale

    def target(self, params: Params, batch: TensorBatch, smoothing: Tensor | None = None) -> Tensor:
        """What the critics should say of every segment [rows]; nothing counts past an end.

        `(1 - gamma) * (r_0 + gamma r_1 + ...) + gamma^n * value of where it ended`.
        """
        gamma = self.config.gamma
        rewards = batch["reward"] * ((1 - gamma) / self._reward_scale)
        total, going = torch.zeros_like(rewards[..., 0]), torch.ones_like(rewards[..., 0])
        for t in range(rewards.shape[-1]):
            total = total + going * rewards[..., t]
            going = going * gamma * (1 - batch["terminated"][..., t])
        value = self._next_value(params, batch["next_obs"][..., -1, :], smoothing)
        return (total + going * value).detach()

    def _critic_loss(self, params: Params, batch: TensorBatch, target: Tensor) -> Tensor:
        """Squared TD error, critics summed: each one's gradient is that of its own loss."""
        error = self._row_values(params, batch) - target
        return (error.square() * batch["weight"]).mean(-1).sum()

    def _row_values(self, params: Params, batch: TensorBatch) -> Tensor:
        return self._values(part(params, "critic."), batch["obs"], batch["action"][..., 0, :])

    def __post_init__(self) -> None:
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self._features, self._reward_scale, self._usual

    @cached_property
    def _features(self) -> PolicyFeatures:
        return PolicyFeatures(self.robot, self.normaliser)

    @cached_property
    def _reward_scale(self) -> Tensor:
        return torch.from_numpy(self.normaliser.reward_scale)

    @cached_property
    def _usual(self) -> Tensor:
        """Value of getting the mean reward for ever."""
        return torch.from_numpy(self.normaliser.reward_mean / self.normaliser.reward_scale)


def part(params: Params, prefix: str) -> Params:
    """The parameters below a prefix, without it."""
    return {name.removeprefix(prefix): v for name, v in params.items() if name.startswith(prefix)}


def named(prefix: str, params: Params) -> Params:
    """The parameters under a prefix, and a copy of them as targets."""
    own = {prefix + name: value for name, value in params.items()}
    return own | {TARGET + name: value.clone() for name, value in own.items()}
