"""policy_node and adapter_node as real processes over DDS, with a robot played by the test."""

from __future__ import annotations

import time

import numpy as np
import pytest
from played_robot import Robot, start_reference

from bench.faults.nodes import bring_up, change_state, latched, statuses


def test_nothing_moves_before_activation_and_the_command_holds_where_the_robot_is(
    start_node, peer, arm_bundle
):
    robot = Robot(peer, list(arm_bundle.manifest.robot.observed_joints))
    start_node("reptile_agent_ros.policy_node")
    assert change_state(peer, "policy_node", 1)
    peer.spin_for(0.5)
    assert robot.commands == []
    assert change_state(peer, "policy_node", 3)
    peer.wait_for(lambda: len(robot.commands) > 20, "commands")
    # No reference was sent: the robot stays, and a good model compensates a little gravity.
    assert np.abs(robot.commands[-1]).max() < 0.3


def test_a_missing_joint_is_named_and_nothing_moves(start_node, peer, arm_bundle):
    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot, status = Robot(peer, [*joints[:2], *joints[3:]]), statuses(peer)
    node = start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: status and status[-1].reason, "a reason")
    peer.spin_for(0.5)
    assert robot.commands == []
    assert "joint 'elbow_flex' of the bundle is not in joint_states" in node.output()
    assert "set joint_map in the parameters" in status[-1].reason


def test_joint_map_mends_a_name_and_order_does_not_matter(start_node, peer, arm_bundle):
    joints = list(arm_bundle.manifest.robot.observed_joints)
    theirs = ["elbow" if name == "elbow_flex" else name for name in reversed(joints)]
    robot = Robot(peer, theirs)
    robot.position["elbow"] = 0.5
    start_node("reptile_agent_ros.policy_node", joint_map="['elbow_flex=elbow']")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    assert robot.commands[-1][joints.index("elbow_flex")] == pytest.approx(0.5, abs=0.3)
    assert robot.commands[-1][joints.index("wrist_roll")] == pytest.approx(0.0, abs=0.3)


def test_nan_in_an_observation_latches_the_fallback_until_reset(start_node, peer, arm_bundle):
    from std_srvs.srv import Trigger

    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot, status = Robot(peer, joints), statuses(peer)
    robot.position["wrist_flex"] = 0.25
    start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    robot.position["elbow_flex"] = float("nan")
    peer.wait_for(lambda: status and status[-1].mode == "fallback", "fallback")
    assert "'elbow_flex.position' is not finite" in status[-1].reason
    peer.spin_for(0.2)
    assert all(np.isfinite(command).all() for command in robot.commands)
    held = robot.commands[-1]
    assert held[joints.index("wrist_flex")] == pytest.approx(0.25, abs=1e-6)

    robot.position["elbow_flex"] = 0.0
    peer.spin_for(0.3)
    assert status[-1].mode == "fallback", "the fallback must stay latched"
    assert peer.call(Trigger, "policy_node/reset", Trigger.Request()).success
    peer.wait_for(lambda: status[-1].mode == "active", "active again")


def test_commands_go_out_as_a_trajectory_where_that_is_asked_for(start_node, peer, arm_bundle):
    from trajectory_msgs.msg import JointTrajectory

    joints = list(arm_bundle.manifest.robot.observed_joints)
    theirs = ["elbow" if name == "elbow_flex" else name for name in joints]
    robot, sent = Robot(peer, theirs), []
    topic = "joint_trajectory_controller/joint_trajectory"
    peer.node.create_subscription(JointTrajectory, topic, sent.append, 10)
    start_node(
        "reptile_agent_ros.policy_node",
        command_interface="trajectory",
        command_joints=f"[{', '.join(reversed(joints))}]",
        joint_map="['elbow_flex=elbow']",
    )
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(sent) > 5, "trajectories")
    assert sent[-1].joint_names == theirs[::-1]
    assert len(sent[-1].points[0].positions) == len(joints)
    assert sent[-1].points[0].time_from_start.nanosec == 40_000_000
    assert robot.commands == []


def test_a_silent_robot_leads_to_the_fallback(start_node, peer, arm_bundle):
    robot, status = Robot(peer, list(arm_bundle.manifest.robot.observed_joints)), statuses(peer)
    start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    robot.silent = True
    peer.wait_for(lambda: status and status[-1].mode == "fallback", "fallback", timeout_s=3.0)
    assert "ms old" in status[-1].reason


