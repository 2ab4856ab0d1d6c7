"""reptile_agent.spec: what a robot's description refuses, and which column is which."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from reptile_agent.spec import RobotSpec, Signal, limits


def signal(joint: str = "elbow", quantity: str = "position", **fields) -> Signal:
    values = {"unit": "rad", "low": -1.0, "high": 1.0} | fields
    return Signal(joint=joint, quantity=quantity, **values)


def spec(**fields) -> RobotSpec:
    values = {
        "name": "toy",
        "control_period_s": 0.1,
        "observations": (signal("a"), signal("b"), signal("b", "velocity")),
        "actions": (signal("b"), signal("a", "effort")),
        "references": (signal("b"),),
    }
    return RobotSpec(**(values | fields))


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (-math.inf, 1.0), (0.0, math.inf)]
)
def test_limits_that_bound_nothing_are_refused_by_the_signals_name(low, high):
    with pytest.raises(ValidationError, match=r"signal 'elbow.position' needs finite limits"):
        signal(low=low, high=high)


@pytest.mark.parametrize("limit", ["max_rate", "max_acceleration"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_of_change_must_be_above_zero_and_finite(limit, value):
    with pytest.raises(ValidationError, match=f"needs {limit} > 0"):
        signal(**{limit: value})


def test_a_description_without_the_newer_fields_is_read():
    old = signal("b").model_dump(exclude={"max_acceleration", "may_rest"})
    assert Signal.model_validate(old) == signal("b")


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="offset"):
        signal(offset=1.0)


@pytest.mark.parametrize("role", ["observations", "actions", "references"])
def test_a_signal_named_twice_is_refused(role):
    with pytest.raises(ValidationError, match=rf"{role} of robot 'toy' name \['b.position'\]"):
        spec(**{role: (signal("b"), signal("b"))})


def test_a_reference_that_nobody_measures_is_refused():
    with pytest.raises(ValidationError, match=r"references \['c.position'\] are not among"):
        spec(references=(signal("c"),))


@pytest.mark.parametrize("period_s", [0.0, -0.1, 11.0, math.nan])
def test_a_control_period_out_of_reason_is_refused(period_s):
    with pytest.raises(ValidationError, match="control_period_s"):
        spec(control_period_s=period_s)


def test_joints_are_listed_once_in_the_order_of_the_measurement():
    assert spec().observed_joints == ("a", "b")


def test_columns_are_found_by_name():
    robot = spec(references=(signal("b"), signal("a")))
    np.testing.assert_array_equal(robot.reference_columns, [1, 0])
    np.testing.assert_array_equal(robot.servo_columns(), [1, -1])
    np.testing.assert_array_equal(robot.action_reference_columns(), [0, -1])


def test_what_is_measured_of_an_actions_joint_is_found_by_name():
    np.testing.assert_array_equal(spec().measured_columns("velocity"), [2, -1])
    np.testing.assert_array_equal(spec().measured_columns("position"), [1, 0])


def test_an_effort_is_no_servo_even_where_that_effort_is_measured():
    robot = spec(observations=(signal("b"), signal("a", "effort")))
    np.testing.assert_array_equal(robot.servo_columns(), [0, -1])


def test_limits_come_in_the_order_of_the_signals():
    low, high = limits((signal("a", low=-3.0, high=2.0), signal("b", low=0.5, high=4.0)))
    np.testing.assert_array_equal(low, np.float32([-3.0, 0.5]))
    np.testing.assert_array_equal(high, np.float32([2.0, 4.0]))
    assert low.dtype == high.dtype == np.float32


def test_a_spec_survives_json():
    assert RobotSpec.model_validate_json(spec().model_dump_json()) == spec()
