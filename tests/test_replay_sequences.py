"""reptile_agent.replay under random sequences, held against a plain list of transitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reptile_agent.replay import Replay
from reptile_agent.transition import Transition

FIELDS = ("obs", "action", "next_obs", "reward", "terminated")


def numbered(t: int, lanes: int, first: np.ndarray, ended: np.ndarray) -> Transition:
    """A transition whose every value tells when and in which lane it happened."""
    at = (1000.0 * np.arange(lanes) + t).astype(np.float32)
    return Transition(
        obs=at[:, None],
        action=at[:, None] + np.float32(0.25),
        next_obs=at[:, None] + np.float32(0.5),
        reward=-at,
        first=first,
        terminated=ended,
    )


class ReplayMachine(RuleBasedStateMachine):
    """Any order of push, refused push, draws, state, restore and clear."""

    @initialize(capacity=st.integers(1, 7), lanes=st.integers(1, 3))
    def begin(self, capacity: int, lanes: int) -> None:
        self.replay, self.lanes = Replay(capacity, 1, 1, lanes), lanes
        self.held: list[Transition] = []
        self.t = 0

    def _flags(self, bits: int) -> np.ndarray:
        return np.array([bool(bits >> lane & 1) for lane in range(self.lanes)])

    @rule(first=st.integers(0, 7), ended=st.integers(0, 7))
    def push(self, first: int, ended: int) -> None:
        made = numbered(self.t, self.lanes, self._flags(first), self._flags(ended))
        self.replay.push(made)
        self.held = [*self.held, made][-self.replay.capacity :]
        self.t += 1

    @rule(
        field=st.sampled_from(["obs", "action", "next_obs", "reward"]),
        value=st.sampled_from([np.nan, np.inf, -np.inf]),
        lane=st.integers(0, 2),
    )
    def push_what_is_not_finite(self, field: str, value: float, lane: int) -> None:
        bad = numbered(self.t, self.lanes, self._flags(0), self._flags(0))
        getattr(bad, field)[lane % self.lanes] = value
        with pytest.raises(ValueError, match=f"{field} is not finite"):
            self.replay.push(bad)

    @rule(field=st.sampled_from(["obs", "action", "next_obs"]))
    def push_another_robots(self, field: str) -> None:
        bad = numbered(self.t, self.lanes, self._flags(0), self._flags(0))
        wide = np.zeros((self.lanes, 2), np.float32)
        with pytest.raises(ValueError, match=f"{field} has shape"):
            self.replay.push(dataclasses.replace(bad, **{field: wide}))

    def _starts(self, lane: int, segment: int, past_end: bool, until: int) -> list[int]:
        """Where an unbroken segment begins among the transitions held, by the model."""
        found = []
        for start in range(until - segment + 1):
            inner = range(start + 1, start + segment)
            whole, ended = True, False
            for i in inner:
                ended |= past_end and bool(self.held[i - 1].terminated[lane])
                whole &= ended or not self.held[i].first[lane]
            if whole:
                found.append(start)
        return found

    @rule(
        segment=st.integers(1, 4),
        holdout=st.integers(0, 4),
        window=st.none() | st.integers(1, 6),
        tau=st.none() | st.floats(0.1, 10),
        past_end=st.booleans(),
        seed=st.integers(0, 3),
    )
    def sample(self, segment, holdout, window, tau, past_end, seed) -> None:
        until = len(self.held) - holdout
        earliest = 0 if window is None else until - segment + 1 - window
        allowed = [
            {s for s in self._starts(lane, segment, past_end, until) if s >= earliest}
            for lane in range(self.lanes)
        ]
        ask = {"segment": segment, "holdout": holdout, "window": window, "tau": tau}
        ask |= {"past_end": past_end, "fields": FIELDS}
        rng = np.random.default_rng(seed)
        if not all(allowed):
            with pytest.raises(LookupError, match="collect more first"):
                self.replay.sample(rng, 2, 3, **ask)
            return
        batch = self.replay.sample(rng, 2, 3, **ask)
        assert batch["weight"].shape == (self.lanes, 2, 3)
        for lane in range(self.lanes):
            of_lane = {name: batch[name][lane].reshape(6, -1) for name in FIELDS}
            for row in range(6):
                self._check({name: of_lane[name][row] for name in FIELDS}, lane, allowed[lane])

    @rule(count=st.integers(1, 9), segment=st.integers(1, 4))
    def latest(self, count: int, segment: int) -> None:
        oldest = max(0, len(self.held) - count)
        starts = [s for s in self._starts(0, segment, False, len(self.held)) if s >= oldest]
        if not starts:
            with pytest.raises(LookupError, match="hold no segment"):
                self.replay.latest(count, segment)
            return
        batch = self.replay.latest(count, segment, fields=FIELDS)
        assert len(batch["obs"]) == len(starts)
        for row, start in enumerate(starts):
            self._check({name: batch[name][row].ravel() for name in FIELDS}, 0, {start})

    def _check(self, segment: dict[str, np.ndarray], lane: int, allowed: set[int]) -> None:
        """A drawn segment is one of those allowed, and holds what was pushed, to the bit."""
        begins = {float(self.held[s].obs[lane, 0]): s for s in allowed}
        start = begins[float(segment["obs"][0])]
        for i, action in enumerate(segment["action"]):
            was = self.held[start + i]
            assert action == was.action[lane, 0]
            assert segment["next_obs"][i] == was.next_obs[lane, 0]
            assert segment["reward"][i] == was.reward[lane]
            assert segment["terminated"][i] == was.terminated[lane]

    @rule(room=st.integers(0, 3))
    def move_to_another(self, room: int) -> None:
        other = Replay(self.replay.capacity + room, 1, 1, self.lanes)
        other.restore(self.replay.state())
        self.replay = other

    @rule()
    def refuse_a_state_that_does_not_fit(self) -> None:
        before = self.replay.state()
        with pytest.raises(ValueError, match="does not fit"):
            self.replay.restore({name: np.repeat(a, 2, axis=0) for name, a in before.items()})

    @rule()
    def clear(self) -> None:
        self.replay.clear()
        self.held = []

    @invariant()
    def it_holds_what_was_pushed_last(self) -> None:
        if not hasattr(self, "replay"):
            return
        state = self.replay.state()
        assert len(self.replay) == len(self.held)
        for name in (*FIELDS, "first"):
            for i, was in enumerate(self.held):
                np.testing.assert_array_equal(state[name][:, i], getattr(was, name))


TestReplay = ReplayMachine.TestCase
