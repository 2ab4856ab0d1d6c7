"""Told to stop, policy_node leaves a robot that holds, and every node ends cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from played_robot import Robot

from bench.faults.nodes import STOP_S, bring_up, change_state, statuses

PLACE = 0.3
CRASHES = """
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from reptile_agent_ros.run import run

class Crashes(LifecycleNode):
    def __init__(self):
        super().__init__('crashes')
        self.create_timer(0.1, self.crash)

    def crash(self):
        raise OSError('broken')

    def on_shutdown(self, state):
        print('shut down', flush=True)
        return TransitionCallbackReturn.SUCCESS

run(Crashes, None)
"""


def tell(node, peer, *numbers: signal.Signals, apart_s: float) -> float:
    """Send signals one after the other; returns how long the node then lives [s]."""
    began_s = time.monotonic()
    for number in numbers:
        node.process.send_signal(number)
        peer.spin_for(apart_s)
    peer.wait_for(lambda: node.process.poll() is not None, "end of the node", STOP_S)
    lived_s = time.monotonic() - began_s
    peer.spin_for(0.3)
    return lived_s


def controlling(start_node, peer, arm_bundle, **parameters):
    """policy_node that leads a played robot, which does not move, to a far reference."""
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot = Robot(peer, joints)
    robot.position = dict.fromkeys(joints, PLACE)
    node = start_node("reptile_agent_ros.policy_node", max_frozen=0, **parameters)
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 5, "commands")
    goal = JointTrajectoryPoint(positions=[0.9] * len(joints))
    publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
    peer.wait_for(lambda: np.abs(robot.commands[-1] - PLACE).max() > 0.1, "motion")
    return node, robot


@pytest.mark.parametrize(
    ("numbers", "apart_s"),
    [
        ((signal.SIGINT,), 0.0),
        ((signal.SIGTERM,), 0.0),
        ((signal.SIGINT, signal.SIGINT), 0.0),
        ((signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGTERM), 0.01),
    ],
    ids=["sigint", "sigterm", "twice", "again_and_again"],
)
def test_the_last_command_holds_the_robot_where_it_is(
    start_node, peer, arm_bundle, numbers, apart_s
):
    node, robot = controlling(start_node, peer, arm_bundle)
    before = len(robot.commands)
    tell(node, peer, *numbers, apart_s=apart_s)
    assert len(robot.commands) - before <= 3, "it went on for more than a control period"
    assert robot.commands[-1] == pytest.approx(np.full(5, PLACE), abs=1e-6)
    assert node.process.returncode == 0
    assert "Traceback" not in node.output()


def test_a_driver_that_hangs_cannot_keep_it_from_ending(start_node, peer, arm_bundle):
    """It acknowledges nothing; another one gets the last command all the same."""
    driver = start_node("reptile_agent_mujoco.mujoco_robot", {"joint_states": "not_heard"})
    peer.wait_for(lambda: "joint_states at" in driver.output(), "driver", 30.0)
    node, robot = controlling(start_node, peer, arm_bundle)
    driver.process.send_signal(signal.SIGSTOP)
    peer.spin_for(0.5)
    assert tell(node, peer, signal.SIGINT, apart_s=0.0) < 2.0
    driver.process.send_signal(signal.SIGCONT)
    assert robot.commands[-1] == pytest.approx(np.full(5, PLACE), abs=1e-6)
    assert node.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ["unconfigured", "inactive", "shut_down"])
def test_a_node_that_does_not_control_ends_without_a_command(
    start_node, peer, arm_bundle, number, state
):
    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot, status = Robot(peer, joints), statuses(peer)
    node = start_node("reptile_agent_ros.policy_node")
    peer.wait_for(lambda: "policy_node" in peer.node.get_node_names(), "the node")
    if state != "unconfigured":
        assert change_state(peer, "policy_node", 1)
    if state == "shut_down":
        assert change_state(peer, "policy_node", 6)
    peer.spin_for(0.3)
    tell(node, peer, number, apart_s=0.0)
    assert (node.process.returncode, robot.commands) == (0, [])
    assert all(one.mode == "inactive" for one in status)


def test_after_a_deactivation_only_the_hold_was_sent(start_node, peer, arm_bundle):
    node, robot = controlling(start_node, peer, arm_bundle)
    assert change_state(peer, "policy_node", 4)
    peer.spin_for(0.3)
    sent = len(robot.commands)
    tell(node, peer, signal.SIGINT, apart_s=0.0)
    assert len(robot.commands) == sent
    assert robot.commands[-1] == pytest.approx(np.full(5, PLACE), abs=1e-6)
    assert node.process.returncode == 0


def test_a_node_that_crashes_is_shut_down_too(ros_domain):
    done = subprocess.run(
        [sys.executable, "-c", CRASHES], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "shut down\n")
    assert "OSError: broken" in done.stderr


@pytest.mark.parametrize("module", ["adapter_node", "reference_node"])
def test_the_other_nodes_end_as_well(start_node, peer, module):
    lists = {"middle_rad": "[0.0]", "amplitude_rad": "[0.1]", "period_s": "[3.0]"}
    more = {"joints": "[elbow_flex]", **lists} if module == "reference_node" else {}
    node = start_node(f"reptile_agent_ros.{module}", **more)
    if module == "adapter_node":
        bring_up(peer, module)
    else:
        peer.wait_for(lambda: module in peer.node.get_node_names(), "the node")
    tell(node, peer, signal.SIGINT, signal.SIGINT, apart_s=0.0)
    assert node.process.returncode == 0
    assert "Traceback" not in node.output()
