"""One step of experience, and the minibatch made of many: the words all stations share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Transition:
    """What one control period left behind, for `lanes` robots at once (on board: one)."""

    obs: np.ndarray
    """What was measured when the action was chosen, float32 [lanes, obs_dim]."""
    action: np.ndarray
    """What was commanded, float32 [lanes, act_dim]."""
    next_obs: np.ndarray
    """What was measured one control period later, float32 [lanes, obs_dim]."""
    reward: np.ndarray
    """Reward of the period, float32 [lanes]."""
    first: np.ndarray
    """True where this transition does not continue the one before, bool [lanes]."""
    terminated: np.ndarray | None = None
    """True where the episode ended for good in this transition, bool [lanes]; None: nowhere."""
    reference: np.ndarray | None = None
    """What was to be followed from `obs` on, a row for each control period, float32 [lanes, rows,
    ref_dim]; None: not known. A replay does not keep it."""


def with_reference(transition: Transition) -> Transition:
    """The transition with the reference of its moment behind each measurement.

    Raises:
        ValueError: it does not know the references of both its moments.
    """
    reference = transition.reference
    if reference is None or reference.shape[1] < 2:
        raise ValueError(
            "the learner sees references, and the transition does not say what was to be followed "
            "before and after it; a policy_node with the same bundle does"
        )
    return dataclasses.replace(
        transition,
        obs=np.concatenate([transition.obs, reference[:, 0]], axis=1),
        next_obs=np.concatenate([transition.next_obs, reference[:, 1]], axis=1),
    )


def read_message(message: Any, continues: bool, references: int) -> Transition:
    """A reptile_agent_msgs/msg/Transition as a one-lane transition; `Replay.push` checks the rest.

    Args:
        message: as ROS or a bag gave it.
        continues: whether it is the one after the last; else one was lost in between.
        references: signals that the robot follows.

    Raises:
        ValueError: the reference is not of whole rows.
    """
    reference = np.array(message.reference, np.float32)
    if reference.size % references:
        raise ValueError(f"reference has {reference.size} numbers, no rows of {references}")
    return Transition(
        obs=np.array(message.observation, np.float32)[None],
        action=np.array(message.action, np.float32)[None],
        next_obs=np.array(message.next_observation, np.float32)[None],
        reward=np.array([message.reward], np.float32),
        first=np.array([message.first or not continues]),
        reference=reference.reshape(1, -1, references) if reference.size else None,
    )


Batch = dict[str, np.ndarray]
"""Segments of consecutive transitions, float32; leading axes (tasks, inner steps) may lead:

- `obs` [..., batch, obs_dim]: measurement at the segment's start;
- `action` [..., batch, segment, act_dim]: actions along it;
- `next_obs` [..., batch, segment, obs_dim]: measurements that followed;
- `weight` [..., batch]: share of each segment in the loss; averages to 1;

and where it is asked for:

- `reward` [..., batch, segment]: reward of each period;
- `terminated` [..., batch, segment]: 1 where the episode ended for good, else 0;
- `age` [..., batch]: transitions since the segment's start, int; the newest has 0.
"""
