"""reptile_agent_ros.joints: what is read of joint_states, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("reptile_agent_ros", reason="ros2_ws is not sourced; run `make test`")

from reptile_agent_ros.joints import MAX_ORDERS, JointError, JointReader
from sensor_msgs.msg import JointState

from reptile_agent.spec import RobotSpec, Signal


def signal(joint: str, quantity: str = "position") -> Signal:
    return Signal(joint=joint, quantity=quantity, unit="1", low=-9.0, high=9.0)


ROBOT = RobotSpec(
    name="toy",
    control_period_s=0.1,
    observations=(signal("a"), signal("b"), signal("a", "velocity")),
    actions=(signal("a"),),
    references=(signal("a"),),
)


def message(names: str, position=None, velocity=None) -> JointState:
    """Joints by one letter each; position 1 for a, 2 for b..., velocity ten times that."""
    number = [float(ord(name) - ord("a") + 1) for name in names]
    return JointState(
        name=list(names),
        position=number if position is None else position,
        velocity=[10 * n for n in number] if velocity is None else velocity,
    )


@pytest.fixture(params=[True, False], ids=["strict", "lenient"])
def reader(request) -> JointReader:
    return JointReader(ROBOT, {}, strict=request.param)


@pytest.fixture
def strict() -> JointReader:
    return JointReader(ROBOT, {})


@pytest.fixture
def lenient() -> JointReader:
    return JointReader(ROBOT, {}, strict=False)


def test_permuted_joints_are_the_identical_observation(reader):
    reader.take(message("ab"), 1.0)
    first = reader.obs.copy()
    reader.take(message("ba"), 2.0)
    np.testing.assert_array_equal(reader.obs, first)
    assert first.tolist() == [1.0, 2.0, 10.0]
    assert reader.received_s.tolist() == [2.0, 2.0, 2.0]


def test_a_joint_named_twice_is_refused_by_name(reader):
    with pytest.raises(JointError, match="joint_states names b twice; mend the driver"):
        reader.take(message("abb"), 1.0)
    assert len(reader.missing) == 3


def test_where_strict_a_missing_joint_is_refused_by_name(strict):
    with pytest.raises(JointError, match=r"joint 'b' of the bundle is not .* \(has: a\)"):
        strict.take(message("a"), 1.0)


def test_where_strict_an_extra_joint_is_refused_by_name(strict):
    with pytest.raises(JointError, match=r"joint_states has 'c', which is no joint of the bundle"):
        strict.take(message("abc"), 1.0)


def test_else_extra_joints_are_ignored_and_a_part_renews_what_it_holds(lenient):
    lenient.take(message("cb"), 1.0)
    assert lenient.missing == ["a.position", "a.velocity"]
    lenient.take(message("a", velocity=[]), 2.0)
    assert lenient.missing == ["a.velocity"]
    lenient.take(message("ac"), 3.0)
    assert lenient.missing == []
    assert lenient.received_s.tolist() == [3.0, 1.0, 3.0]
    assert lenient.obs.tolist() == [1.0, 2.0, 10.0]


@pytest.mark.parametrize("velocity", [[1.0], [1.0, 2.0, 3.0]])
def test_an_array_of_the_wrong_length_is_refused_and_nothing_of_it_is_taken(reader, velocity):
    reader.take(message("ab"), 1.0)
    with pytest.raises(JointError, match=rf"2 names and {len(velocity)} values of velocity"):
        reader.take(message("ab", position=[5.0, 5.0], velocity=velocity), 2.0)
    assert reader.obs.tolist() == [1.0, 2.0, 10.0]
    assert reader.received_s.tolist() == [1.0, 1.0, 1.0]


def test_what_was_measured_can_be_forgotten(reader):
    reader.take(message("ab"), 1.0)
    reader.forget()
    assert reader.missing == ["a.position", "b.position", "a.velocity"]


def test_ever_new_names_do_not_fill_the_memory(lenient):
    for i in range(500):
        lenient.take(JointState(name=[f"other_{i}"], position=[1.0]), 1.0)
    assert len(lenient._orders) <= MAX_ORDERS
