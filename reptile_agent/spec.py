"""What a robot reads and obeys: every signal by name, with its joint, unit and limits.

A RobotSpec travels inside the bundle, so that the robot's side can match signals *by name* and
refuse what does not fit. Floor 1: numpy and pydantic only.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Quantity = Literal["position", "velocity", "effort"]
LIMITS = {"low", "high", "max_rate", "max_acceleration", "may_rest"}
"""Of a signal: what may be stricter in another bundle of the same robot; all else names it."""


class Signal(BaseModel):
    """One scalar that a robot measures, follows or is commanded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    joint: str = Field(min_length=1)
    """Name of the joint as the robot's drivers publish it."""
    quantity: Quantity
    """What of the joint this is."""
    unit: str = Field(min_length=1)
    """SI unit: rad, m, rad/s, m/s, N, N m."""
    low: float
    """Smallest value that is still believed (observation) or ever sent (action)."""
    high: float
    """Largest value that is still believed (observation) or ever sent (action)."""
    max_rate: float | None = None
    """Largest change per second of an action; None where any change is allowed."""
    max_acceleration: float | None = None
    """Largest change per second of an action's rate, per second; None where any is allowed."""
    may_rest: bool = False
    """True for an observation that may stay the same to the bit while commands change (a goal, a
    counter): then that is no sign of a frozen sensor."""
    periodic: bool = False
    """True for an angle that has no end stops: learners see its sine and cosine."""

    @model_validator(mode="after")
    def _check_range(self) -> Signal:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"signal '{self.name}' needs finite limits with low < high, "
                f"got [{self.low}, {self.high}]"
            )
        for limit in ("max_rate", "max_acceleration"):
            found = getattr(self, limit)
            if found is not None and not 0 < found < math.inf:
                raise ValueError(f"signal '{self.name}' needs {limit} > 0, got {found}")
        return self

    @property
    def name(self) -> str:
        """`joint.quantity`, unique among a robot's observations."""
        return f"{self.joint}.{self.quantity}"


class RobotSpec(BaseModel):
    """A robot as a learner sees it: ordered signals and the period of its control."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    control_period_s: float = Field(gt=0, le=10)
    observations: tuple[Signal, ...] = Field(min_length=1)
    actions: tuple[Signal, ...] = Field(min_length=1)
    references: tuple[Signal, ...] = Field(min_length=1)
    """What the robot is asked to follow; each is one of the observations."""

    @model_validator(mode="after")
    def _check_names(self) -> RobotSpec:
        for role in ("observations", "actions", "references"):
            names = [signal.name for signal in getattr(self, role)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{role} of robot '{self.name}' name {twice} twice")
        missing = {s.name for s in self.references} - {s.name for s in self.observations}
        if missing:
            raise ValueError(f"references {sorted(missing)} are not among the observations")
        return self

    @property
    def observed_joints(self) -> tuple[str, ...]:
        """Joints that must be in every measurement, in order of first appearance."""
        return tuple(dict.fromkeys(s.joint for s in self.observations))

    @property
    def reward_signals(self) -> dict[str, tuple[Signal, ...]]:
        """What the reward of a control period is a function of, in the order of its arguments."""
        return {
            "obs": self.observations,
            "action": self.actions,
            "next_obs": self.observations,
            "reference": self.references,
        }

    @property
    def reference_columns(self) -> np.ndarray:
        """Index of each reference signal among the observations, int [reference_dim]."""
        names = [s.name for s in self.observations]
        return np.array([names.index(s.name) for s in self.references])

    def servo_columns(self) -> np.ndarray:
        """Observation measured by the joint that each action positions, int [act_dim]; -1: none.

        A position servo's torque follows command minus position, so that this difference, not the
        command itself, is what a model of the robot should see.
        """
        names = [s.name for s in self.observations]
        return np.array(
            [
                names.index(a.name) if a.quantity == "position" and a.name in names else -1
                for a in self.actions
            ]
        )

    def measured_columns(self, quantity: Quantity) -> np.ndarray:
        """Observation of a quantity of each action's joint, int [act_dim]; -1: not measured."""
        names = [s.name for s in self.observations]
        wanted = [f"{a.joint}.{quantity}" for a in self.actions]
        return np.array([names.index(name) if name in names else -1 for name in wanted])

    def action_reference_columns(self) -> np.ndarray:
        """Reference that each action would command directly, int [act_dim]; -1 where none is."""
        names = [s.name for s in self.references]
        return np.array(
            [
                names.index(a.name) if a.quantity == "position" and a.name in names else -1
                for a in self.actions
            ]
        )


def commanded(reference: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What references [..., ref_dim] command directly, zero where an action has none.

    Args:
        reference: what is to be followed.
        columns: `RobotSpec.action_reference_columns()`.

    Returns:
        Actions, [..., act_dim].
    """
    return np.where(columns >= 0, reference[..., columns], 0.0)


def choices(robot: RobotSpec) -> int:
    """How many choices the robot's action has, 0 where it is continuous.

    Raises:
        ValueError: a choice beside other actions, which no learner here handles.
    """
    chosen = [action for action in robot.actions if action.unit == "choice"]
    if not chosen:
        return 0
    if len(robot.actions) > 1:
        raise ValueError(
            f"robot '{robot.name}' has {len(robot.actions)} actions, of which '{chosen[0].name}' "
            f"is a choice; only a single choice can be learned: number the combinations"
        )
    return round(chosen[0].high - chosen[0].low) + 1


def limits(signals: tuple[Signal, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of signals as float32 arrays `[len(signals)]`."""
    low = np.array([s.low for s in signals], np.float32)
    high = np.array([s.high for s in signals], np.float32)
    return low, high
