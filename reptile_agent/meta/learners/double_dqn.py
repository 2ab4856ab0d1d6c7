"""Double DQN: values of every choice, for robots whose action is one (van Hasselt et al. 2015,
arXiv 1509.06461).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.temporal_difference import (
    TemporalDifferenceLearner,
    named,
    part,
)
from reptile_agent.meta.networks import init_mlp, mlp
from reptile_agent.spec import choices


@dataclass(frozen=True)
class DoubleDqnLearner(TemporalDifferenceLearner):
    """A network `critic.*` that values every choice; the policy takes the best.

    A choice travels as a number from `low` to `high`, rounded by whoever obeys it. Smoothing,
    delay and cloning of the config have no meaning here.
    """

    def init(self, generator: torch.Generator) -> Params:
        """A fresh network, and its target."""
        sizes = (self._features.size, *self.config.hidden, choices(self.robot))
        return named("critic.", init_mlp(sizes, 1, generator))

    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """The choice of the highest value, [..., 1]; see the base."""
        seen = torch.cat([obs, reference], dim=-1)
        best = self._every_value(part(params, "critic."), seen).argmax(-1, keepdim=True)
        return best + self._choice[0]

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """Squared TD error."""
        return self._critic_loss(params, batch, self.target(params, batch))

    def _values(self, critic: Params, seen: Tensor, action: Tensor) -> Tensor:
        taken = action.round() == self._choice
        return (self._every_value(critic, seen) * taken).sum(-1)[None]

    def _next_value(self, params: Params, seen: Tensor, smoothing: Tensor | None) -> Tensor:
        """The target network's value of what the learning one would choose (equation 4)."""
        del smoothing
        best = self._every_value(part(params, "critic."), seen).argmax(-1, keepdim=True)
        return self._values(part(params, "target.critic."), seen, best + self._choice[0])[0]

    def _every_value(self, critic: Params, seen: Tensor) -> Tensor:
        """Value of every choice, [..., choices]."""
        rows = self._features.state(seen).reshape(1, -1, self._features.size)
        return self._usual + mlp(critic, rows).reshape(*seen.shape[:-1], -1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._choice

    @cached_property
    def _choice(self) -> Tensor:
        """Every choice as it travels, [choices]."""
        return self.robot.actions[0].low + torch.arange(float(choices(self.robot)))
