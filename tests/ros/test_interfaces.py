"""What policy_node's parameters make of a robot's measurements, references and commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("reptile_agent_ros", reason="ros2_ws is not sourced; run `make test`")

from diver import AXES, PARAMETERS, TWIST
from geometry_msgs.msg import TwistStamped
from reptile_agent_ros.commands import Commands
from reptile_agent_ros.references import References
from reptile_agent_ros.settings import declare_policy
from reptile_agent_ros.sources import Sources
from sensor_msgs.msg import JointState

from reptile_agent.spec import RobotSpec, Signal
from sim.families.rover import Rover

CONFIG = Path(__file__).parents[2] / "ros2_ws/src/reptile_agent/config"


def signals(quantity: str) -> tuple[Signal, ...]:
    return tuple(
        Signal(joint=axis, quantity=quantity, unit="1", low=-9.0, high=9.0) for axis in AXES
    )


DIVER = RobotSpec(
    name="diver",
    control_period_s=0.1,
    observations=(*signals("position"), *signals("velocity")),
    actions=signals("velocity"),
    references=signals("velocity"),
)


NOW_S = 100.0
"""Of a steady clock that stands still."""


@pytest.fixture
def made(peer):
    """Makes what policy_node makes of parameters: sources, references, commands."""
    import rclpy
    from rclpy.parameter import Parameter

    nodes = []

    def make(robot: RobotSpec = DIVER, **parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = rclpy.create_node("policy_node", context=peer.context, parameter_overrides=overrides)
        nodes.append(node)
        declare_policy(node)
        peer.executor.add_node(node)
        sources = Sources(node, robot, {}, lambda: NOW_S, [])
        references = References(node, robot, {}, lambda: NOW_S, [])
        return sources, references, Commands(node, robot, {})

    yield make
    for node in nodes:
        node.destroy_node()


def test_signals_that_nobody_moves_elsewhere_come_by_joint_states(made):
    sources, *_ = made(
        command_interface="forward",
        **{name: PARAMETERS[name] for name in ("reference_interface", "reference_twist")},
    )
    assert sources.elsewhere == {}
    assert sources.waiting() == "waiting for joint_states"


def test_who_is_waited_for_is_named_and_joints_need_not_hold_what_is_measured_elsewhere(made, peer):
    sources, *_ = made(**PARAMETERS, strict_joints=True)
    assert sources.waiting() == "waiting for odom, imu, joint_states"
    assert set(sources.elsewhere.values()) == {"imu", "odom"}
    assert len(sources.elsewhere) == 8
    publisher = peer.node.create_publisher(JointState, "joint_states", 1)
    message = JointState(name=["z"], position=[1.0], velocity=[0.0])
    peer.node.create_timer(0.05, lambda: publisher.publish(message))
    peer.wait_for(lambda: sources.waiting() == "waiting for odom, imu", "depth")
    message.name = ["x"]
    peer.wait_for(lambda: "joint 'z' of the bundle is not in" in sources.waiting(), "a refusal")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"imu_signals": ["w.position=orientation.yaw"]},
            r"imu_signals names 'w\.position', which",
        ),
        ({"imu_signals": ["z.position=pose.position.z"]}, r"there are: angular_velocity\.x, ang"),
        ({"odometry_signals": ["z.position=twist.z"]}, r"odometry_signals takes 'z\.position'"),
        ({"imu_signals": ["x.velocity=angular_velocity.x"]}, r"both name 'x\.velocity'"),
        ({"reference_interface": "pose"}, "set trajectory, twist or twist_stamped"),
        ({"reference_interface": "trajectory"}, "leave reference_twist unset"),
        ({"reference_interface": "trajectory", "reference_twist": []}, "to twist or twist_stamped"),
        ({"command_interface": "servo"}, "set forward, trajectory, twist or twist_stamped"),
        ({"command_interface": "forward"}, "leave command_twist unset"),
        ({"command_twist": TWIST[1:]}, r"command_twist names no field for x\.velocity"),
        ({"command_joints": list(AXES)}, "command_joints orders joints, and a Twist has none"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(made, change, error):
    given = {name: value for name, value in {**PARAMETERS, **change}.items() if value != []}
    with pytest.raises(ValueError, match=error):
        made(**given)


def stamped(clock, age_s: float, x: float) -> TwistStamped:
    from rclpy.duration import Duration

    message = TwistStamped()
    message.header.stamp = (clock.now() - Duration(seconds=age_s)).to_msg()
    message.twist.linear.x = x
    return message


def test_a_stamped_twist_counts_from_its_stamp_and_neither_from_long_ago_nor_from_the_future(
    made, peer
):
    _, references, _ = made(
        **{**PARAMETERS, "reference_interface": "twist_stamped", "reference_timeout_s": 2.0}
    )
    publisher, clock = (
        peer.node.create_publisher(TwistStamped, "reference", 10),
        peer.node.get_clock(),
    )
    obs = np.ones(10, np.float32)

    def after(later_s: float) -> float:
        return references.ahead(NOW_S + later_s, obs, 2)[1, 0]

    def send(age_s: float, x: float) -> None:
        publisher.publish(stamped(clock, age_s, x))

    references.begin()
    assert after(0.0) == 0.0
    peer.wait_for(lambda: publisher.get_subscription_count(), "the subscription")
    send(0.0, 1.0)
    peer.wait_for(lambda: after(1.0) == 1.0, "what was sent now")
    send(1.0, 2.0)
    peer.wait_for(lambda: after(0.5) == 2.0, "what was sent a second ago")
    assert after(1.2) == 0.0
    for age_s in (3.0, -60.0):
        send(age_s, 4.0)
        peer.spin_for(0.2)
        assert after(0.5) == 2.0
    send(-1.0, 3.0)  # A clock that is a little ahead: from now on, and no longer than others.
    peer.wait_for(lambda: after(1.5) == 3.0, "what was sent by a clock ahead")
    assert after(2.1) == 0.0


def test_the_file_for_a_base_fits_the_rover(made):
    document = yaml.safe_load((CONFIG / "base.yaml").read_text())
    parameters = document["/**/policy_node"]["ros__parameters"]
    sources, *_ = made(Rover().robot, **parameters)
    assert sources.waiting() == "waiting for odom, imu, joint_states"
    by_joints = [s.name for s in Rover().robot.observations if s.name not in sources.elsewhere]
    assert by_joints == ["left_wheel.velocity", "right_wheel.velocity"]


def test_depth_and_reliability_are_what_the_parameters_say(made, peer):
    name = "qos_overrides./imu.subscription"
    made(**PARAMETERS, **{f"{name}.depth": 7, f"{name}.reliability": "reliable"})
    found = peer.executor.get_nodes()
    imu = [s for node in found for s in node.subscriptions if s.topic_name == "/imu"]
    odom = [s for node in found for s in node.subscriptions if s.topic_name == "/odom"]
    assert (imu[0].qos_profile.depth, imu[0].qos_profile.reliability.name) == (7, "RELIABLE")
    assert (odom[0].qos_profile.depth, odom[0].qos_profile.reliability.name) == (1, "BEST_EFFORT")


@pytest.mark.parametrize(
    ("policy", "value"),
    [("depth", -1), ("depth", "many"), ("reliability", "unknown"), ("reliability", "sure")],
)
def test_a_quality_of_service_that_there_is_not_is_refused(made, policy, value):
    with pytest.raises(ValueError, match="qos_overrides of odom"):
        made(**PARAMETERS, **{f"qos_overrides./odom.subscription.{policy}": value})
