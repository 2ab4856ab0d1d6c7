"""reptile_agent.onboard.command_limits: range before rate before acceleration, and brakes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.onboard.command_limits import CommandLimits
from reptile_agent.spec import RobotSpec, Signal

PERIOD_S, RATE, ACCELERATION = 0.1, 2.0, 5.0
STEP, CHANGE = RATE * PERIOD_S, ACCELERATION * PERIOD_S**2
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def braked() -> RobotSpec:
    """A servo with all limits, one with an acceleration alone, and a motor with a range only."""

    def action(joint, **fields):
        return Signal(joint=joint, quantity="position", unit="rad", low=-1.0, high=1.0, **fields)

    return RobotSpec(
        name="braked",
        control_period_s=PERIOD_S,
        observations=(action("all"),),
        actions=(
            action("all", max_rate=RATE, max_acceleration=ACCELERATION),
            action("acceleration", max_acceleration=ACCELERATION),
            action("range"),
        ),
        references=(action("all"),),
    )


def run(robot: RobotSpec, wanted: np.ndarray) -> np.ndarray:
    """What is sent from rest at zero, [steps + 2, act_dim]; the first two rows are the rest."""
    limits, sent = CommandLimits(robot), [np.zeros(3, np.float32)] * 2
    for command in wanted:
        sent.append(limits.apply(np.float32(command), sent[-1], sent[-1] - sent[-2]))
    return np.array(sent)


wild = st.floats(-1e6, 1e6, width=32) | st.sampled_from([-1.0, 1.0, -3.0, 3.0, 0.0])


stretches = st.lists(
    st.tuples(st.tuples(wild, wild, wild), st.integers(1, 25)), min_size=1, max_size=8
)
"""Commands, and for how many periods each is wanted: it takes some to reach an end."""


@given(stretches=stretches)
def test_from_rest_no_sequence_breaks_a_limit_of_range_rate_or_acceleration(braked, stretches):
    sent = run(braked, np.concatenate([[command] * periods for command, periods in stretches]))
    assert (np.abs(sent) <= 1.0).all()
    steps = np.diff(sent, axis=0)
    assert np.abs(steps[:, 0]).max() <= STEP + ROUNDING
    changes = np.diff(steps, axis=0)
    # To the end of the range and there to rest, too: that is what the brake is for.
    assert np.abs(changes[:, :2]).max() <= CHANGE + ROUNDING


def test_it_reaches_the_end_of_the_range_and_stops_there(braked):
    sent = run(braked, np.full((60, 3), 9.0))
    assert sent[-1].tolist() == [1.0, 1.0, 1.0]
    assert (np.diff(sent[:, 1]) >= 0).all()
    assert np.abs(np.diff(sent[:, :2], n=2, axis=0)).max() <= CHANGE + ROUNDING
    np.testing.assert_allclose(run(braked, np.full((60, 3), -9.0)), -sent)
    assert sent[2].tolist() == pytest.approx([CHANGE, CHANGE, 1.0])


def test_braking_costs_few_periods_more_than_the_best_there_is(braked):
    sent = run(braked, np.full((60, 3), 9.0))[1:, 1]
    # Bang-bang: half the way faster and faster, half slower and slower.
    best = 2 * np.sqrt(1.0 / CHANGE)
    assert np.argmax(sent >= 0.99) <= best + 2


def test_a_command_within_all_limits_goes_through_unchanged(braked):
    t = np.arange(100)[:, None] * PERIOD_S
    wanted = np.float32(0.5 * (1 - np.cos(t)) * np.array([1.0, 0.7, 0.3]))
    np.testing.assert_array_equal(run(braked, wanted)[2:], wanted)


def test_large_numbers_are_not_rounded_on_their_way(braked):
    effort = Signal(joint="all", quantity="effort", unit="N", low=-1e4, high=1e4, max_rate=1e5)
    robot = braked.model_copy(update={"actions": (effort,)})
    wanted = np.float32([1234.567])
    sent = CommandLimits(robot).apply(wanted, np.float32([0.123]), np.zeros(1, np.float32))
    assert sent[0] == wanted[0]


def test_the_range_has_the_last_word_where_the_last_command_was_outside(braked):
    last = np.float32([1.9, -1.9, 1.9])
    sent = CommandLimits(braked).apply(np.zeros(3, np.float32), last, np.zeros(3, np.float32))
    assert (np.abs(sent) <= 1).all()
