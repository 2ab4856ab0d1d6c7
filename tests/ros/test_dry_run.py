"""dry_run: policy_node does everything but command the robot, and nobody learns from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from played_robot import Robot

from bench.faults.nodes import bring_up, change_state, statuses

CONFIG = Path(__file__).parents[2] / "ros2_ws/src/reptile_agent/config"


def test_everything_but_commands(start_node, peer, arm_bundle):
    from reptile_agent_msgs.msg import Transition
    from std_msgs.msg import Float64MultiArray
    from std_srvs.srv import Trigger
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    joints = list(arm_bundle.manifest.robot.observed_joints)
    robot, status = Robot(peer, joints), statuses(peer)
    transitions, would_be = [], []
    peer.node.create_subscription(Transition, "policy_node/transition", transitions.append, 50)
    peer.node.create_subscription(
        Float64MultiArray, "policy_node/dry_run", lambda m: would_be.append(np.array(m.data)), 50
    )
    reference = peer.node.create_publisher(JointTrajectory, "reference", 10)
    node = start_node("reptile_agent_ros.policy_node", dry_run=True)
    bring_up(peer, "policy_node")
    assert "dry run: nothing is sent on forward_command_controller/commands" in node.output()
    peer.wait_for(lambda: would_be, "what would be sent")
    # Far from where the robot stands, which it does to the bit: nobody moves it.
    goal = JointTrajectoryPoint(positions=[1.0, 0.0, 0.0, 0.0, 0.0])
    reference.publish(JointTrajectory(joint_names=joints, points=[goal]))
    peer.spin_for(2.0)
    assert len(would_be) > 30
    assert would_be[-1][0] > 0.5
    assert status[-1].dry_run
    assert (status[-1].mode, status[-1].reason) == ("active", "")
    # Not the holds either: of a fallback, of a reset, of the end.
    robot.position["elbow_flex"] = float("nan")
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback")
    assert status[-1].dry_run
    robot.position["elbow_flex"] = 0.0
    assert peer.call(Trigger, "policy_node/reset", Trigger.Request()).success
    peer.wait_for(lambda: status[-1].mode == "active", "active again")
    assert change_state(peer, "policy_node", 4)
    assert node.stop() == 0
    peer.spin_for(0.2)
    assert robot.commands == []
    assert transitions == []


@pytest.mark.parametrize("files", [["arm.yaml"], ["arm.yaml", "dry_run.yaml"]])
def test_the_file_that_the_launch_argument_adds_switches_it_on(peer, files):
    from rcl_interfaces.srv import GetParameters

    command = [sys.executable, "-m", "reptile_agent_ros.policy_node", "--ros-args"]
    for name in files:
        command += ["--params-file", str(CONFIG / name)]
    with subprocess.Popen(command) as process:
        try:
            request = GetParameters.Request(names=["dry_run"])
            answer = peer.call(GetParameters, "policy_node/get_parameters", request)
        finally:
            process.terminate()
    assert answer.values[0].bool_value == (len(files) == 2)
