"""Replay: a fixed-size ring of transitions that favours what happened last.

The same class feeds meta-training (one lane per task) and the robot (one lane). Ages are counted
in transitions: the newest has age 0. The *last stretch* can be held out, for a gate to judge on.
"""

from __future__ import annotations

import numpy as np

from reptile_agent.experience import FIELDS
from reptile_agent.transition import Batch, Transition


class Replay:
    """Ring of the last `capacity` transitions of `lanes` robots that move in step.

    Args:
        capacity: transitions kept per lane.
        obs_dim, act_dim: sizes of one observation and one action.
        lanes: robots recorded side by side.
    """

    def __init__(self, capacity: int, obs_dim: int, act_dim: int, lanes: int = 1) -> None:
        if min(capacity, obs_dim, act_dim, lanes) < 1:
            raise ValueError(
                f"replay needs capacity, obs_dim, act_dim and lanes of at least 1, "
                f"got {capacity}, {obs_dim}, {act_dim}, {lanes}"
            )
        self.capacity, self.lanes = capacity, lanes
        self._obs = np.zeros((lanes, capacity, obs_dim), np.float32)
        self._action = np.zeros((lanes, capacity, act_dim), np.float32)
        self._next_obs = np.zeros((lanes, capacity, obs_dim), np.float32)
        self._reward = np.zeros((lanes, capacity), np.float32)
        self._first = np.zeros((lanes, capacity), bool)
        self._terminated = np.zeros((lanes, capacity), bool)
        self._head = 0
        self._size = 0

    def __len__(self) -> int:
        """Transitions held per lane."""
        return self._size

    def push(self, transition: Transition) -> None:
        """Append one transition per lane; the oldest makes room.

        Raises:
            ValueError: a shape does not fit, or a value is not finite (nothing is stored then).
        """
        at = self._head
        rows = (
            (self._obs, transition.obs, "obs"),
            (self._action, transition.action, "action"),
            (self._next_obs, transition.next_obs, "next_obs"),
            (self._reward, transition.reward, "reward"),
        )
        for ring, value, name in rows:
            if value.shape != ring[:, at].shape:
                raise ValueError(f"{name} has shape {value.shape}, want {ring[:, at].shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not finite; the transition was not stored")
        for ring, value, _ in rows:
            ring[:, at] = value
        self._first[:, at] = transition.first
        self._terminated[:, at] = False if transition.terminated is None else transition.terminated
        self._head = (at + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)

    def sample(
        self,
        rng: np.random.Generator,
        steps: int,
        batch: int,
        *,
        segment: int = 1,
        window: int | None = None,
        tau: float | None = None,
        holdout: int = 0,
        end_age: np.ndarray | int = 0,
        lanes: np.ndarray | None = None,
        fields: tuple[str, ...] = FIELDS,
        past_end: bool = False,
        priority: np.ndarray | None = None,
    ) -> Batch:
        """Minibatches for an inner loop, arrays `[lanes, steps, batch, ...]`.

        Args:
            rng: source of the draw.
            steps: minibatches per lane (k of the inner loop).
            batch: segments in each.
            segment: consecutive transitions in a segment.
            window: how many transitions back to look; None for all that is held.
            tau: recency: a segment's weight falls as `exp(-age / tau)`; None for uniform.
            holdout: newest transitions that no drawn segment may touch.
            end_age: age at which the window begins, per lane or for all: "now", put into the past.
            lanes: which lanes, int [n]; None for all.
            fields: what of `Batch` to give beside `weight`.
            past_end: a segment may go on past a transition that ended the episode for good, for
                learners that ignore what follows it; else the last states before an end start no
                segment.
            priority: factor on the chance of each segment, positive, float [lanes of the replay,
                len(self)] by the age of its first transition: `|TD error| ** alpha` in prioritized
                replay (Schaul et al. 2016, arXiv 1511.05952, equation 1).

        Raises:
            ValueError: `priority` has another shape, or a field is unknown.
            LookupError: a lane has no segment that fits.
        """
        which = np.arange(self.lanes) if lanes is None else np.asarray(lanes)
        lookback = self._size if window is None else min(window, self._size)
        age = np.arange(lookback) + np.reshape(end_age, (-1, 1)) + holdout + segment - 1
        age = np.broadcast_to(age, (which.size, lookback))
        valid = self._starts_segment(which, age, segment, past_end)
        weight = valid if tau is None else valid * np.exp(-(age - age[:, :1]) / tau)
        if priority is not None:
            if priority.shape != (self.lanes, self._size):
                raise ValueError(
                    f"priority has shape {priority.shape}, want {(self.lanes, self._size)}: one "
                    f"for every transition held, newest first"
                )
            # Beyond what is held nothing is valid: any column does.
            weight = weight * priority[which[:, None], np.minimum(age, self._size - 1)]
        total = weight.sum(axis=1)
        if lookback == 0 or not (total > 0).all():
            raise LookupError(
                f"replay holds {self._size} transitions: no segment of {segment} fits "
                f"before the {holdout} held out; collect more first"
            )
        # Inverse transform per lane in one search: lane i's cumulated weights lie in (i, i + 1].
        cumulated = np.cumsum(weight / total[:, None], axis=1)
        cumulated[:, -1] = 1.0
        lane = np.arange(which.size)[:, None]
        draws = rng.random((which.size, steps * batch)) + lane
        flat = np.searchsorted((cumulated + lane).ravel(), draws.ravel(), side="right")
        column = np.minimum(flat.reshape(draws.shape) - lane * lookback, lookback - 1)
        column = _last_positive(weight, column)
        drawn = np.take_along_axis(age, column, axis=1).reshape(-1, steps, batch)
        return self._gather(which, drawn, segment, fields)

    def latest(self, count: int, segment: int = 1, *, fields: tuple[str, ...] = FIELDS) -> Batch:
        """Every segment inside the newest `count` transitions of lane 0, `[n, ...]`, oldest first.

        `fields`: what of `Batch` to give beside `weight`.

        Raises:
            LookupError: there is none.
        """
        age = np.arange(min(count, self._size) - 1, segment - 2, -1)[None, :]
        lane = np.zeros(1, np.intp)
        age = age[self._starts_segment(lane, age, segment)]
        if age.size == 0:
            raise LookupError(
                f"the newest {count} of {self._size} transitions hold no segment of {segment}"
            )
        found = self._gather(lane, age.reshape(1, 1, -1), segment, fields)
        return {key: value[0, 0] for key, value in found.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._head = self._size = 0

    def state(self) -> dict[str, np.ndarray]:
        """Everything needed to go on later, oldest transition first, `[lanes, size, ...]`."""
        order = (self._head - self._size + np.arange(self._size)) % self.capacity
        return {
            "obs": self._obs[:, order],
            "action": self._action[:, order],
            "next_obs": self._next_obs[:, order],
            "reward": self._reward[:, order],
            "first": self._first[:, order].astype(np.uint8),
            "terminated": self._terminated[:, order].astype(np.uint8),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Replace the contents by what `state()` returned.

        Raises:
            ValueError: it does not fit this replay.
        """
        size = state["obs"].shape[1]
        if size > self.capacity or state["obs"].shape[0] != self.lanes:
            raise ValueError(
                f"a replay of {state['obs'].shape[0]} lanes x {size} transitions does not fit "
                f"into {self.lanes} lanes x {self.capacity}"
            )
        for name in ("obs", "action", "next_obs", "reward", "first"):
            getattr(self, f"_{name}")[:, :size] = state[name]
        # States written before episodes' ends were recorded have none.
        self._terminated[:, :size] = state.get("terminated", np.uint8(0))
        self._size, self._head = size, size % self.capacity

    def _starts_segment(
        self, lanes: np.ndarray, age: np.ndarray, segment: int, past_end: bool = False
    ) -> np.ndarray:
        """Whether `segment` unbroken transitions start at each age, bool [lanes, ages]."""
        valid = (age < self._size) & (age >= segment - 1)
        lane, ended = lanes[:, None], np.zeros(age.shape, bool)
        for later in range(1, segment):
            at = (self._head - 1 - age + later) % self.capacity
            if past_end:
                ended |= self._terminated[lane, at - 1]
            valid &= ~self._first[lane, at] | ended
        return valid

    def _gather(
        self, lanes: np.ndarray, age: np.ndarray, segment: int, fields: tuple[str, ...]
    ) -> Batch:
        """Segments that start at `age` `[lanes, steps, batch]`."""
        at = (self._head - 1 - age[..., None] + np.arange(segment)) % self.capacity
        lane = lanes[:, None, None, None]
        found: Batch = {}
        for name in fields:
            if name == "obs":
                found[name] = self._obs[lane[..., 0], at[..., 0]]
            elif name == "age":
                found[name] = age
            elif name in ("action", "next_obs", "reward", "terminated"):
                found[name] = getattr(self, f"_{name}")[lane, at].astype(np.float32, copy=False)
            else:
                raise ValueError(f"a replay has no field '{name}' to give")
        found["weight"] = np.ones(age.shape, np.float32)
        return found


def with_rehearsal(
    live: Batch, pool: Batch, rng: np.random.Generator, count: int, weight: float
) -> Batch:
    """Live minibatches with segments from simulation beside them.

    Args:
        live: `[..., steps, batch, ...]`, as `Replay.sample` makes them.
        pool: segments to draw from, [n, ...].
        rng: of the draw.
        count: segments added to each minibatch.
        weight: of each, beside a live one's 1; weights are scaled to average 1 again.
    """
    if count == 0:
        return live
    shape = (*live["weight"].shape[:-1], count)
    at = rng.integers(pool["weight"].shape[0], size=shape)
    rows = len(shape) - 1
    old = {name: value[at] for name, value in pool.items()}
    old["weight"] = np.full(shape, weight, np.float32)
    mixed = {name: np.concatenate([live[name], old[name]], axis=rows) for name in live}
    mixed["weight"] /= mixed["weight"].mean(axis=rows, keepdims=True)
    return mixed


def _last_positive(weight: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Move a draw that rounding put on a zero weight to the nearest earlier positive one."""
    positive = np.where(weight > 0, np.arange(weight.shape[1]), -1)
    nearest = np.maximum.accumulate(positive, axis=1)
    first = np.argmax(weight > 0, axis=1)[:, None]
    return np.maximum(np.take_along_axis(nearest, column, axis=1), first)
