"""reptile_agent.plan_evidence: who predicted better has more say about plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.plan_evidence import SHARPNESS, plan_gain

GAIN = np.array([1.0, 0.0, -2.0])
errors = st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=3).map(np.array)
gains = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3).map(np.array)


def test_equal_errors_give_every_model_the_same_say():
    assert plan_gain(np.full(3, 0.7), GAIN) == pytest.approx(-1 / 3)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_a_model_that_predicts_far_better_is_alone_believed(best):
    error = np.ones(3)
    error[best] = 1e-3
    assert plan_gain(error, GAIN) == pytest.approx(GAIN[best], abs=1e-9)


def test_half_the_error_is_worth_its_power_in_votes():
    votes = 2.0**SHARPNESS
    expected = votes / (votes + 1)
    assert plan_gain(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == pytest.approx(expected)


def test_a_model_without_error_is_believed_and_nothing_is_divided_by_zero():
    assert plan_gain(np.array([0.0, 1.0]), np.array([3.0, -3.0])) == pytest.approx(3.0)
    assert plan_gain(np.zeros(2), np.array([3.0, -1.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("where", ["error", "gain"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_of_what_is_not_finite_has_no_say(where, value):
    error, gain = np.ones(3), np.array([1.0, 2.0, 3.0])
    (error if where == "error" else gain)[1] = value
    assert plan_gain(error, gain) == pytest.approx(2.0)


def test_where_no_model_has_a_say_there_is_no_gain():
    assert np.isnan(plan_gain(np.full(3, np.nan), GAIN))
    assert np.isnan(plan_gain(np.ones(3), np.full(3, np.inf)))


@given(errors, gains)
def test_it_lies_between_the_smallest_and_the_largest_and_scale_of_errors_is_nothing(error, gain):
    found = plan_gain(error, gain)
    assert gain.min() - 1e-9 <= found <= gain.max() + 1e-9
    assert plan_gain(7 * error, gain) == pytest.approx(found, rel=1e-6, abs=1e-6)


def test_lanes_are_judged_each_for_itself():
    error = np.array([[1.0, 1e-3], [1e-3, 1.0]])
    gain = np.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(plan_gain(error, gain), [-1.0, 1.0], atol=1e-9)
