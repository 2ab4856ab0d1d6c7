"""reptile_agent.probation: tick by tick, who stays and who is taken back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.probation import Probation, ProbationConfig

CONFIG = ProbationConfig(
    ticks=6, patience=3, baseline_ticks=10, margin=0.5, floor=0.01, cooldown_ticks=5
)


@pytest.fixture
def probation() -> Probation:
    watched = Probation(CONFIG)
    for _ in range(10):
        assert not watched.tick(0.1)
    return watched


def feed(probation: Probation, *errors: float) -> list[bool]:
    return [probation.tick(error) for error in errors]


def test_nothing_is_watched_at_first():
    probation = Probation(CONFIG)
    assert probation.outcome == "none"
    assert probation.baseline is None


def test_nothing_is_taken_before_there_is_enough_to_judge_it_by():
    probation = Probation(CONFIG)
    opened = []
    for _ in range(11):
        opened.append(probation.open)
        probation.tick(0.1)
    assert opened == [False] * 10 + [True]


def test_many_small_steps_for_the_worse_do_not_add_up(probation):
    error, worst = 0.1, 0.0
    for _ in range(20):
        probation.begin()
        error *= 1.4
        if any(feed(probation, *[error] * 6)):
            break
        worst = error
    assert probation.outcome == "rolled_back"
    assert worst < 1.0


def test_each_failure_without_a_pass_in_between_closes_it_for_longer(probation):
    closed = []
    for _ in range(3):
        probation.begin()
        feed(probation, 0.9, 0.9, 0.9)
        ticks = 0
        while not probation.open:
            probation.tick(0.1)
            ticks += 1
        closed.append(ticks)
    assert closed == [5, 10, 20]
    probation.begin()
    feed(probation, *[0.1] * 6)
    probation.begin()
    feed(probation, 0.9, 0.9, 0.9)
    feed(probation, *[0.1] * 5)
    assert probation.open


def test_a_failure_from_outside_and_a_reset(probation):
    probation.begin()
    probation.fail()
    assert (probation.outcome, probation.open) == ("rolled_back", False)
    probation.reset()
    assert probation.outcome == "none"
    assert probation.baseline is None


def test_parameters_that_drive_worse_are_taken_back_once_patience_is_over(probation):
    probation.begin()
    assert feed(probation, 0.9, 0.9) == [False, False]
    assert probation.outcome == "watching"
    assert feed(probation, 0.9) == [True]
    assert probation.outcome == "rolled_back"


def test_they_are_taken_back_later_too_if_it_gets_worse_later(probation):
    probation.begin()
    assert feed(probation, 0.1, 0.1, 0.1, 0.1, 0.9) == [False] * 4 + [True]


def test_parameters_that_drive_as_well_pass_after_their_time(probation):
    probation.begin()
    assert feed(probation, *[0.12] * 5) == [False] * 5
    assert probation.outcome == "watching"
    assert feed(probation, 0.12) == [False]
    assert probation.outcome == "passed"
    assert probation.open


@pytest.mark.parametrize(("error", "back"), [(0.159, False), (0.161, True)])
def test_the_allowed_excess_is_margin_and_floor(probation, error, back):
    probation.begin()
    assert any(feed(probation, *[error] * 6)) == back


def test_one_bad_tick_among_good_ones_is_forgiven(probation):
    probation.begin()
    assert not any(feed(probation, 0.05, 0.3, 0.05, 0.05, 0.05, 0.05))


def test_an_error_that_is_not_a_number_is_no_pass(probation):
    probation.begin()
    assert feed(probation, 0.1, 0.1, math.nan) == [False, False, True]


def test_the_new_ones_errors_do_not_spoil_the_baseline_they_are_judged_by(probation):
    probation.begin()
    feed(probation, 0.9, 0.9, 0.9)
    assert probation.baseline == pytest.approx(0.1)


def test_once_passed_they_are_the_baseline(probation):
    probation.begin()
    feed(probation, *[0.04] * 6)
    assert probation.baseline == pytest.approx((4 * 0.1 + 6 * 0.04) / 10)
    feed(probation, *[0.04] * 4)
    assert probation.baseline == pytest.approx(0.04)


def test_nothing_new_is_taken_while_one_is_watched_nor_shortly_after_a_roll_back(probation):
    probation.begin()
    assert not probation.open
    feed(probation, 0.9, 0.9, 0.9)
    closed = []
    for _ in range(7):
        closed.append(not probation.open)
        probation.tick(0.1)
    assert closed == [True] * 5 + [False] * 2


def test_without_a_baseline_nothing_is_taken_back():
    probation = Probation(CONFIG)
    probation.begin()
    assert not any(feed(probation, *[9.0] * 6))
    assert probation.outcome == "passed"


def test_the_same_watch_can_be_held_again(probation):
    for _ in range(3):
        probation.begin()
        assert feed(probation, 0.9, 0.9, 0.9) == [False, False, True]
        feed(probation, *[0.1] * 5)


@given(errors=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_it_rolls_back_at_most_once_and_ends_in_a_verdict(errors):
    probation = Probation(CONFIG)
    feed(probation, *[0.1] * 10)
    probation.begin()
    verdicts = feed(probation, *errors)
    assert sum(verdicts) <= 1
    assert probation.outcome == ("rolled_back" if any(verdicts) else "passed")


def test_periods_that_say_nothing_count_in_a_row_and_end_in_a_roll_back():
    config = ProbationConfig(unjudged_ticks=3)
    probation = Probation(config)
    for _ in range(config.baseline_ticks):
        probation.tick(0.1)
    assert [probation.skip() for _ in range(9)] == [False] * 9, "nothing is watched"
    probation.begin()
    assert [probation.skip() for _ in range(3)] == [False] * 3, "what was before does not count"
    assert not probation.tick(0.1)
    assert [probation.skip() for _ in range(4)] == [False, False, False, True]
    assert (probation.outcome, probation.open) == ("rolled_back", False)


def rewarded(rewards: list[float], config: ProbationConfig = CONFIG) -> Probation:
    """Whose good parameters earned these, at the same tracking error."""
    watched = Probation(config)
    for reward in rewards:
        assert not watched.tick(0.1, reward)
    watched.begin()
    return watched


@pytest.mark.parametrize(("reward", "back"), [(2.0, False), (1.0, True), (math.nan, True)])
def test_a_fall_of_the_reward_takes_them_back_at_the_same_error(reward, back):
    watched = rewarded([2.5, 3.5] * 5)  # standard deviation 0.5, so that 1.25 + 0.06 is allowed
    assert any(watched.tick(0.1, reward) for _ in range(6)) == back
    assert watched.outcome == ("rolled_back" if back else "passed")
    assert ("the reward is" in watched.reason) == back


@pytest.mark.parametrize(("reward", "back"), [(-2.04, False), (-2.05, True)])
def test_a_reward_that_never_varied_may_fall_by_a_share_of_its_size(reward, back):
    watched = rewarded([-2.0] * 10, replace(CONFIG, reward_floor=0.021))
    assert any(watched.tick(0.1, reward) for _ in range(6)) == back


def test_rewards_that_rise_and_small_steps_down_are_told_apart():
    watched = rewarded([0.9, 1.1] * 5)
    assert not any(watched.tick(0.1, 9.0) for _ in range(6))
    for level in (0.85, 0.7, 0.55, 0.4, 0.25, 0.1):
        watched.reset()
        for _ in range(100):
            watched.tick(0.1, 0.9)
            watched.tick(0.1, 1.1)
        for _ in range(10):
            watched.tick(0.1, level)  # it got here unwatched: the last ticks alone look fine
        watched.begin()
        if any(watched.tick(0.1, level) for _ in range(6)):
            break
    assert level == 0.55, "the longer time remembers 1.0, by 0.2 or 0.1 a tick and 2.5 of them"
    assert watched.reason.startswith("the reward is")


def test_the_error_is_named_where_it_is_the_reason(probation):
    probation.begin()
    feed(probation, 0.9, 0.9, 0.9)
    assert probation.reason == "the tracking error is 0.9, it was 0.1"
