"""policy_node over DDS on a robot that swims: joint_states, imu and odom in, Twist in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
from diver import PARAMETERS, Diver, write_bundle

from bench.faults.nodes import bring_up, change_state, statuses

FOLLOW_S = 0.05
"""Time between two Twists to follow."""


@pytest.fixture
def diver_path(arm_bundle_path: Path, tmp_path: Path) -> Path:
    return write_bundle(arm_bundle_path, tmp_path / "diver")


@pytest.fixture
def follow(peer):
    """Have a Twist published over and over, until None is."""
    from geometry_msgs.msg import Twist

    publisher, now = peer.node.create_publisher(Twist, "reference", 1), []
    peer.node.create_timer(FOLLOW_S, lambda: [publisher.publish(twist) for twist in now])

    def change(x: float, yaw: float) -> None:
        twist = Twist()
        twist.linear.x, twist.angular.z = x, yaw
        now[:] = [twist]

    def end() -> None:
        now.clear()

    change.end = end
    return change


def test_a_twist_comes_in_and_goes_out_and_stops_when_it_stops(
    start_node, peer, diver_path, follow
):
    from reptile_agent_msgs.msg import Transition

    robot, status, transitions = Diver(peer), statuses(peer), []
    robot.silent = {"imu"}
    robot.messages["odom"].pose.pose.orientation.w = 0.6
    robot.messages["odom"].pose.pose.orientation.z = 0.8
    robot.messages["odom"].twist.twist.linear.x = 0.1
    peer.node.create_subscription(Transition, "policy_node/transition", transitions.append, 50)
    # The lamp is no joint of the bundle's; strictly it would be refused.
    start_node(
        "reptile_agent_ros.policy_node", bundle=diver_path, strict_joints=False, **PARAMETERS
    )
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: status and status[-1].reason == "waiting for imu", "wait for the imu")
    assert robot.commands == []
    robot.silent = set()
    peer.wait_for(lambda: robot.commands, "commands")
    # Nothing was asked of it, and it is moving: it is to stand still, not to keep that up.
    assert robot.commands[-1].linear.x == 0
    follow(0.5, -0.25)
    peer.wait_for(lambda: robot.commands[-1].linear.x == 0.5, "the velocity that was asked for")
    sent = robot.commands[-1]
    assert (sent.angular.z, sent.linear.y, sent.angular.x) == (-0.25, 0, 0)
    peer.spin_for(1.0)
    assert robot.commands[-1] == sent
    seen = transitions[-1].observation
    assert seen[5] == pytest.approx(0.1 * (0.6**2 - 0.8**2), abs=1e-5)
    assert seen[2] == 1.0
    follow.end()
    peer.wait_for(lambda: robot.commands[-1].linear.x == 0, "zero after the time-out", 3.0)
    assert status[-1].mode == "active", status[-1].reason


@pytest.mark.parametrize("silent", ["imu", "odom"])
def test_one_stale_source_is_named_and_the_robot_stops(
    start_node, peer, diver_path, follow, silent
):
    robot, status = Diver(peer), statuses(peer)
    start_node(
        "reptile_agent_ros.policy_node", bundle=diver_path, strict_joints=False, **PARAMETERS
    )
    follow(0.5, 0.0)
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: robot.commands and robot.commands[-1].linear.x == 0.5, "motion")
    robot.silent = {silent}
    peer.wait_for(lambda: status and status[-1].mode == "fallback", "fallback", 3.0)
    assert f"({silent}) is " in status[-1].reason
    assert "ms old" in status[-1].reason
    peer.spin_for(0.2)
    assert (robot.commands[-1].linear.x, robot.commands[-1].angular.z) == (0, 0)


def test_what_an_imu_does_not_measure_and_what_is_not_finite_lead_to_the_fallback(
    start_node, peer, diver_path
):
    from std_srvs.srv import Trigger

    robot, status = Diver(peer), statuses(peer)
    imu = robot.messages["imu"]
    imu.orientation_covariance[0] = -1.0
    start_node(
        "reptile_agent_ros.policy_node", bundle=diver_path, strict_joints=False, **PARAMETERS
    )
    bring_up(peer, "policy_node")
    refused = "imu has no orientation"
    peer.wait_for(lambda: status and refused in status[-1].reason, "a refusal")
    peer.spin_for(0.3)
    assert robot.commands == []
    imu.orientation_covariance[0] = 0.0
    peer.wait_for(lambda: robot.commands, "commands, now that it is mended")
    imu.angular_velocity.y = float("nan")
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback", 3.0)
    assert "'pitch.velocity' (imu) is not finite" in status[-1].reason
    imu.angular_velocity.y = 0.0
    assert peer.call(Trigger, "policy_node/reset", Trigger.Request()).success
    peer.wait_for(lambda: status[-1].mode == "active", "active again")
    imu.orientation.w = 0.0
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback", 3.0)
    assert "orientation of imu has the length 0" in status[-1].reason


def test_configured_anew_it_hears_and_speaks_as_before_with_qos_overridden(
    start_node, peer, diver_path
):
    from geometry_msgs.msg import TwistStamped
    from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
    from sensor_msgs.msg import Imu

    reliability = {
        "imu": ("subscription", ReliabilityPolicy.RELIABLE),
        "cmd_vel": ("publisher", ReliabilityPolicy.BEST_EFFORT),
    }
    overrides = {
        f"qos_overrides./{topic}.{entity}.reliability": policy.name.lower()
        for topic, (entity, policy) in reliability.items()
    }
    parameters = PARAMETERS | {"command_interface": "twist_stamped", "command_frame": "hull"}
    robot = Diver(peer, stamped=True)
    heard: list[TwistStamped] = []
    peer.node.create_subscription(TwistStamped, "cmd_vel", heard.append, qos_profile_sensor_data)
    robot.silent = {"imu"}  # Its publisher is best effort, and is not heard by a reliable one.
    reliable = peer.node.create_publisher(Imu, "imu", 1)
    peer.node.create_timer(0.02, lambda: reliable.publish(robot.messages["imu"]))
    node = start_node(
        "reptile_agent_ros.policy_node",
        bundle=diver_path,
        strict_joints=False,
        **parameters,
        **overrides,
    )
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: heard, "commands")
    for topic, (entity, policy) in reliability.items():
        infos = getattr(peer.node, f"get_{entity}s_info_by_topic")(topic)
        ours = [info for info in infos if info.node_name == "policy_node"]
        assert [info.qos_profile.reliability for info in ours] == [policy], topic
    assert heard[-1].header.frame_id == "hull"
    age_s = (peer.node.get_clock().now().nanoseconds * 1e-9) - heard[-1].header.stamp.sec
    assert -1.0 < age_s < 5.0
    assert robot.commands == [], "a reliable subscription does not hear a best effort publisher"
    assert change_state(peer, "policy_node", 4)
    assert change_state(peer, "policy_node", 2)
    heard.clear()
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: heard, "commands again")
    assert node.process.poll() is None


def test_a_quality_that_there_is_not_does_not_configure(start_node, peer, diver_path):
    name = "qos_overrides./odom.subscription.depth"
    node = start_node(
        "reptile_agent_ros.policy_node", bundle=diver_path, **PARAMETERS, **{name: 1000}
    )
    assert not change_state(peer, "policy_node", 1)
    assert "qos_overrides of odom" in node.output()
    assert "depth is 1000; set 1 to 10" in node.output()
