"""Prioritized replay: what a learner was most wrong about is drawn more often.

Schaul et al. 2016 (arXiv 1511.05952), proportional, within each task: every task gives equally
many segments. The error is the learner's `prediction_error` (critics: the TD error; models: a
squared one), as it was when the segment was drawn last; never drawn counts as the largest so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reptile_agent.meta.learner import RobotLearner
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch

SMALLEST = 1e-3
"""Added to every error, so that no segment is out of reach for ever."""


@dataclass
class Priorities:
    """Errors of everything that a replay holds, which has not begun to forget."""

    alpha: float
    """Chance of a segment: `(error + 1e-3) ** alpha` (equation 1)."""
    beta: float
    """How far the weights of a draw make up for that, in full at 1 (section 3.4). They are scaled
    to be expected to average 1, where the paper scales the largest to 1."""
    error: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Of the segment that begins with each transition, oldest first, [lanes, held]."""

    def chances(self, lanes: int, held: int) -> np.ndarray:
        """Factor on each segment's chance, newest first, [lanes, held].

        Args:
            lanes: of the replay.
            held: transitions of each lane that it holds, no fewer than at the last call.
        """
        if not self.error.size:
            self.error = np.ones((lanes, held), np.float32)
        if news := held - self.error.shape[1]:
            worst = np.full((lanes, news), self.error.max(), np.float32)
            self.error = np.concatenate([self.error, worst], axis=1)
        return (self.error[:, ::-1] + SMALLEST) ** self.alpha

    def note(self, age: np.ndarray, error: np.ndarray) -> None:
        """Remember what segments came to that were drawn, both [lanes, n]; the last one counts."""
        lane = np.arange(len(age))[:, None]
        self.error[lane, self.error.shape[1] - 1 - age] = error


def draw(
    replay: Replay,
    learner: RobotLearner,
    rng: np.random.Generator,
    per_lane: int,
    priorities: Priorities | None = None,
) -> tuple[Batch, np.ndarray]:
    """Segments of all that is remembered, `[lanes, 1, per_lane, ...]`; and their ages.

    Args:
        replay: that is drawn from.
        learner: what it has to be given.
        rng: of the draw.
        per_lane: segments of each lane.
        priorities: how to prefer some; None: all alike.
    """
    chances = None
    if priorities is not None:
        chances = priorities.chances(replay.lanes, len(replay))
    found = replay.sample(
        rng,
        1,
        per_lane,
        segment=learner.segment,
        fields=(*learner.experience.fields, "age"),
        past_end=learner.experience.past_end,
        priority=chances,
    )
    age = found.pop("age")[:, 0]
    if priorities is not None and chances is not None:
        share = chances / chances.mean(axis=1, keepdims=True)
        weight = share[np.arange(len(age))[:, None], age] ** -priorities.beta
        expected = (share ** (1 - priorities.beta)).mean(axis=1, keepdims=True)
        found["weight"] = (weight / expected).astype(np.float32)[:, None]
    return found, age
