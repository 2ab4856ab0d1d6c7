"""Learner `model_policy`: a model of the robot, and a policy improved through that model.

One loss holds both: the ensemble's prediction error, which needs no reward on board, and minus the
reward of rollouts from where the robot has been, differentiated through the model as in SVG (Heess
et al. 2015, arXiv 1510.09142), but short ones with no value at their end. The model is the one of
that very inner step, so that the policy follows what adapting has taught it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reptile_agent.experience import Experience, Switch
from reptile_agent.meta.learner import Params, RobotLearner, TensorBatch
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.learners.policy_features import PolicyFeatures, PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import part
from reptile_agent.meta.networks import init_mlp, mlp
from reptile_agent.meta.planner import Reward
from reptile_agent.spec import RobotSpec, choices


@dataclass(frozen=True)
class ModelPolicyConfig(DynamicsConfig):
    """Size of model and policy, and how the policy follows the model."""

    policy_hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    horizon: int = 6
    """Control periods of the rollouts that the policy is improved on."""
    model_steps: int = 5
    """Inner steps that the model is given before the policy begins to follow it."""
    policy_weight: float = 1.0
    """Weight of the policy's cost beside the model's loss from then on."""
    smoothness: float = 1.0
    """Cost of a change of the policy network's output between two periods, squared; a change of 1
    is about two of the usual offsets from the reference. Without it the policy answers every error
    at once, and robots that are slower than the model shake."""
    doubt: float = 0.0
    """Cost of the ensemble's disagreement, squared in units of one period's usual change."""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")


@dataclass(frozen=True)
class ModelPolicyLearner(RobotLearner):
    """Ensemble `model.*` and policy `policy.*` of one robot.

    Its batches' `obs` and `next_obs` hold measurements with the reference of their moment behind
    them, [..., obs_dim + ref_dim].
    """

    robot: RobotSpec
    config: ModelPolicyConfig
    normaliser: Normaliser
    """Of the model: measured without the reference."""
    policy_normaliser: PolicyNormaliser
    reward: Reward
    """The objective of the task family."""

    @cached_property
    def experience(self) -> Experience:
        """With `policy_weight`, which is zero in the steps that are the model's alone."""
        config = self.config
        follows = Switch(
            name="policy_weight", value=config.policy_weight, begin=config.model_steps, every=1
        )
        return Experience(sees_reference=True, inputs=(follows,))

    @property
    def segment(self) -> int:
        """Transitions that the model predicts ahead."""
        return self.config.segment

    @cached_property
    def model(self) -> DynamicsLearner:
        """The learner of the model alone."""
        return DynamicsLearner(self.robot, self.config, self.normaliser)

    @property
    def lr_scale(self) -> dict[str, float]:
        """The model's."""
        return {f"model.{name}": factor for name, factor in self.model.lr_scale.items()}

    def init(self, generator: torch.Generator) -> Params:
        """A fresh model, and a policy that does what the reference commands or rests."""
        sizes = (self._features.size, *self.config.policy_hidden, len(self.robot.actions))
        policy = init_mlp(sizes, members=1, generator=generator, last_scale=0.0)
        model = {f"model.{name}": value for name, value in self.model.init(generator).items()}
        return model | {f"policy.{name}": value for name, value in policy.items()}

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """The model's loss over the segments, and the policy's cost where `policy_weight` is."""
        cost = self.policy_cost(params, batch) * batch["weight"] * batch["policy_weight"]
        return self.model.loss(part(params, "model."), self._measured(batch)) + cost.mean()

    def policy_cost(self, params: Params, batch: TensorBatch) -> Tensor:
        """Mean cost per period of rollouts from the segments' starts, [rows], in usual rewards.

        Every member of the ensemble rolls on from its own prediction. The references are those
        recorded along the segment, then the last of them. The model is detached: what the policy
        would like to be true teaches it nothing.
        """
        config = self.config
        model = {name: value.detach() for name, value in part(params, "model.").items()}
        size = len(self.robot.observations)
        recorded = [batch["obs"][..., size:], *batch["next_obs"][..., size:].unbind(-2)]
        held = [recorded[-1]] * config.horizon
        references = (recorded + held)[: config.horizon]
        worth, outputs = self._rollout(
            model, part(params, "policy."), batch["obs"][..., :size], references
        )
        changes = [(b - a).square().mean((0, -1)) for a, b in itertools.pairwise(outputs)]
        return config.smoothness * sum(changes) / config.horizon - worth

    def action_value(
        self, params: Params, obs: Tensor, reference: Tensor, action: Tensor
    ) -> Tensor:
        """What actions come to per period if this very policy goes on after them, [rows].

        In the reward's unit, less the price of doubt, along a rollout of `horizon` in which the
        reference stays. Args [rows, ...], as of `policy_action`.
        """
        model, policy = part(params, "model."), part(params, "policy.")
        references = [reference] * self.config.horizon
        return self._rollout(model, policy, obs, references, action)[0] * self._reward_scale

    def _rollout(
        self,
        model: Params,
        policy: Params,
        start: Tensor,
        references: list[Tensor],
        first: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Mean reward less doubt of rollouts [rows], in usual rewards, and the policy's outputs.

        Args:
            model: of every member.
            policy: that acts.
            start: measurements, [rows, obs_dim].
            references: of each period, [rows, ref_dim].
            first: what is done in the first period, [rows, act_dim]; None: what the policy does.
        """
        members = self.config.members
        aims = [r.expand(members, *r.shape) for r in references]
        states, actions, outputs = [start.expand(members, *start.shape)], [], []
        for aim in aims:
            seen = torch.cat([states[-1], aim], dim=-1)
            if first is not None and not actions:
                actions.append(first.expand(members, *first.shape))
            else:
                outputs.append(self._output(policy, seen))
                actions.append(self._features.command(seen, outputs[-1]))
            states.append(self.model.predict(model, states[-1], actions[-1]))

        def along(values: list[Tensor]) -> Tensor:
            return torch.stack(values, dim=1)  # [members, horizon, rows, ...]

        after = along(states[1:])
        reward = self.reward(along(states[:-1]), along(actions), after, along(aims))
        doubt = self.config.doubt * self.model.disagreement(after).mean(0)
        return reward.mean((0, 1)) / self._reward_scale - doubt, outputs

    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """What the policy does, [..., act_dim] in the robot's units.

        Args:
            params: of this learner.
            obs: measurement now, [..., obs_dim].
            reference: what to follow now, [..., ref_dim].
        """
        seen = torch.cat([obs, reference], dim=-1)
        return self._features.command(seen, self._output(part(params, "policy."), seen))

    def expected(self, params: Params, obs: Tensor, action: Tensor) -> Tensor:
        """Next measurement by the members' mean, [..., obs_dim] as `obs`."""
        rows = (x.reshape(1, -1, x.shape[-1]) for x in (obs, action))
        each = (x.expand(self.config.members, -1, -1) for x in rows)
        return self.model.predict(part(params, "model."), *each).mean(0).reshape(obs.shape)

    def prediction_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """The model's squared error, per segment [rows]; what the gate compares."""
        return self.model.prediction_error(part(params, "model."), self._measured(batch))

    def _measured(self, batch: TensorBatch) -> TensorBatch:
        """The batch without its references."""
        size = len(self.robot.observations)
        return batch | {name: batch[name][..., :size] for name in ("obs", "next_obs")}

    def _output(self, policy: Params, seen: Tensor) -> Tensor:
        rows = self._features.state(seen).reshape(1, -1, self._features.size)
        return mlp(policy, rows).reshape(*seen.shape[:-1], -1)

    def __post_init__(self) -> None:
        if choices(self.robot):
            raise ValueError(
                f"robot '{self.robot.name}' has a choice as its action, through which no gradient "
                f"leads; train it with the learner actor_critic"
            )
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self.model, self._features, self._reward_scale

    @cached_property
    def _features(self) -> PolicyFeatures:
        return PolicyFeatures(self.robot, self.policy_normaliser)

    @cached_property
    def _reward_scale(self) -> Tensor:
        return torch.from_numpy(self.policy_normaliser.reward_scale)