def test_a_damaged_bundle_does_not_configure(start_node, peer, arm_bundle, tmp_path):
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in arm_bundle.path.iterdir():
        copy.joinpath(file.name).write_bytes(file.read_bytes())
    graph = bytearray((copy / "act.onnx").read_bytes())
    graph[100] ^= 1
    (copy / "act.onnx").write_bytes(graph)
    node = start_node("reptile_agent_ros.policy_node", bundle=copy)
    assert not change_state(peer, "policy_node", 1)
    assert "act.onnx does not have the sha256 of the manifest" in node.output()


@pytest.mark.parametrize("node", ["policy_node", "adapter_node"])
def test_a_bundle_that_nobody_signed_does_not_configure_where_a_key_is_set(
    start_node, peer, tmp_path, node
):
    key = tmp_path / "public.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----")
    process = start_node(f"reptile_agent_ros.{node}", bundle_key=key)
    assert not change_state(peer, node, 1)
    assert "model.sig" in process.output()


def test_a_reference_from_a_publisher_that_does_not_latch_is_heard(start_node, peer, arm_bundle):
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot = Robot(peer, joints)
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    node = start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    assert abs(robot.commands[-1][0]) < 0.3
    goal = JointTrajectoryPoint(positions=[1.0, 0.0, 0.0, 0.0, 0.0])
    publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
    peer.wait_for(lambda: robot.commands[-1][0] > 0.8, "a command towards the reference")
    goal.positions[0] = 9.0
    publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
    peer.wait_for(lambda: "reference refused" in node.output(), "a refusal")
    assert "trajectory takes 'shoulder_pan.position' to 9..9, outside" in node.output()


def test_nothing_is_learned_while_the_policy_falls_back(start_node, peer, arm_bundle):
    from reptile_agent_msgs.msg import AdaptationStatus

    robot = Robot(peer, list(arm_bundle.manifest.robot.observed_joints))
    status, adaptations = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    start_node("reptile_agent_ros.policy_node")
    start_node("reptile_agent_ros.adapter_node")
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: adaptations, "an adaptation", 20.0)
    robot.silent = True
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback")
    peer.spin_for(0.5)
    before = len(adaptations)
    peer.spin_for(1.5)
    assert len(adaptations) == before


def test_with_sim_time_the_simulated_robot_says_what_time_it_is(start_node, peer):
    from rosgraph_msgs.msg import Clock

    times: list = []
    peer.node.create_subscription(Clock, "/clock", times.append, 10)
    start_node("reptile_agent_mujoco.mujoco_robot", use_sim_time=True)
    peer.wait_for(lambda: len(times) > 50, "/clock")
    seconds = [message.clock.sec + 1e-9 * message.clock.nanosec for message in times]
    assert seconds == sorted(seconds)
    assert 0.2 < seconds[-1] < 30


def send_parameters(peer, publisher, flat: np.ndarray, version: int, start: str, sha: str) -> None:
    from reptile_agent_msgs.msg import Parameters

    publisher.publish(
        Parameters(
            version=version, start_sha256=start, sha256=sha, data=flat.astype(np.float32).tolist()
        )
    )
    peer.spin_for(0.4)


def test_parameters_that_do_not_fit_are_refused_and_good_ones_are_taken(
    start_node, peer, arm_bundle
):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from reptile_agent_msgs.msg import Parameters
    from std_srvs.srv import Trigger

    from reptile_agent.onboard.parameters import sha256

    robot, status = Robot(peer, list(arm_bundle.manifest.robot.observed_joints)), statuses(peer)
    node = start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.node.create_publisher(Parameters, "adapter_node/parameters", qos)
    peer.wait_for(publisher.get_subscription_count, "the policy's subscription")
    start, good = arm_bundle.manifest.start_sha256, arm_bundle.start + np.float32(1e-4)
    broken = good.copy()
    broken[7] = np.nan
    far = arm_bundle.start + np.float32(1.0)

    send_parameters(peer, publisher, good, 5, "0" * 64, sha256(good))
    send_parameters(peer, publisher, good, 6, start, "0" * 64)
    send_parameters(peer, publisher, good[:-1], 7, start, sha256(good[:-1]))
    send_parameters(peer, publisher, broken, 8, start, sha256(broken))
    send_parameters(peer, publisher, far, 9, start, sha256(far))
    assert status[-1].parameters_version == 0
    text = node.output()
    for sentence in (
        "version 5 refused: parameters were adapted from start 000000000000",
        "version 6 refused: parameters do not have the sha256",
        "version 7 refused: got",
        "version 8 refused: offered parameters are not finite",
        "version 9 refused: offered parameters are",
    ):
        assert sentence in text
    peer.wait_for(lambda: status[-1].ticks > 30, "enough to judge new parameters by")
    send_parameters(peer, publisher, good, 10, start, sha256(good))
    peer.wait_for(lambda: status[-1].parameters_version == 10, "version 10")
    assert status[-1].parameters_sha256 == sha256(good)

    # On probation still, if this machine is not too slow: then the reset takes them back.
    assert peer.call(Trigger, "policy_node/reset", Trigger.Request()).success
    ticks = status[-1].ticks
    peer.wait_for(lambda: status[-1].ticks != ticks, "control after the reset")
    named = {0: start, 10: sha256(good)}
    assert status[-1].parameters_sha256 == named[status[-1].parameters_version]


