"""Learner `dynamics`: an ensemble that predicts the next measurement; needs no reward on board.

It sees normalised measurements, angles without end stops as sine and cosine, and, where an
action positions a joint, the difference between command and measured position, because a
servo's torque follows that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reptile_agent.meta.learner import Params, RobotLearner, TensorBatch
from reptile_agent.meta.networks import init_context, init_mlp, mlp
from reptile_agent.spec import RobotSpec


@dataclass(frozen=True)
class DynamicsConfig:
    """Size of the model."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    members: int = 2
    """Networks in the ensemble."""
    segment: int = 3
    """Consecutive transitions that the loss predicts ahead."""
    context: int = 16
    """Numbers that every hidden layer is scaled and shifted by, zero at first: what tells one task
    from another in a few inner steps; 0 for none."""
    context_lr: float = 20.0
    """Inner step size of the context, in units of the other parameters'."""


@dataclass(frozen=True)
class Normaliser:
    """Shift and scale of inputs and outputs, measured on training data; float32 arrays."""

    obs_mean: np.ndarray
    obs_std: np.ndarray
    action_mean: np.ndarray
    """Of the action, or of command minus position where the action positions a joint."""
    action_std: np.ndarray
    delta_std: np.ndarray
    """Of one period's change of each measurement."""

    @classmethod
    def fit(
        cls, robot: RobotSpec, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray
    ) -> Normaliser:
        """Measure on transitions [n, ...]; what never changes gets scale 1."""
        servo = robot.servo_columns()
        relative = action - np.where(servo >= 0, obs[:, servo], 0.0)

        def std(x: np.ndarray) -> np.ndarray:
            value = x.std(axis=0, dtype=np.float64)
            return np.where(value > 1e-6, value, 1.0).astype(np.float32)

        return cls(
            obs_mean=obs.mean(axis=0, dtype=np.float64).astype(np.float32),
            obs_std=std(obs),
            action_mean=relative.mean(axis=0, dtype=np.float64).astype(np.float32),
            action_std=std(relative),
            delta_std=std(next_obs - obs),
        )


@dataclass(frozen=True)
class DynamicsLearner(RobotLearner):
    """Ensemble model of one robot."""

    robot: RobotSpec
    config: DynamicsConfig
    normaliser: Normaliser

    @property
    def segment(self) -> int:
        """Transitions that the loss predicts ahead."""
        return self.config.segment

    @property
    def lr_scale(self) -> dict[str, float]:
        """The context moves faster than the rest."""
        return {"context": self.config.context_lr} if self.config.context else {}

    def init(self, generator: torch.Generator) -> Params:
        """Fresh members that predict almost no change."""
        periodic = sum(s.periodic for s in self.robot.observations)
        inputs = len(self.robot.observations) + periodic + len(self.robot.actions)
        sizes = (inputs, *self.config.hidden, len(self.robot.observations))
        config = self.config
        params = init_mlp(sizes, config.members, generator, last_scale=0.1)
        if config.context:
            params |= init_context(config.context, config.hidden, config.members, generator)
        return params

    def predict(self, params: Params, obs: Tensor, action: Tensor) -> Tensor:
        """Next measurement by each member, [members, rows, obs_dim] as `obs`."""
        c = self._constants
        delta = mlp(params, self._features(obs, action))
        return obs + delta * c["delta_std"]

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """Mean squared error in units of one period's usual change, over the segment.

        Each member predicts on from its own last prediction. Members are summed, so that each
        one's gradient is that of its own loss, however many there are.
        """
        error = self._segment_error(params, batch).square().mean(dim=(-2, -1))
        return (error * batch["weight"]).mean(-1).sum()

    def prediction_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """Squared error of the members' mean, per segment [rows]; what the gate compares."""
        return self._segment_error(params, batch).mean(0).square().mean((-2, -1))

    def disagreement(self, predicted: Tensor) -> Tensor:
        """Variance between members [members, rows, obs_dim] -> [rows], in usual changes squared."""
        off = (predicted - predicted.mean(0)) / self._constants["delta_std"]
        return off.square().mean((0, -1))

    def _segment_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """Error [members, rows, segment, obs_dim] in units of one period's usual change."""
        members = self.config.members
        obs = batch["obs"].expand(members, *batch["obs"].shape)
        errors = []
        for t in range(batch["action"].shape[-2]):
            action = batch["action"][..., t, :].expand(members, *batch["action"][..., t, :].shape)
            obs = self.predict(params, obs, action)
            errors.append((obs - batch["next_obs"][..., t, :]) / self._constants["delta_std"])
        return torch.stack(errors, dim=-2)

    def _features(self, obs: Tensor, action: Tensor) -> Tensor:
        c = self._constants
        plain = ((obs - c["obs_mean"]) / c["obs_std"]) @ c["plain"]
        angle = obs @ c["periodic"]
        turning = [angle.sin(), angle.cos()] if angle.shape[-1] else []
        relative = (action - obs @ c["servo"] - c["action_mean"]) / c["action_std"]
        return torch.cat([plain, *turning, relative], dim=-1)

    def __post_init__(self) -> None:
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self._constants

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        # Matrices that pick columns, instead of indices: their gradient needs no scatter.
        size = len(self.robot.observations)
        periodic = np.array([signal.periodic for signal in self.robot.observations])
        servo = np.equal.outer(np.arange(size), self.robot.servo_columns())
        n = self.normaliser
        arrays = {
            "obs_mean": n.obs_mean,
            "obs_std": n.obs_std,
            "action_mean": n.action_mean,
            "action_std": n.action_std,
            "delta_std": n.delta_std,
            "plain": np.eye(size)[:, ~periodic],
            "periodic": np.eye(size)[:, periodic],
            "servo": servo,
        }
        return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items()}
