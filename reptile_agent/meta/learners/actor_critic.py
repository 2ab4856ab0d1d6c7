"""Learner `actor_critic`: TD3 for continuous actions (Fujimoto et al. 2018, arXiv 1802.09477).

Double DQN, its counterpart for a choice, is in `double_dqn`; `make_learner` picks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reptile_agent.experience import Experience, Noise, Switch
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.double_dqn import DoubleDqnLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import (
    ActorCriticConfig,
    TemporalDifferenceLearner,
    named,
    part,
)
from reptile_agent.meta.networks import init_mlp, mlp
from reptile_agent.spec import RobotSpec, choices

CRITICS = 2


def make_learner(
    robot: RobotSpec, config: ActorCriticConfig, normaliser: PolicyNormaliser
) -> TemporalDifferenceLearner:
    """Double DQN where the robot's action is a choice, TD3 elsewhere."""
    kind = DoubleDqnLearner if choices(robot) else ActorCriticLearner
    return kind(robot, config, normaliser)


@dataclass(frozen=True)
class ActorCriticLearner(TemporalDifferenceLearner):
    """A deterministic policy `policy.*` and twin critics `critic.*`, with target networks."""

    def init(self, generator: torch.Generator) -> Params:
        """A policy that does about what the reference commands, and two critics."""
        hidden, acted = self.config.hidden, len(self.robot.actions)
        seen = self._features.size
        policy = init_mlp((seen, *hidden, acted), 1, generator, last_scale=0.1)
        critic = init_mlp((seen + acted, *hidden, 1), CRITICS, generator)
        return named("policy.", policy) | named("critic.", critic)

    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """What the policy does, [..., act_dim] in the robot's units; see the base."""
        return self._act(part(params, "policy."), torch.cat([obs, reference], dim=-1))

    @cached_property
    def experience(self) -> Experience:
        """With `smoothing`, noise for the target policy in usual offsets, and `policy_weight`.

        The latter is 1 in the steps in which the policy moves.
        """
        config, period = self.config, self.config.policy_period
        smoothing = Noise(
            name="smoothing",
            size=len(self.robot.actions),
            std=config.smoothing,
            clip=config.noise_clip,
        )
        moves = Switch(name="policy_weight", value=1.0, begin=period - 1, every=period)
        return super().experience.model_copy(update={"inputs": (smoothing, moves)})

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """The critics' loss, and the policy's where `policy_weight` says so, as one scalar.

        No term reaches the other's parameters: targets and the critic that the policy climbs are
        detached.
        """
        target = self.target(params, batch, batch["smoothing"])
        policy = self._policy_loss(params, batch) * batch["weight"] * batch["policy_weight"]
        return self._critic_loss(params, batch, target) + policy.mean()

    def _policy_loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """Minus the first critic's return of what the policy does, per row (equation 1).

        The return is the value over `1 - gamma`: it is what one action changes that counts here.
        """
        first = {name: value[:1].detach() for name, value in part(params, "critic.").items()}
        action = self._act(part(params, "policy."), batch["obs"])
        value = self._values(first, batch["obs"], action).squeeze(0)
        off = self._features.usual_offsets(action - batch["action"][..., 0, :])
        return self.config.cloning * off.square().mean(-1) - value / (1 - self.config.gamma)

    def _next_value(self, params: Params, seen: Tensor, smoothing: Tensor | None) -> Tensor:
        action = self._act(part(params, "target.policy."), seen)
        if smoothing is not None:
            action = self._features.vary(action, smoothing)
        return self._values(part(params, "target.critic."), seen, action).amin(0)

    def _act(self, policy: Params, seen: Tensor) -> Tensor:
        rows = self._features.state(seen).reshape(1, -1, self._features.size)
        output = mlp(policy, rows).reshape(*seen.shape[:-1], -1)
        return self._features.command(seen, output)

    def _values(self, critic: Params, seen: Tensor, action: Tensor) -> Tensor:
        features = self._features
        rows = torch.cat([features.state(seen), features.action(seen, action)], dim=-1)
        return self._usual + mlp(critic, rows.expand(critic["b0"].shape[0], -1, -1)).squeeze(-1)
