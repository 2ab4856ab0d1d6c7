"""A policy network as a driver: one forward pass per control period, no plan, no noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from reptile_agent.meta.learner import Params
from reptile_agent.spec import RobotSpec


class Policy(Protocol):
    """A learner that acts by itself."""

    @property
    def robot(self) -> RobotSpec:
        """Whose policy it is."""
        ...

    def policy_action(self, params: Params, obs: Tensor, reference: Tensor) -> Tensor:
        """Action [..., act_dim] for obs [..., obs_dim] and reference [..., ref_dim] of now."""
        ...

    def action_value(
        self, params: Params, obs: Tensor, reference: Tensor, action: Tensor
    ) -> Tensor:
        """What actions are worth per control period, [rows]; all arguments are [rows, ...]."""
        ...


@dataclass(frozen=True)
class PolicyDriver:
    """Drives by a learner's policy; see `reptile_agent.meta.driver.Driver`."""

    learner: Policy
    exploration: tuple[float, ...]
    """Usual variation of each action, in its unit."""

    @property
    def robot(self) -> RobotSpec:
        """What it drives."""
        return self.learner.robot

    @property
    def horizon(self) -> int:
        """It looks at the reference of now alone."""
        return 1

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """It needs no noise."""
        return (0, 1, len(self.robot.actions))

    def __call__(
        self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One control period: the policy's action, which is its plan too, and `obs` expected."""
        del plan, noise
        # A row and not a vector: what is traced has fewer nodes so, and each takes its time.
        action = self.learner.policy_action(params, obs[None], reference)[0]
        return action, action[None].clone(), obs.clone()

    def value(self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor) -> Tensor:
        """What actions `[rows, 1, act_dim]` are worth now, per control period, [rows].

        The judging parameters' own policy goes on after them, so that the mean of differences over
        visited states tells whether another policy is better (Kakade and Langford 2002, lemma 6.1).
        """
        rows = plan.shape[0]
        aim = reference[0].expand(rows, -1)
        return self.learner.action_value(params, obs.expand(rows, -1), aim, plan[:, 0])
