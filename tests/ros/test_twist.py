"""reptile_agent_ros.twist: velocities to follow that time out, and commands that are Twists."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("reptile_agent_ros", reason="ros2_ws is not sourced; run `make test`")

from geometry_msgs.msg import Twist, TwistStamped
from reptile_agent_ros.twist import TwistCommand, TwistTrack

from reptile_agent.spec import RobotSpec, Signal

PAIRS = ["turn.velocity=angular.z", "go.velocity=linear.x"]


def signal(joint: str, quantity: str = "velocity", low: float = -1.0) -> Signal:
    return Signal(joint=joint, quantity=quantity, unit="1", low=low, high=1.0)


def robot(*signals: Signal) -> RobotSpec:
    return RobotSpec(
        name="toy", control_period_s=0.1, observations=signals, actions=signals, references=signals
    )


BASE = robot(signal("go"), signal("turn"))


def said(go: float, turn: float, kind=Twist):
    message = kind()
    twist = message if kind is Twist else message.twist
    twist.linear.x, twist.angular.z = go, turn
    return message


@pytest.mark.parametrize("kind", [Twist, TwistStamped])
def test_a_twist_is_followed_for_its_time_and_then_the_robot_is_to_stand(kind):
    track = TwistTrack(BASE, PAIRS, timeout_s=0.5)
    assert not track.ahead(0.0, 3).any()
    track.follow(said(0.5, -0.25, kind), 10.0)
    assert track.ahead(10.4, 3).tolist() == [[0.5, -0.25]] * 3
    assert track.ahead(10.4, 3).dtype == np.float32
    assert track.goes_on(10.4)
    assert not track.goes_on(10.6)
    assert track.ahead(10.6, 3).tolist() == [[0.0, 0.0]] * 3


def test_staying_is_standing_still_however_fast_the_robot_is():
    track = TwistTrack(BASE, PAIRS, timeout_s=0.5)
    track.follow(said(0.5, 0.0), 10.0)
    track.stay(np.array([0.7, 0.7]))
    assert not track.ahead(10.1, 1).any()
    assert not track.goes_on(10.1)


@pytest.mark.parametrize("go", [float("nan"), float("inf"), 1.5])
def test_a_velocity_that_cannot_be_is_refused_by_name_and_the_last_one_stays(go):
    track = TwistTrack(BASE, PAIRS, timeout_s=0.5)
    track.follow(said(0.5, 0.0), 10.0)
    with pytest.raises(ValueError, match=r"Twist asks 'go\.velocity' for .*, outside \[-1, 1\]"):
        track.follow(said(go, 0.0), 10.4)
    assert track.ahead(10.4, 1).tolist() == [[0.5, 0.0]]
    assert not track.ahead(10.6, 1).any()


def test_a_command_goes_into_its_fields_and_all_others_are_zero():
    command = TwistCommand(BASE, PAIRS, Twist, "")
    command.fill(np.array([0.5, -0.25], np.float32))
    assert command.message == said(0.5, -0.25)
    stamped = TwistCommand(BASE, PAIRS, TwistStamped, "base_link")
    stamped.fill(np.array([0.5, -0.25], np.float32))
    assert stamped.message.twist == said(0.5, -0.25)
    assert stamped.message.header.frame_id == "base_link"


@pytest.mark.parametrize(
    ("spec", "pairs", "error"),
    [
        (robot(signal("go", "position"), signal("turn")), PAIRS, "velocities, the bundle has go.p"),
        (robot(signal("go", low=0.2), signal("turn")), PAIRS, "cannot be zero"),
        (BASE, PAIRS[:1], "names no field for go.velocity"),
        (BASE, ["go.velocity=linear.x", "turn.velocity=linear.x"], "two signals for 'linear.x'"),
        (BASE, [*PAIRS, "go.velocity=linear.y"], "names 'go.velocity' twice"),
        (BASE, ["go.velocity=linear", "turn.velocity=angular.z"], r"there are: linear\.x, linear"),
    ],
)
def test_what_a_twist_cannot_hold_is_refused(spec, pairs, error):
    with pytest.raises(ValueError, match=error):
        TwistCommand(spec, pairs, Twist, "")
    with pytest.raises(ValueError, match=error):
        TwistTrack(spec, pairs, timeout_s=0.5)
