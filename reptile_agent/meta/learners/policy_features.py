"""What policies and critics see and say: normalised signals in, actions within limits out.

A policy that follows something sees how far away it is (reference minus measurement), and acts
around what the reference itself would command, so that it only learns what to add.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reptile_agent.spec import RobotSpec, limits


@dataclass(frozen=True)
class PolicyNormaliser:
    """Shift and scale of what a policy and a critic see, measured on data; float32 arrays."""

    obs_mean: np.ndarray
    obs_std: np.ndarray
    distance: np.ndarray
    """Root mean square of reference minus measurement, [ref_dim]."""
    action_mean: np.ndarray
    """Of the action, or of command minus position where the action positions a joint."""
    action_std: np.ndarray
    offset_std: np.ndarray
    """Of the action around what the reference would command, or zero where it commands none."""
    reward_mean: np.ndarray
    """[1]; a critic's output starts from it."""
    reward_scale: np.ndarray
    """[1]: standard deviation, but at least a tenth of the mean, so that values stay small."""

    @classmethod
    def fit(
        cls,
        robot: RobotSpec,
        obs: np.ndarray,
        reference: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
    ) -> PolicyNormaliser:
        """Measure on transitions; what never changes gets scale 1.

        Args:
            robot: whose.
            obs: measurement, [n, obs_dim].
            reference: what was to be followed when it was made, [n, ref_dim].
            action: [n, act_dim].
            reward: [n].
        """
        servo, base = robot.servo_columns(), robot.action_reference_columns()
        relative = action - np.where(servo >= 0, obs[:, servo], 0.0)
        offset = action - np.where(base >= 0, reference[:, base], 0.0)
        error = reference - obs[:, robot.reference_columns]
        mean = reward.mean(dtype=np.float64)

        def scale(x: np.ndarray) -> np.ndarray:
            return np.where(x > 1e-6, x, 1.0).astype(np.float32)

        return cls(
            obs_mean=obs.mean(axis=0, dtype=np.float64).astype(np.float32),
            obs_std=scale(obs.std(axis=0, dtype=np.float64)),
            distance=scale(np.sqrt(np.square(error, dtype=np.float64).mean(axis=0))),
            action_mean=relative.mean(axis=0, dtype=np.float64).astype(np.float32),
            action_std=scale(relative.std(axis=0, dtype=np.float64)),
            offset_std=scale(offset.std(axis=0, dtype=np.float64)),
            reward_mean=np.array([mean], np.float32),
            reward_scale=scale(np.array([max(reward.std(dtype=np.float64), 0.1 * abs(mean))])),
        )


@dataclass(frozen=True)
class PolicyFeatures:
    """The way into and out of a policy's networks for one robot, torch, any leading axes.

    What is *seen* is a measurement with the reference of its moment behind it, [..., obs_dim +
    ref_dim].
    """

    robot: RobotSpec
    normaliser: PolicyNormaliser

    @property
    def size(self) -> int:
        """Numbers that a network gets."""
        signals = (*self.robot.observations, *self.robot.references)
        return len(signals) + sum(signal.periodic for signal in signals)

    def state(self, seen: Tensor) -> Tensor:
        """Features [..., size]: angles without end stops as sine and cosine."""
        c = self._constants
        plain = seen @ c["relative"] - c["mean"]
        angle = seen @ c["angle"]
        turning = [angle.sin(), angle.cos()] if angle.shape[-1] else []
        return torch.cat([plain, *turning], dim=-1)

    def action(self, seen: Tensor, action: Tensor) -> Tensor:
        """Features [..., act_dim] of an action: a servo's command relative to where it stands."""
        c = self._constants
        return (action - seen @ c["servo"] - c["action_mean"]) / c["action_std"]

    def command(self, seen: Tensor, output: Tensor) -> Tensor:
        """A network's output [..., act_dim] as an action in the robot's units, within limits.

        An output of zero commands what the reference would, or the middle of the limits; one of
        size 1 moves it by about two of the usual offsets.
        """
        c = self._constants
        start = (seen @ c["base"] - c["base_middle"]).clamp(-0.99, 0.99).atanh()
        return c["middle"] + c["half"] * torch.tanh(start + c["gain"] * output)

    def vary(self, action: Tensor, amount: Tensor) -> Tensor:
        """An action moved by so many usual offsets, and brought back within its limits."""
        c = self._constants
        return (action + amount * c["offset_std"]).clamp(c["low"], c["high"])

    def usual_offsets(self, difference: Tensor) -> Tensor:
        """A difference of actions, counted in usual offsets."""
        return difference / self._constants["offset_std"]

    def __post_init__(self) -> None:
        # Made here once: a tensor made inside vmap or grad would be theirs, and outlive them.
        _ = self._constants

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        # Matrices that pick columns, instead of indices: their gradient needs no scatter. Scales
        # are divided by here and not in every call: a robot's graph takes its time node by node.
        robot, n = self.robot, self.normaliser
        observed, followed = len(robot.observations), len(robot.references)
        everything = np.eye(observed + followed)
        # Column of a reference: plus itself, minus what is measured of it.
        for i, column in enumerate(robot.reference_columns):
            everything[column, observed + i] = -1.0
        periodic = np.array([s.periodic for s in (*robot.observations, *robot.references)])
        base = np.equal.outer(np.arange(followed), robot.action_reference_columns())
        servo = np.equal.outer(np.arange(observed), robot.servo_columns())
        low, high = limits(robot.actions)
        middle, half = (low + high) / 2, (high - low) / 2
        scale = np.append(n.obs_std, n.distance)[~periodic]
        arrays = {
            "relative": everything[:, ~periodic] / scale,
            "angle": everything[:, periodic],
            "mean": np.append(n.obs_mean, np.zeros(followed))[~periodic] / scale,
            "servo": np.pad(servo, ((0, followed), (0, 0))),
            "base": np.pad(base, ((observed, 0), (0, 0))) / half,
            "base_middle": np.where(base.any(axis=0), middle, 0.0) / half,
            "middle": middle,
            "half": half,
            "low": low,
            "high": high,
            "gain": np.minimum(2 * n.offset_std / half, 1.0),
            "action_mean": n.action_mean,
            "action_std": n.action_std,
            "offset_std": n.offset_std,
        }
        return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items()}
