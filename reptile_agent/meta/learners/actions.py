"""What a stochastic policy chooses from: a Gaussian over commands, or one of some choices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reptile_agent.spec import RobotSpec, choices, limits


class Actions:
    """Distribution over one robot's actions; a policy network gives its `head` [..., head_dim].

    A Gaussian's head is the mean, then the logarithm of the standard deviation; its actions have
    their limits at -1 and 1, and what lies beyond is clipped on the way to the robot, not before,
    so that probabilities stay true. A choice's head holds the logits, its action [..., 1] the
    index.
    """

    def __init__(self, robot: RobotSpec) -> None:
        count = choices(robot)
        self.discrete = count > 0
        self.dim = len(robot.actions)
        self.outputs = count or self.dim
        """What the network has to give: means or logits."""
        # Here, because none is to be made inside vmap.
        self._low, self._high = map(torch.from_numpy, limits(robot.actions))
        self._indices = torch.arange(float(self.outputs))

    def sample(self, head: Tensor, noise: Tensor) -> Tensor:
        """An action [..., dim] of each head, from standard normal noise `[..., outputs]`.

        A choice takes the largest logit after Gumbel noise (arXiv 1611.01144, equation 1), which
        the normal noise is turned into.
        """
        if self.discrete:
            uniform = torch.special.ndtr(noise.double()).clamp(1e-12, 1 - 1e-12)
            gumbel = -(-uniform.log()).log()
            return (head + gumbel).argmax(-1, keepdim=True).to(head.dtype)
        mean, log_std = head.chunk(2, dim=-1)
        return mean + log_std.exp() * noise

    def log_prob(self, head: Tensor, action: Tensor) -> Tensor:
        """Logarithm of the probability (density) of actions [..., dim], [...]."""
        if self.discrete:
            return (head.log_softmax(-1) * self.encoded(action)).sum(-1)
        mean, log_std = head.chunk(2, dim=-1)
        z = (action - mean) * (-log_std).exp()
        return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, head: Tensor) -> Tensor:
        """Entropy in nats, [...]."""
        if self.discrete:
            log_p = head.log_softmax(-1)
            return -(log_p.exp() * log_p).sum(-1)
        _, log_std = head.chunk(2, dim=-1)
        return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def divergence(self, old: Tensor, new: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the new distribution from the old one, [...]."""
        if self.discrete:
            old_log, new_log = old.log_softmax(-1), new.log_softmax(-1)
            return (old_log.exp() * (old_log - new_log)).sum(-1)
        old_mean, old_log = old.chunk(2, dim=-1)
        new_mean, new_log = new.chunk(2, dim=-1)
        spread = (2 * old_log).exp() + (old_mean - new_mean).square()
        return (new_log - old_log + 0.5 * spread * (-2 * new_log).exp() - 0.5).sum(-1)

    def encoded(self, action: Tensor) -> Tensor:
        """An action as a network sees it, [..., outputs]: one-hot, or within its limits."""
        if self.discrete:
            return (action == self._indices).to(action.dtype)
        return action.clamp(-1.0, 1.0)

    def likeliest(self, head: Tensor) -> Tensor:
        """The action [..., dim] that is likelier than any other."""
        return head.argmax(-1, keepdim=True) if self.discrete else head.chunk(2, dim=-1)[0]

    def command(self, action: Tensor) -> Tensor:
        """What the robot is told, [..., dim] in its units and within its limits."""
        if self.discrete:
            return self._low + action
        middle, half = (self._high + self._low) / 2, (self._high - self._low) / 2
        return (middle + half * action).clamp(self._low, self._high)
