"""reptile_agent.replay: what is drawn, what never is, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.replay import Replay


def filled(numbered, steps: int, capacity: int, lanes: int = 1, breaks=()) -> Replay:
    replay = Replay(capacity, 1, 1, lanes)
    for t in range(steps):
        replay.push(numbered(t, lanes, first=t == 0 or t in breaks))
    return replay


def moments(batch) -> np.ndarray:
    """When each transition of each drawn segment happened, [..., segment]."""
    return np.round(batch["action"][..., 0] - 0.25).astype(int) % 1000


@given(
    steps=st.integers(1, 40),
    capacity=st.integers(1, 25),
    segment=st.integers(1, 4),
    holdout=st.integers(0, 6),
    end_age=st.integers(0, 8),
    window=st.none() | st.integers(1, 30),
    tau=st.none() | st.floats(0.1, 20.0),
    breaks=st.sets(st.integers(0, 39), max_size=12),
    seed=st.integers(0, 5),
)
def test_a_drawn_segment_is_unbroken_held_and_older_than_what_is_held_out(
    numbered, steps, capacity, segment, holdout, end_age, window, tau, breaks, seed
):
    replay = filled(numbered, steps, capacity, breaks=breaks)
    try:
        batch = replay.sample(
            np.random.default_rng(seed),
            2,
            8,
            segment=segment,
            holdout=holdout,
            end_age=end_age,
            window=window,
            tau=tau,
        )
    except LookupError:
        newest = steps - 1 - holdout - end_age
        oldest = max(0, steps - capacity, newest - segment - (window or steps) + 2)
        for start in range(oldest, newest - segment + 2):
            assert any(t in breaks for t in range(start + 1, start + segment))
        return
    when = moments(batch)
    assert when.shape == (1, 2, 8, segment)
    np.testing.assert_array_equal(np.diff(when, axis=-1), 1)
    np.testing.assert_array_equal(batch["obs"][..., 0], when[..., 0])
    np.testing.assert_array_equal(batch["next_obs"][..., 0], when + 1)
    assert when.max() <= steps - 1 - holdout - end_age
    assert when.min() >= max(0, steps - capacity)
    if window is not None:
        assert when[..., 0].min() >= steps - holdout - end_age - segment + 1 - window
    assert not set(when[..., 1:].ravel()) & (breaks | {0})


def test_older_segments_are_drawn_less_often_as_exp_of_minus_age_over_tau(numbered):
    replay = filled(numbered, 30, 30)
    batch = replay.sample(np.random.default_rng(0), 1, 200_000, tau=4.0)
    age = 29 - moments(batch).ravel()
    found = np.bincount(age, minlength=30) / age.size
    wanted = np.exp(-np.arange(30) / 4.0)
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.003)


def test_without_tau_all_are_drawn_alike(numbered):
    batch = filled(numbered, 10, 10).sample(np.random.default_rng(0), 1, 100_000)
    np.testing.assert_allclose(np.bincount(moments(batch).ravel()) / 100_000, 0.1, atol=0.005)


def test_the_oldest_makes_room(numbered):
    replay = filled(numbered, 17, 5)
    assert len(replay) == 5
    drawn = moments(replay.sample(np.random.default_rng(0), 1, 500))
    assert set(drawn.ravel()) == {12, 13, 14, 15, 16}


@pytest.mark.parametrize("field", ["obs", "action", "next_obs", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_and_nothing_of_it_is_stored(numbered, field, value):
    replay = filled(numbered, 3, 4, lanes=2)
    before = replay.state()
    bad = numbered(3, 2)
    getattr(bad, field)[1] = value
    with pytest.raises(ValueError, match=f"{field} is not finite; the transition was not stored"):
        replay.push(bad)
    assert len(replay) == 3
    for name, array in replay.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_transition_of_another_robot_is_refused(numbered):
    replay = Replay(4, 2, 1)
    with pytest.raises(ValueError, match=r"obs has shape \(1, 1\), want \(1, 2\)"):
        replay.push(numbered(0))
    assert len(replay) == 0


@given(steps=st.integers(1, 25), capacity=st.integers(1, 10), room=st.integers(0, 4))
def test_a_restored_replay_goes_on_like_the_first(numbered, steps, capacity, room):
    replay = filled(numbered, steps, capacity, lanes=2, breaks={3, 7, 11})
    other = Replay(capacity + room, 1, 1, 2)
    other.restore(replay.state())
    assert len(other) == len(replay)
    draws = [r.sample(np.random.default_rng(1), 2, 16, segment=1) for r in (replay, other)]
    for name, array in draws[0].items():
        np.testing.assert_array_equal(array, draws[1][name])
    if room == 0:
        for r in (replay, other):
            r.push(numbered(steps, 2))
        for name, array in replay.state().items():
            np.testing.assert_array_equal(array, other.state()[name])


def test_a_state_that_does_not_fit_is_refused(numbered):
    state = filled(numbered, 6, 6, lanes=2).state()
    with pytest.raises(ValueError, match="2 lanes x 6 transitions does not fit into 2 lanes x 5"):
        Replay(5, 1, 1, 2).restore(state)
    with pytest.raises(ValueError, match="does not fit into 3 lanes"):
        Replay(6, 1, 1, 3).restore(state)


def test_breaks_survive_state_and_restore(numbered):
    replay = Replay(6, 1, 1)
    replay.restore(filled(numbered, 6, 6, breaks={3}).state())
    starts = moments(replay.sample(np.random.default_rng(0), 1, 200, segment=3))[..., 0]
    assert set(starts.ravel()) == {0, 3}


def test_now_can_be_put_into_the_past_of_each_lane(numbered):
    replay = filled(numbered, 20, 20, lanes=2)
    batch = replay.sample(np.random.default_rng(0), 1, 300, window=3, end_age=np.array([0, 10]))
    when = moments(batch)
    assert set(when[0].ravel()) == {17, 18, 19}
    assert set(when[1].ravel()) == {7, 8, 9}


def test_lanes_can_be_picked_and_come_in_the_order_asked_for(numbered):
    replay = filled(numbered, 5, 5, lanes=4)
    batch = replay.sample(np.random.default_rng(0), 2, 3, lanes=np.array([3, 1]))
    assert batch["obs"].shape == (2, 2, 3, 1)
    np.testing.assert_array_equal(
        batch["obs"] // 1000, np.reshape([3, 1], (2, 1, 1, 1)) + 0 * batch["obs"]
    )


def test_a_break_in_one_lane_leaves_the_others_whole(numbered):
    replay = Replay(4, 1, 1, 2)
    for t in range(4):
        replay.push(numbered(t, 2, first=np.array([t == 2, False])))
    when = moments(replay.sample(np.random.default_rng(0), 1, 200, segment=2))[..., 0]
    assert set(when[0].ravel()) == {0, 2}
    assert set(when[1].ravel()) == {0, 1, 2}


def test_too_little_is_said_in_numbers(numbered):
    replay = filled(numbered, 5, 10)
    with pytest.raises(LookupError, match="holds 5 transitions: no segment of 3 fits before the 4"):
        replay.sample(np.random.default_rng(0), 1, 1, segment=3, holdout=4)
    with pytest.raises(LookupError, match="holds 0 transitions"):
        Replay(3, 1, 1).sample(np.random.default_rng(0), 1, 1)


def test_the_same_generator_draws_the_same(numbered):
    replay = filled(numbered, 30, 30)
    one, two = (replay.sample(np.random.default_rng(7), 3, 5, tau=5.0) for _ in range(2))
    np.testing.assert_array_equal(one["obs"], two["obs"])


def test_latest_is_every_segment_of_the_newest_transitions_oldest_first(numbered):
    replay = filled(numbered, 12, 10, breaks={9})
    found = moments(replay.latest(6, segment=2))
    np.testing.assert_array_equal(found, [[6, 7], [7, 8], [9, 10], [10, 11]])
    with pytest.raises(LookupError, match="the newest 2 of 10 transitions hold no segment of 3"):
        replay.latest(2, segment=3)


def test_latest_never_touches_what_learning_saw(numbered):
    replay = filled(numbered, 20, 20)
    learned = moments(replay.sample(np.random.default_rng(0), 1, 400, segment=3, holdout=5))
    assert not set(learned.ravel()) & set(moments(replay.latest(5, segment=3)).ravel())


def test_clear_forgets_everything(numbered):
    replay = filled(numbered, 5, 5)
    replay.clear()
    assert len(replay) == 0
    replay.push(numbered(50))
    assert set(moments(replay.sample(np.random.default_rng(0), 1, 20)).ravel()) == {50}


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_a_replay_of_nothing_is_refused(sizes):
    with pytest.raises(ValueError, match="of at least 1"):
        Replay(*sizes)


def test_what_was_pushed_is_copied(numbered):
    replay, transition = Replay(2, 1, 1), numbered(1)
    replay.push(transition)
    transition.obs[:] = 99
    assert replay.state()["obs"].item() == 1
