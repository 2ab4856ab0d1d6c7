"""mujoco_robot over real DDS, as a controller would find it."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; run `make test`")
pytest.importorskip("reptile_agent_msgs", reason="ros2_ws is not sourced; run `make test`")

from rclpy.qos import qos_profile_sensor_data
from reptile_agent_msgs.srv import InjectFault
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

MODULE = "reptile_agent_mujoco.mujoco_robot"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
POSE = {
    "shoulder_pan": 0.5,
    "shoulder_lift": 0.3,
    "elbow_flex": -0.4,
    "wrist_flex": 0.6,
    "wrist_roll": -0.7,
}
STILL_RAD = 0.02
"""A joint that moves less stands still but for gravity."""


class Robot:
    """A controller's view of mujoco_robot."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self.states: list[tuple[float, JointState]] = []
        peer.node.create_subscription(
            JointState,
            "joint_states",
            lambda message: self.states.append((time.monotonic(), message)),
            qos_profile_sensor_data,
        )
        self._forward = peer.node.create_publisher(
            Float64MultiArray, "forward_command_controller/commands", 1
        )
        peer.wait_for(lambda: self.states, "joint_states", timeout_s=30.0)

    def positions(self) -> dict[str, float]:
        """The newest position of each joint."""
        message = self.states[-1][1]
        return dict(zip(message.name, message.position))

    def command(self, values: list[float], duration_s: float) -> None:
        """Send a forward command at 25 Hz for so long."""
        self.peer.wait_for(self._forward.get_subscription_count, "subscriber of commands")
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._forward.publish(Float64MultiArray(data=values))
            self.peer.spin_for(0.04)

    def inject(self, names: list[str], values: list[float]) -> InjectFault.Response:
        """Ask for a fault."""
        request = InjectFault.Request(names=names, values=values)
        return self.peer.call(InjectFault, "mujoco_robot/inject_fault", request)


def distance(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest difference of any joint [rad]."""
    return max(abs(a[joint] - b[joint]) for joint in JOINTS)


def test_joint_states_come_by_name_stamped_and_at_the_rate_asked_for(start_node, peer) -> None:
    start_node(MODULE, publish_rate_hz=50.0)
    robot = Robot(peer)
    robot.states.clear()
    peer.spin_for(1.5)
    came_s = [at_s for at_s, _ in robot.states]
    rate_hz = (len(came_s) - 1) / (came_s[-1] - came_s[0])
    assert 40 < rate_hz < 55
    stamps_s = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for _, m in robot.states]
    assert np.all(np.diff(stamps_s) > 0)
    assert abs(stamps_s[-1] - time.time()) < 5
    message = robot.states[-1][1]
    assert tuple(message.name) == JOINTS
    assert len(message.position) == len(message.velocity) == len(JOINTS)
    assert not message.effort


def test_a_command_moves_every_joint_to_it(start_node, peer) -> None:
    start_node(MODULE)
    robot = Robot(peer)
    robot.command([POSE[joint] for joint in JOINTS], duration_s=1.2)
    assert distance(robot.positions(), POSE) < 0.15


def test_permuted_command_joints_give_the_same_motion(start_node, peer) -> None:
    order = [JOINTS[i] for i in (3, 0, 4, 2, 1)]
    start_node(MODULE, command_joints=order)
    robot = Robot(peer)
    robot.command([POSE[joint] for joint in order], duration_s=1.2)
    assert distance(robot.positions(), POSE) < 0.15


def test_a_trajectory_moves_joints_by_name(start_node, peer) -> None:
    start_node(MODULE, command_interface="trajectory", command_timeout_s=5.0)
    robot = Robot(peer)
    names = list(reversed(JOINTS))
    point = JointTrajectoryPoint(positions=[POSE[joint] for joint in names])
    publisher = peer.node.create_publisher(
        JointTrajectory, "joint_trajectory_controller/joint_trajectory", 1
    )
    peer.wait_for(publisher.get_subscription_count, "subscriber of trajectories")
    publisher.publish(JointTrajectory(joint_names=names, points=[point]))
    peer.spin_for(1.2)
    assert distance(robot.positions(), POSE) < 0.15


def test_commands_that_do_not_fit_move_nothing_and_are_named_once_a_kind(start_node, peer) -> None:
    node = start_node(MODULE)
    robot = Robot(peer)
    peer.spin_for(0.7)  # The arm sags a little at first.
    before = robot.positions()
    robot.command([0.5, 0.5, float("nan"), 0.5, 0.5], duration_s=0.4)
    robot.command([0.5, 0.5, 0.5, 0.5], duration_s=0.4)
    assert distance(robot.positions(), before) < STILL_RAD
    assert node.output().count("elbow_flex: nan") == 1
    assert node.output().count("4 values, the robot takes 5") == 1


def test_without_fresh_commands_the_robot_holds_where_it_is(start_node, peer) -> None:
    node = start_node(MODULE, command_timeout_s=0.1)
    robot = Robot(peer)
    target = {joint: 1.6 * np.sign(POSE[joint]) for joint in JOINTS}
    robot.command([target[joint] for joint in JOINTS], duration_s=0.05)
    peer.wait_for(lambda: "no command for 0.1 s" in node.output(), "word of the timeout")
    peer.spin_for(0.7)
    held = robot.positions()
    assert distance(held, target) > 0.3, "the arm went on to its target"
    peer.spin_for(0.5)
    assert distance(robot.positions(), held) < STILL_RAD


def test_faults_are_refused_by_name_or_felt_at_once_and_reset_takes_them_away(
    start_node, peer
) -> None:
    start_node(MODULE)
    robot = Robot(peer)
    level = [0.0] * len(JOINTS)
    robot.command(level, duration_s=1.0)
    before = robot.positions()

    refused = robot.inject(["payload_lb"], [1.0])
    assert not refused.success
    assert "no variation 'payload_lb' (there are:" in refused.message
    assert "payload_kg" in refused.message
    assert not robot.inject(["payload_kg"], [float("inf")]).success
    assert not robot.inject(["payload_kg", "friction"], [0.1]).success
    robot.command(level, duration_s=0.5)
    assert distance(robot.positions(), before) < STILL_RAD

    accepted = robot.inject(["payload_kg"], [0.3])
    assert accepted.success
    assert "'payload_kg': 0.3" in accepted.message
    robot.command(level, duration_s=1.0)
    assert distance(robot.positions(), before) > 2 * STILL_RAD

    assert peer.call(Trigger, "mujoco_robot/reset", Trigger.Request()).success
    robot.command(level, duration_s=1.0)
    assert distance(robot.positions(), before) < STILL_RAD


def test_ctrl_c_ends_the_node_cleanly(start_node, peer) -> None:
    node = start_node(MODULE)
    Robot(peer)
    assert node.stop() == 0
    assert "Traceback" not in node.output()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        pytest.param({"family": "arms"}, "no task family 'arms'", id="family"),
        pytest.param({"publish_rate_hz": 150.0}, "set publish_rate_hz", id="rate"),
        pytest.param({"command_joints": ["elbow"]}, "name each of these once", id="joints"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_a_sentence(start_node, parameters, said) -> None:
    node = start_node(MODULE, **parameters)
    assert node.process.wait(30) == 1
    assert said in node.output()
    assert "Traceback" not in node.output()