def test_who_joins_late_gets_the_parameters_that_were_accepted_last(start_node, peer, arm_bundle):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from reptile_agent_msgs.msg import Parameters

    from reptile_agent.onboard.parameters import sha256

    _robot, status = Robot(peer, list(arm_bundle.manifest.robot.observed_joints)), statuses(peer)
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.node.create_publisher(Parameters, "adapter_node/parameters", qos)
    good = arm_bundle.start + np.float32(1e-4)
    send_parameters(peer, publisher, good, 4, arm_bundle.manifest.start_sha256, sha256(good))
    start_node("reptile_agent_ros.policy_node")
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: status and status[-1].parameters_version == 4, "version 4")


def test_the_policy_runs_on_when_the_adapter_is_killed_and_takes_what_a_new_one_learns(
    start_node, peer
):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from reptile_agent_msgs.msg import AdaptationStatus, Parameters

    status, adaptations = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    policy = start_node("reptile_agent_ros.policy_node")
    adapter = start_node("reptile_agent_ros.adapter_node")
    start_reference(start_node)
    # Beside the adapter somebody else offers nonsense, all the time.
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    nonsense = peer.node.create_publisher(Parameters, "adapter_node/parameters", qos)
    peer.node.create_timer(0.05, lambda: nonsense.publish(Parameters(version=99, data=[1e30])))
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: any(a.accepted for a in adaptations), "an accepted adaptation", 30.0)
    peer.wait_for(lambda: status[-1].parameters_version > 0, "adapted parameters in use")
    adapter.kill()
    ticks, at_s = status[-1].ticks, time.monotonic()
    peer.spin_for(2.0)
    rate_hz = (status[-1].ticks - ticks) / (time.monotonic() - at_s)
    assert rate_hz == pytest.approx(25, rel=0.2)
    assert status[-1].mode == "active"
    before = status[-1].parameters_version
    start_node("reptile_agent_ros.adapter_node")
    peer.spin_for(5.0)  # until it is known: for a while its name still means the one that is dead
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: status[-1].parameters_version > before, "a new one's parameters", 30.0)
    assert status[-1].parameters_version != 99
    assert "parameters version 99 refused" in policy.output()


def test_adapt_on_request(start_node, peer):
    from rclpy.action import ActionClient
    from reptile_agent_msgs.action import Adapt

    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    start_node("reptile_agent_ros.policy_node")
    start_node("reptile_agent_ros.adapter_node", adapt_period_s=0.0, budget_s=2.0)
    start_reference(start_node)
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    client = ActionClient(peer.node, Adapt, "adapter_node/adapt")
    peer.wait_for(client.server_is_ready, "action server")

    def ask(**goal):
        sent = client.send_goal_async(Adapt.Goal(**goal))
        peer.wait_for(sent.done, "goal response")
        result = sent.result().get_result_async()
        peer.wait_for(result.done, "result")
        return result.result().result

    assert "transitions are remembered yet" in ask(steps=5).reason
    peer.spin_for(3.0)
    assert ask(start="elsewhere").reason == "start is 'elsewhere'; use 'start', 'last' or ''"
    result = ask(steps=20)
    assert result.verdict in ("accepted", "not_better")
    assert np.isfinite([result.before, result.after]).all()
    assert 0 < result.duration_ms < 2000
    client.destroy()
