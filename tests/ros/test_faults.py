"""tests/onboard/test_controller_faults.py in real processes: what may happen to policy_node."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pytest
from played_robot import Robot

from bench.faults.nodes import bring_up, change_state, statuses
from bench.faults.processes import COMMAND_TIMEOUT_S, STILL_RAD, flood, kill_policy

PARTS = {"strict_joints": False}
"""Of policy_node, where joint_states come in parts."""


@pytest.fixture
def joints(arm_bundle) -> list[str]:
    return list(arm_bundle.manifest.robot.observed_joints)


def begin(start_node, peer, robots: list[Robot], **parameters):
    """policy_node in control of robots that hear the same commands."""
    status = statuses(peer)
    node = start_node("reptile_agent_ros.policy_node", **parameters)
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robots[0].commands) > 10, "commands")
    return node, status


def fallback(peer, status) -> str:
    """Wait for the fallback; returns why."""
    peer.wait_for(lambda: status and status[-1].mode == "fallback", "fallback", timeout_s=5.0)
    return status[-1].reason


def test_of_two_sources_the_one_that_falls_silent_is_named(start_node, peer, joints):
    robots = [Robot(peer, joints[:3]), Robot(peer, [*joints[3:], "gripper"])]
    _, status = begin(start_node, peer, robots, **PARTS)
    robots[1].silent = True
    reason = fallback(peer, status)
    assert f"measurement of '{joints[3]}.position' is" in reason
    assert "(allowed: 120 ms)" in reason


def test_nothing_moves_before_every_source_was_heard(start_node, peer, joints):
    robot, status = Robot(peer, joints[:3]), statuses(peer)
    start_node("reptile_agent_ros.policy_node", **PARTS)
    bring_up(peer, "policy_node")
    words = f"waiting for joint_states to have {joints[3]}.position"
    peer.wait_for(lambda: status and words in status[-1].reason, "a reason")
    peer.spin_for(0.5)
    assert robot.commands == []


def test_a_frozen_sensor_is_found_while_the_robot_is_led_about(start_node, peer, joints):
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    robot = Robot(peer, joints)
    noise, publish = np.random.default_rng(0), robot._publish

    def alive() -> None:
        for name in joints:
            if name != joints[1]:
                robot.position[name] = noise.uniform(-0.01, 0.01)
            robot.velocity[name] = noise.uniform(-0.01, 0.01)
        publish()

    peer.node.create_timer(0.01, alive)
    _, status = begin(start_node, peer, [robot])
    peer.spin_for(1.0)
    assert status[-1].mode == "active", "at rest a sensor may stand still"
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    peer.wait_for(publisher.get_subscription_count, "the policy's subscription")
    goal = JointTrajectoryPoint(positions=[0.0, 0.9, 0.0, 0.0, 0.0])
    publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
    reason = fallback(peer, status)
    assert f"'{joints[1]}.position' did not change to the bit in 13 samples" in reason


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda joints: joints[1:], "joint 'shoulder_pan' of the bundle is not in joint_states"),
        (lambda joints: [*joints, "gripper"], "joint_states has 'gripper', which is no joint"),
        (lambda joints: [*joints, joints[2]], "joint_states names elbow_flex twice"),
    ],
    ids=["missing", "extra", "duplicated"],
)
def test_joints_that_are_not_the_bundles_lead_to_the_fallback_by_name(
    start_node, peer, joints, spoil, words
):
    robot = Robot(peer, joints)
    _, status = begin(start_node, peer, [robot], max_frozen=0)
    robot.names = spoil(joints)
    assert words in fallback(peer, status)
    # One bad message is enough: good ones after it release nothing.
    robot.names = joints
    peer.spin_for(0.3)
    assert status[-1].mode == "fallback"


def test_joints_in_another_order_each_time_are_the_same_measurement(start_node, peer, joints):
    from reptile_agent_msgs.msg import Transition

    robot, rng = Robot(peer, joints), np.random.default_rng(0)
    robot.position = {name: 0.05 * (number + 1) for number, name in enumerate(joints)}
    seen: list[np.ndarray] = []
    peer.node.create_subscription(
        Transition,
        "policy_node/transition",
        lambda message: seen.append(np.array(message.observation)),
        10,
    )

    def shuffle() -> None:
        robot.names = rng.permutation(joints).tolist()

    peer.node.create_timer(0.005, shuffle)
    _, status = begin(start_node, peer, [robot], max_frozen=0)
    peer.wait_for(lambda: len(seen) > 25, "transitions")
    assert status[-1].mode == "active", status[-1].reason
    wanted = [*robot.position.values(), *[0.0] * len(joints)]
    np.testing.assert_allclose(seen, np.tile(wanted, (len(seen), 1)), atol=1e-6)


def test_a_single_bad_message_between_good_ones_is_not_lost(start_node, peer, joints):
    robot = Robot(peer, joints)
    # Where messages come in parts a few are queued; else the newest alone counts, by intent.
    _, status = begin(start_node, peer, [robot], max_frozen=0, **PARTS)
    robot.names = [*joints, joints[0]]
    robot._publish()
    robot.names = joints
    robot._publish()
    assert "names shoulder_pan twice" in fallback(peer, status)


def test_ros_time_that_jumps_by_hours_misses_no_tick(start_node, peer, joints):
    from rosgraph_msgs.msg import Clock

    robot = Robot(peer, joints)
    clock = peer.node.create_publisher(Clock, "/clock", 10)
    _, status = begin(start_node, peer, [robot], use_sim_time=True, max_frozen=0)
    peer.wait_for(clock.get_subscription_count, "the policy's clock")
    ticks, missed, at_s = status[-1].ticks, status[-1].missed, time.monotonic()
    for second in (7200, 3600, 10_800, 1, 7200):
        message = Clock()
        message.clock.sec = second
        clock.publish(message)
        peer.spin_for(0.4)
        assert status[-1].header.stamp.sec == second, "the node's time did jump"
    peer.wait_for(lambda: status[-1].ticks > ticks + 40, "more ticks")
    rate_hz = (status[-1].ticks - ticks) / (time.monotonic() - at_s)
    assert rate_hz == pytest.approx(25, rel=0.2)
    assert (status[-1].mode, status[-1].missed - missed) == ("active", 0)


def test_an_unknown_fallback_does_not_configure_and_says_which_there_are(start_node, peer):
    node = start_node("reptile_agent_ros.policy_node", fallback="sit")
    assert not change_state(peer, "policy_node", 1)
    assert "there is no fallback 'sit' (there are: damp, hold)" in node.output()


def test_a_flood_of_measurements_neither_slows_control_nor_fills_memory(
    start_node, peer, joints, tmp_path
):
    found = flood(start_node, peer, joints, tmp_path, for_s=5.0)
    print(found)
    assert found.messages_hz > 1000, "that was no flood"
    assert found.control_hz == pytest.approx(25, rel=0.1)
    assert found.mode == "active"
    assert not math.isnan(found.tracking_error)
    assert found.grown_mib < 2.0


def test_killed_in_mid_motion_the_policy_leaves_a_robot_that_holds(start_node, peer, joints):
    found = kill_policy(start_node, peer, joints)
    print(found)
    assert found.held_after_s < COMMAND_TIMEOUT_S + 0.2
    assert found.moved_rad < STILL_RAD
    assert found.to_goal_rad > 0.3, "it went on to its goal"


def test_the_status_counts_clamps_by_action_and_a_users_fallback_that_fails(
    start_node, peer, joints, tmp_path, monkeypatch
):
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    park = tmp_path / "park-1.0.dist-info"
    park.mkdir()
    (park / "METADATA").write_text("Metadata-Version: 2.1\nName: park\nVersion: 1.0\n")
    (park / "entry_points.txt").write_text("[reptile_agent.fallbacks]\npark = park:Park\n")
    (tmp_path / "park.py").write_text(
        "class Park:\n"
        "    def __init__(self, robot): pass\n"
        "    def begin(self, obs): pass\n"
        "    def __call__(self, obs): raise OSError('no brake')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    robot = Robot(peer, joints)
    _, status = begin(start_node, peer, [robot], fallback="park", max_frozen=0)
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    peer.wait_for(publisher.get_subscription_count, "the policy's subscription")
    # Farther than any joint may go in a period.
    goal = JointTrajectoryPoint(positions=[0.0, 1.5, 0.0, 0.0, 0.0])
    publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
    peer.wait_for(lambda: status[-1].clamps_by_action[1], "clamps")
    assert len(status[-1].clamps_by_action) == 5
    assert max(status[-1].clamps_by_action) <= status[-1].clamps
    assert status[-1].fallback_failures == 0
    robot.position[joints[0]] = math.nan
    assert "fallback 'park' failed, the robot holds instead: OSError: no brake" in fallback(
        peer, status
    )
    peer.wait_for(lambda: status[-1].fallback_failures == 1, "the count")
