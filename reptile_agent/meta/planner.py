"""MPPI: plan by weighting noisy rollouts of the model (Williams et al. 2017, arXiv 1707.02342).

A pure function like the inner loop: noise and last plan come in, action and plan go out, so
that it is vmapped over tasks offline and traced into ONNX for the robot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reptile_agent.meta.learner import Params
from reptile_agent.meta.learners.dynamics import DynamicsLearner
from reptile_agent.spec import RobotSpec, limits
from reptile_agent.task import Planning, TaskFamily

Reward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PlannerConfig(Planning):
    """How far and how finely to look ahead, beside how plans are varied and weighed."""

    horizon: int
    """Control periods ahead."""
    noise: tuple[float, ...]
    """Standard deviation of each action's variation, in the action's unit."""
    samples: int = 64
    """Noisy plans tried per period; each is rolled out by every member of the ensemble."""
    doubt: float = 0.0
    """Cost of the ensemble's disagreement, squared in units of one period's usual change."""

    @classmethod
    def of(cls, family: TaskFamily) -> PlannerConfig:
        """As the family would have it; one that says nothing of `planning` has the defaults."""
        planning = asdict(getattr(family, "planning", Planning()))
        return cls(horizon=family.plan_horizon, noise=tuple(family.plan_noise), **planning)

    def colour(self) -> np.ndarray:
        """What white noise [horizon] is multiplied by to be correlated, [horizon, horizon]."""
        lag = np.abs(np.subtract.outer(np.arange(self.horizon), np.arange(self.horizon)))
        return np.linalg.cholesky(self.correlation**lag)

    def variations(self, rng: np.random.Generator, lanes: int, plans: int) -> np.ndarray:
        """Correlated noise to vary plans by, [lanes, plans, horizon, act_dim], in actions' units.

        For planning outside the graph, which is handed white noise and colours it itself.
        """
        white = rng.standard_normal((lanes, plans, self.horizon, len(self.noise)))
        return np.einsum("ht,lnta->lnha", self.colour(), white) * np.array(self.noise)


@dataclass(frozen=True)
class Planner:
    """Plans for one robot with one learner's model.

    A plan `[horizon, act_dim]` is kept relative to what the reference itself would command (a
    position servo's target), or to zero where an action has no reference of its own.
    """

    learner: DynamicsLearner
    config: PlannerConfig
    reward: Reward

    def __call__(
        self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One period.

        Args:
            params: of the model.
            obs: measurement now, [obs_dim].
            reference: what to follow in the next periods, [horizon, ref_dim].
            plan: what this function returned one period ago; zeros at first, [horizon, act_dim].
            noise: standard normal, [samples, horizon, act_dim].

        Returns:
            Action [act_dim], the new plan [horizon, act_dim], and the measurement that the model
            expects after the action [obs_dim].
        """
        c = self._constants
        members = self.learner.config.members
        base = reference @ c["base"]
        shifted = torch.cat([plan[1:], plan[-1:]])
        varied = torch.einsum("ht,nta->nha", c["colour"], noise) * c["noise"] * c["keep_first"]
        actions = (base + shifted + varied).clamp(c["low"], c["high"])
        offsets = actions - base

        rough = -self.config.smoothness * self._roughness(offsets, plan[:1])
        value = self.imagine(params, obs, reference, actions, rough)
        spread = (value - value.mean()).square().mean().sqrt() + 1e-6
        weight = torch.softmax(value / (self.config.temperature * spread), dim=0)
        new_plan = torch.einsum("n,nha->ha", weight, offsets)
        action = (base[0] + new_plan[0]).clamp(c["low"], c["high"])
        both = (members, 1, -1)
        expected = self.learner.predict(params, obs.expand(both), action.expand(both)).mean((0, 1))
        return action, new_plan, expected

    def imagine(
        self, params: Params, obs: Tensor, reference: Tensor, actions: Tensor, value: Tensor
    ) -> Tensor:
        """What plans come to as the model sees it, per control period, [plans].

        Args:
            params: of the model.
            obs: measurement now, [obs_dim].
            reference: what to follow in the next periods, [horizon, ref_dim].
            actions: of each plan, [plans, horizon, act_dim].
            value: what each is worth before it begins, [plans].
        """
        rows = actions.expand(self.learner.config.members, *actions.shape)
        state = obs.expand(*rows.shape[:2], obs.shape[-1])
        for t in range(self.config.horizon):
            after = self.learner.predict(params, state, rows[:, :, t])
            reward = self.reward(state, rows[:, :, t], after, reference[t]).mean(0)
            doubt = self.learner.disagreement(after) * self.config.doubt
            value = value + (reward - doubt) / self.config.horizon
            state = after
        return value

    def value(self, params: Params, obs: Tensor, reference: Tensor, plan: Tensor) -> Tensor:
        """What plans `[plans, horizon, act_dim]` come to; `imagine`, smooth or not."""
        nothing = torch.zeros_like(plan[:, 0, 0])
        return self.imagine(params, obs, reference, self.actions(plan, reference), nothing)

    def actions(self, plan: Tensor, reference: Tensor) -> Tensor:
        """What a plan `[horizon, act_dim]` commands, [horizon, act_dim]."""
        c = self._constants
        return (reference @ c["base"] + plan).clamp(c["low"], c["high"])

    def _roughness(self, offsets: Tensor, last: Tensor) -> Tensor:
        """Mean squared change of plans [samples, horizon, act_dim] from `last` [1, act_dim] on."""
        before = torch.cat([last.expand(offsets.shape[0], 1, -1), offsets[:, :-1]], dim=1)
        return ((offsets - before) / self._constants["noise"]).square().mean((-1, -2))

    @property
    def robot(self) -> RobotSpec:
        """What it drives."""
        return self.learner.robot

    @property
    def horizon(self) -> int:
        """Control periods that it looks ahead."""
        return self.config.horizon

    @property
    def exploration(self) -> tuple[float, ...]:
        """How it varies each action."""
        return self.config.noise

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of the noise that a call needs."""
        return (self.config.samples, self.config.horizon, len(self.config.noise))

    def __post_init__(self) -> None:
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self._constants

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        config, robot = self.config, self.learner.robot
        colour = config.colour()
        columns = robot.action_reference_columns()
        base = np.zeros((len(robot.references), columns.size))
        for action, reference in enumerate(columns):
            if reference >= 0:
                base[reference, action] = 1.0
        low, high = limits(robot.actions)
        keep_first = np.ones((config.samples, 1, 1))
        keep_first[0] = 0.0  # one sample is the last plan itself
        arrays = {
            "colour": colour,
            "noise": np.array(config.noise),
            "base": base,
            "low": low,
            "high": high,
            "keep_first": keep_first,
        }
        return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items()}
