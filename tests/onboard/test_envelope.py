"""reptile_agent.onboard.envelope: what it lets through, and what it latches on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.onboard.envelope import Envelope, EnvelopeConfig

FRESH = np.zeros(2, np.float32)
LOW, HIGH = np.float32([-1, -3]), np.float32([1, 3])
STEP = np.float32([0.2, np.inf])
"""Of the toy robot: 2 rad/s at 10 Hz, and none for the motor."""

any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
pair = st.tuples(any_float, any_float).map(np.float32)


@pytest.fixture
def envelope(robot) -> Envelope:
    return Envelope(robot, EnvelopeConfig(max_age_s=0.3, max_clamps=3))


@pytest.mark.parametrize("age_s", [0.31, 5.0, math.inf, math.nan])
def test_a_stale_measurement_latches_with_its_age(envelope, age_s):
    assert not envelope.check_measurement(FRESH, age_s)
    assert "ms old (allowed: 300 ms); are the robot's drivers running?" in envelope.fault


@pytest.mark.parametrize("age_s", [0.0, 0.1, 0.3])
def test_a_fresh_measurement_passes(envelope, age_s):
    assert envelope.check_measurement(FRESH, age_s)
    assert envelope.fault == ""


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        ([math.nan, 0.0], "'lift.position' is not finite: nan"),
        ([0.0, math.inf], "'wheel.position' is not finite: inf"),
        ([2.1, 0.0], r"'lift.position' is 2.1, outside [-2, 2]"),
        ([0.0, -101.0], r"'wheel.position' is -101, outside [-100, 100]"),
    ],
)
def test_a_measurement_out_of_reason_latches_by_its_name(envelope, obs, words):
    assert not envelope.check_measurement(np.float32(obs), 0.0)
    assert words in envelope.fault


@given(obs=pair, age_s=any_float)
def test_only_fresh_finite_measurements_within_limits_are_acted_upon(robot, obs, age_s):
    envelope = Envelope(robot, EnvelopeConfig(max_age_s=0.3))
    good = age_s <= 0.3 and bool(np.isfinite(obs).all() and (np.abs(obs) <= [2, 100]).all())
    assert envelope.check_measurement(obs, age_s) == good
    assert bool(envelope.fault) == (not good)


def test_a_fault_stays_until_reset_and_keeps_its_first_reason(envelope):
    envelope.check_measurement(FRESH, 1.0)
    for tick in range(50):
        assert not envelope.check_measurement(FRESH, 0.0), tick
    envelope.check_measurement(np.float32([math.nan, 0]), 0.0)
    envelope.latch("something else")
    assert "1000 ms old" in envelope.fault
    envelope.reset()
    assert envelope.check_measurement(FRESH, 0.0)


def test_a_reset_does_not_help_while_the_cause_stands(envelope):
    for _ in range(3):
        assert not envelope.check_measurement(np.float32([9.0, 0.0]), 0.0)
        envelope.reset()
    assert not envelope.check_measurement(np.float32([9.0, 0.0]), 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_command_that_is_not_finite_is_not_sent(envelope, value):
    assert envelope.check_command(np.float32([0.0, value]), FRESH) is None
    assert envelope.fault == "the policy's command is not finite"


@given(command=pair, last=pair)
def test_whatever_is_wanted_what_is_sent_keeps_to_the_limits(robot, command, last):
    envelope = Envelope(robot)
    sent = envelope.check_command(command, last)
    if not np.isfinite(command).all():
        assert sent is None
        return
    assert (sent >= LOW).all()
    assert (sent <= HIGH).all()


inside = st.tuples(st.floats(-1, 1, width=32), st.floats(-3, 3, width=32)).map(np.float32)


@given(command=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(np.float32), last=inside)
def test_a_command_moves_no_faster_than_its_rate_and_as_near_to_the_wanted_as_it_may(
    robot, command, last
):
    envelope = Envelope(robot)
    sent = envelope.check_command(command, last)
    wanted = np.clip(command, np.maximum(LOW, last - STEP), np.minimum(HIGH, last + STEP))
    np.testing.assert_allclose(sent, wanted, atol=1e-6)
    assert envelope.clamps == int((np.abs(sent - command) > 1e-6).any())


def test_limits_count_more_than_the_rate_where_the_last_command_was_outside(envelope):
    sent = envelope.check_command(np.float32([1.0, 0.0]), np.float32([1.9, 0.0]))
    np.testing.assert_array_equal(sent, [1.0, 0.0])


def test_the_command_that_came_in_is_not_changed(envelope):
    wild = np.float32([5.0, 5.0])
    envelope.check_command(wild, FRESH)
    np.testing.assert_array_equal(wild, [5.0, 5.0])


def test_too_many_clamps_in_a_row_latch(envelope):
    wild, last = np.float32([0.0, 50.0]), FRESH
    for tick in range(3):
        assert envelope.check_command(wild, last) is not None, tick
        assert envelope.fault == ""
    assert envelope.check_command(wild, last) is None
    assert envelope.fault == "commands were clamped in 4 periods in a row (allowed: 3)"
    assert envelope.clamps == 4


def test_a_good_command_in_between_starts_the_count_anew(envelope):
    for tick in range(20):
        command = FRESH if tick % 4 == 3 else np.float32([0.0, 50.0])
        assert envelope.check_command(command, FRESH) is not None, tick
    assert envelope.clamps == 15
    assert envelope.fault == ""


def test_a_reset_starts_the_count_anew(envelope):
    for _ in range(4):
        envelope.check_command(np.float32([0.0, 50.0]), FRESH)
    envelope.reset()
    assert envelope.check_command(np.float32([0.0, 50.0]), FRESH) is not None


def test_holding_keeps_servos_where_they_are_and_motors_still(envelope):
    np.testing.assert_array_equal(envelope.hold(np.float32([0.7, 42.0])), np.float32([0.7, 0.0]))


def test_holding_keeps_to_the_limits(envelope):
    np.testing.assert_array_equal(envelope.hold(np.float32([1.8, 0.0])), [1.0, 0.0])
