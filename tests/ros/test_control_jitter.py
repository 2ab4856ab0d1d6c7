"""bench.control_jitter: what it traces is true, and it runs from end to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.control_jitter import echo_bundle
from bench.control_jitter.__main__ import SWEEP_SHIFT, tick_phase
from bench.control_jitter.echo_robot import TURN, EchoRobot
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.policy import Policy

PERIOD_S = 0.005


@pytest.fixture(scope="module")
def echoing(arm_bundle_path, tmp_path_factory) -> tuple[Path, dict[int, int]]:
    folder = tmp_path_factory.mktemp("echo") / "bundle"
    return folder, echo_bundle.write(arm_bundle_path, folder, PERIOD_S)


def test_an_echoing_bundle_plans_as_before_but_for_what_it_echoes(echoing, arm_bundle):
    folder, columns = echoing
    echo = Bundle.load(folder)
    assert echo.manifest.robot.control_period_s == PERIOD_S
    obs = np.linspace(-0.3, 0.3, 10).astype(np.float32)
    reference = np.zeros((6, 5), np.float32)
    planned, echoed = (Policy(b, seed=3).act(obs, reference).copy() for b in (arm_bundle, echo))
    assert columns == {0: 0, 1: 1}
    np.testing.assert_array_equal(echoed[:2], obs[:2])
    np.testing.assert_array_equal(echoed[2:], planned[2:])
    assert not np.array_equal(planned[:2], obs[:2])


def test_a_robot_without_position_servos_and_a_broken_bundle_are_refused(
    robot, arm_bundle_path, tmp_path
):
    with pytest.raises(ValueError, match="'toy' has not 2 position servos"):
        echo_bundle.echoed_columns(robot)
    copy = Path(shutil.copytree(arm_bundle_path, tmp_path / "broken"))
    (copy / "act.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"act\.onnx"):
        echo_bundle.write(copy, tmp_path / "echo", PERIOD_S)


class Driver:
    """In the policy's place: answers with what the test says, when it says."""

    def __init__(self, peer) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray

        self.heard, self._kind = [], Float64MultiArray
        peer.node.create_subscription(
            JointState, "joint_states", self.heard.append, qos_profile_sensor_data
        )
        self.publisher = peer.node.create_publisher(
            Float64MultiArray, "forward_command_controller/commands", 10
        )
        peer.wait_for(self.publisher.get_subscription_count, "the robot's subscription")

    def answer(self, message, off: float = 0.0) -> None:
        values = [float(np.float32(value)) for value in message.position]
        self.publisher.publish(self._kind(data=[values[0] + off, *values[1:]]))


def test_a_command_is_traced_to_the_message_that_it_comes_from(peer, arm_bundle):
    robot = EchoRobot(peer, arm_bundle.manifest.robot, {0: 0, 1: 1}, PERIOD_S)
    driver = Driver(peer)
    robot.publish_every(PERIOD_S)
    peer.wait_for(lambda: len(driver.heard) > 40, "messages")
    lost = len(robot.sent_s) - len(driver.heard)
    for number in (7, 20, 20, 31):
        driver.answer(driver.heard[number])
    peer.wait_for(lambda: len(robot.commands_s) == 4, "commands")
    assert sorted(robot.answered_s) == [lost + number for number in (7, 20, 31)]
    assert robot.answered_s[lost + 20] == robot.commands_s[1], "the first one counts"
    assert all(robot.answered_s[n] > robot.sent_s[n] for n in robot.answered_s)
    driver.answer(driver.heard[33], off=0.003)
    peer.wait_for(lambda: robot.strange == 1, "a command from nowhere")
    assert len(robot.answered_s) == 3
    # One turn later an old angle means a new message.
    peer.wait_for(lambda: len(robot.sent_s) > TURN + lost + 40, "a turn", 20.0)
    driver.answer(driver.heard[33])
    peer.wait_for(lambda: len(robot.answered_s) == 4, "a command")
    assert max(robot.answered_s) == TURN + lost + 33


def test_times_are_those_of_the_way_there_and_back(peer, arm_bundle):
    robot = EchoRobot(peer, arm_bundle.manifest.robot, {0: 0, 1: 1}, PERIOD_S)
    driver = Driver(peer)
    robot.publish_every(PERIOD_S)
    peer.wait_for(lambda: len(driver.heard) > 5, "messages")
    number = len(robot.sent_s) - 1
    peer.wait_for(lambda: len(driver.heard) > number + 1, "the next")
    time.sleep(0.2)
    lost = len(robot.sent_s) - len(driver.heard)
    driver.answer(driver.heard[number - lost])
    peer.wait_for(lambda: number in robot.answered_s, "a command")
    assert 0.2 < robot.answered_s[number] - robot.sent_s[number] < 1.0


@pytest.mark.parametrize("phase_s", [0.0, 0.0013, 0.0049])
def test_the_ticks_are_found_among_much_noise(phase_s):
    rng, count = np.random.default_rng(0), 800
    sent = 1.8e9 + PERIOD_S * (1 + SWEEP_SHIFT) * np.arange(count)
    wait = (1.8e9 + phase_s - sent) % PERIOD_S
    took = wait + 0.0015 + rng.exponential(0.003, count)
    off = (tick_phase(sent, took) - 1.8e9 - phase_s + PERIOD_S / 2) % PERIOD_S - PERIOD_S / 2
    # Messages just in time are on the early side, by half of what is looked at.
    assert -0.001 < off <= 0.0001


def test_it_runs_from_end_to_end(ros_domain, tmp_path):
    saved = tmp_path / "jitter.json"
    command = [sys.executable, "-m", "bench.control_jitter", "--json", "--save", str(saved)]
    command += ["--seconds", "4", "--rounds", "1", "--inner-steps", "3"]
    command += ["--domain", str(ros_domain)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert json.loads(saved.read_text())["rows"] == rows
    assert [row["load"] for row in rows] == ["idle", "adapting", "flooded", "hung", "killed"]
    learned = {row["load"]: row["adaptations"] for row in rows}
    assert learned["adapting"] > 0
    assert (learned["idle"], learned["hung"], learned["killed"]) == (0, 0, 0)
    assert rows[0]["learning_percent"] == 0.0
    flooded = {row["load"]: row["flood_hz"] for row in rows}
    assert flooded.pop("flooded") > 1000
    assert set(flooded.values()) == {0}
    assert len({row["realtime"] for row in rows}) == 1
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["messages"] == pytest.approx(800, rel=0.1)
        assert row["unanswered"] < row["messages"]
        assert 0 < row["cpu_percent"] < 200


def test_too_little_time_is_refused():
    command = [sys.executable, "-m", "bench.control_jitter", "--seconds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "2 s in 3 rounds; give a round a second at least" in done.stderr
