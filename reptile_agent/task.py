"""What a task family has to offer: the only thing that meta-learning knows of simulation.

A *task* is one robot variant (this payload, that worn servo). A *family* makes simulators for
any list of tasks. `sim/families/` implements these protocols; a robot of your own does too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from reptile_agent.spec import RobotSpec

if TYPE_CHECKING:
    from torch import Tensor

Task = dict[str, float]
"""Variation name -> value; what is not named is nominal."""


@dataclass(frozen=True)
class Planning:
    """How a planner should vary and weigh plans.

    What is right depends on the unit of the reward, and on how fast an action shows in it: a
    smoothness that is nothing beside an arm's errors keeps a base from following at all.
    """

    correlation: float = 0.5
    """Of the variation of an action from one period to the next, from 0 to below 1."""
    temperature: float = 0.35
    """Softness of the weighting, in standard deviations of the plans' returns: the lower, the more
    the model is trusted."""
    smoothness: float = 0.1
    """Cost, in the reward's unit, of a change of the plan between two periods, squared in units of
    `plan_noise`."""

    def __post_init__(self) -> None:
        if not (0 <= self.correlation < 1 and self.temperature > 0 and self.smoothness >= 0):
            raise ValueError(
                f"{self}: correlation must be 0 or more and below 1, temperature above 0, "
                f"smoothness 0 or more"
            )


class VecSim(Protocol):
    """Tasks simulated side by side, in step: one lane each."""

    num_envs: int
    obs: np.ndarray
    """Last observations, float32 [num_envs, obs_dim]."""

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """Start lanes anew; returns observations float32 [num_envs, obs_dim].

        Args:
            seed: of everything that is drawn at a start.
            lanes: which, bool [num_envs]; None: all.
        """
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance one control period; returns obs, reward, terminated, truncated.

        A lane whose episode ended goes on from where it is until `reset` starts it anew.

        Shapes: action [num_envs, act_dim]; obs float32 [num_envs, obs_dim]; the others [num_envs].
        """
        ...

    def reference(self, horizon: int) -> np.ndarray:
        """What to follow in the next `horizon` periods, float32 [num_envs, horizon, ref_dim]."""
        ...

    def set_tasks(self, tasks: list[Task]) -> None:
        """Change the variants in mid-motion (a fault); the state of motion stays."""
        ...


@runtime_checkable
class ForesightSim(VecSim, Protocol):
    """A simulator that can tell what plans would come to, which no real robot can."""

    def foresee(self, actions: np.ndarray) -> np.ndarray:
        """Mean objective per period of plans from where the lanes are, which do not move.

        Shapes: actions [num_envs, plans, horizon, act_dim] -> float32 [num_envs, plans].
        """
        ...

    def follow(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where plans lead from where the lanes are, which do not move.

        Returns:
            What perfect sensors would see before, between and after the periods, float32
            [num_envs, plans, horizon + 1, obs_dim], and which periods count: those until the
            episode would end or physics diverges, bool [num_envs, plans, horizon].
        """
        ...


class TaskFamily(Protocol):
    """A robot, what may vary about it, and what it is asked to do."""

    name: str
    robot: RobotSpec
    episode_steps: int
    """Control periods after which an episode is cut."""
    plan_horizon: int
    """Control periods that a planner should look ahead."""
    plan_noise: tuple[float, ...]
    """Standard deviation with which a planner should vary each action, in the action's unit."""
    planning: Planning
    """How else it should vary plans, and weigh them."""

    def splits(self) -> dict[str, list[Task]]:
        """Frozen lists of tasks: train, validation, in_range, extrapolated, held_out, infeasible.

        The last holds what was drawn for the others and no controller can solve; it may be empty.
        """
        ...

    def make_sim(self, tasks: list[Task]) -> VecSim:
        """A simulator with one lane per task."""
        ...

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """Reward of a transition, torch, any leading axes; see `objective_of` too.

        Shapes: obs, next_obs [..., obs_dim]; action [..., act_dim]; reference [..., ref_dim].
        """
        ...

    def feasible(self, task: Task) -> bool:
        """Whether a controller could solve the task, by a stated static test."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Variations as rows of name, unit, ranges and reason."""
        ...


def objective_of(family: TaskFamily) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """What plans are weighed by, traced into the planner's graph; nothing is judged by it.

    A family may have a method `objective`, with the arguments and shapes of `reward`: the reward,
    less what a plan costs only beyond its horizon. Without one it is the reward.
    """
    return getattr(family, "objective", family.reward)
