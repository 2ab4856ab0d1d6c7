"""reptile_agent.replay: what is drawn, what never is, and what is kept."""

from __future__ import annotations

import dataclasses

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


def with_ends(numbered, steps: int, capacity: int, ends=(), lanes: int = 1) -> Replay:
    """As `filled`; an episode ends for good in each of `ends`, and the next one starts after it."""
    replay = Replay(capacity, 1, 1, lanes)
    for t in range(steps):
        made = numbered(t, lanes, first=t == 0 or t - 1 in ends)
        over = np.full(lanes, t in ends)
        replay.push(dataclasses.replace(made, terminated=over))
    return replay


REWARDED = ("action", "reward", "terminated", "age")


def test_rewards_ends_and_ages_are_given_where_asked_for(numbered):
    replay = with_ends(numbered, 20, 12, ends={10, 14})
    found = replay.sample(np.random.default_rng(0), 2, 50, segment=2, fields=REWARDED)
    assert set(found) == {*REWARDED, "weight"}
    when = moments(found)
    np.testing.assert_array_equal(found["reward"], when)
    np.testing.assert_array_equal(found["terminated"], np.isin(when, [10, 14]))
    np.testing.assert_array_equal(found["age"], 19 - when[..., 0])
    assert found["reward"].dtype == found["terminated"].dtype == np.float32
    assert found["terminated"].any()


def test_unless_asked_a_batch_holds_no_more_than_before(numbered):
    replay = filled(numbered, 5, 5)
    for batch in (replay.sample(np.random.default_rng(0), 1, 3), replay.latest(3)):
        assert list(batch) == ["obs", "action", "next_obs", "weight"]


def test_latest_gives_what_is_asked_for_too(numbered):
    found = with_ends(numbered, 9, 9, ends={8}).latest(3, segment=1, fields=REWARDED)
    np.testing.assert_array_equal(found["reward"], [[6], [7], [8]])
    np.testing.assert_array_equal(found["terminated"], [[0], [0], [1]])
    np.testing.assert_array_equal(found["age"], [2, 1, 0])


def test_a_field_that_is_unknown_is_named(numbered):
    with pytest.raises(ValueError, match="no field 'lanes'"):
        filled(numbered, 3, 3).sample(np.random.default_rng(0), 1, 1, fields=("obs", "lanes"))


def test_whoever_says_nothing_of_ends_has_none(numbered):
    found = filled(numbered, 5, 3).latest(3, fields=("terminated",))
    np.testing.assert_array_equal(found["terminated"], 0.0)


def test_an_overwritten_end_is_forgotten(numbered):
    replay = with_ends(numbered, 3, 3, ends={1})
    for t in range(3, 6):
        replay.push(numbered(t))
    assert not replay.latest(3, fields=("terminated",))["terminated"].any()


def test_ends_survive_state_and_restore_and_older_states_have_none(numbered):
    state = with_ends(numbered, 9, 6, ends={5}, lanes=2).state()
    replay = Replay(6, 1, 1, 2)
    replay.restore(state)
    np.testing.assert_array_equal(replay.state()["terminated"], state["terminated"])
    assert state["terminated"].sum() == 2
    del state["terminated"]
    replay.restore(state)
    assert not replay.state()["terminated"].any()


def test_a_segment_goes_past_an_episodes_end_only_where_asked(numbered):
    # 5 ends an episode for good; at 8 one was cut, which nobody may cross.
    replay = with_ends(numbered, 11, 11, ends={5})
    replay._first[0, 8] = True
    rng = np.random.default_rng(0)
    kept = moments(replay.sample(rng, 1, 500, segment=3))[..., 0]
    assert set(kept.ravel()) == {0, 1, 2, 3, 8}
    across = moments(replay.sample(rng, 1, 500, segment=3, past_end=True))[..., 0]
    assert set(across.ravel()) == {0, 1, 2, 3, 4, 5, 8}


def test_an_end_is_passed_at_the_rings_seam_too(numbered):
    # 4 lies in the last slot, 5 in the first.
    replay = with_ends(numbered, 9, 5, ends={4})
    for past_end, wanted in ((False, {5, 6, 7}), (True, {4, 5, 6, 7})):
        drawn = replay.sample(np.random.default_rng(0), 1, 300, segment=2, past_end=past_end)
        assert set(moments(drawn)[..., 0].ravel()) == wanted


def test_priorities_and_recency_multiply_in_the_chance_of_a_draw(numbered):
    replay = filled(numbered, 14, 10, lanes=2)
    priority = np.random.default_rng(1).uniform(0.1, 3.0, (2, 10))
    batch = replay.sample(
        np.random.default_rng(0),
        1,
        200_000,
        segment=2,
        holdout=1,
        tau=4.0,
        lanes=np.array([1]),
        priority=priority,
    )
    age = 13 - moments(batch)[..., 0].ravel()
    found = np.bincount(age, minlength=10) / age.size
    # A segment of 2 before 1 held out starts at age 2 at the latest.
    wanted = np.where(np.arange(10) >= 2, priority[1] * np.exp(-np.arange(10) / 4.0), 0.0)
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.003)
    np.testing.assert_array_equal(batch["weight"], 1.0)


def test_priorities_of_another_size_are_refused(numbered):
    with pytest.raises(ValueError, match=r"priority has shape \(1, 4\), want \(1, 5\)"):
        filled(numbered, 5, 8).sample(np.random.default_rng(0), 1, 1, priority=np.ones((1, 4)))
