"""What drives a robot with a learner's parameters: a planner, or a policy network."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from reptile_agent.meta.learner import Params
from reptile_agent.spec import RobotSpec


class Driver(Protocol):
    """Chooses actions; pure, so that it is vmapped over lanes and traced into ONNX."""

    @property
    def robot(self) -> RobotSpec:
        """What it drives."""
        ...

    @property
    def horizon(self) -> int:
        """Control periods of reference that it looks at, and of the plan that it keeps."""
        ...

    @property
    def exploration(self) -> tuple[float, ...]:
        """Usual variation of each action, in its unit: the measure of exploration."""
        ...

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of the noise that a call needs: samples, horizon, act_dim; samples may be 0."""
        ...

    def __call__(
        self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One control period.

        Args:
            params: of the learner.
            obs: measurement now, [obs_dim].
            reference: what to follow in the next periods, [horizon, ref_dim].
            plan: what this function returned one period ago; zeros at first, [horizon, act_dim].
            noise: standard normal, `noise_shape`.

        Returns:
            Action [act_dim], the new plan [horizon, act_dim], and the measurement that is expected
            after the action [obs_dim]; a policy that expects nothing returns `obs`. A policy's plan
            is its action.
        """
        ...

    def value(self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor) -> Tensor:
        """What plans come to per control period as these parameters see it, [plans].

        Args:
            params: of the learner that judges.
            obs: measurement now, [obs_dim].
            reference: what to follow in the next periods, [horizon, ref_dim].
            plan: plans as a call returns them, [plans, horizon, act_dim].
        """
        ...
