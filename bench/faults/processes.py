"""Faults between real processes, over DDS: a flood of measurements, nodes that are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.faults.nodes import (
    NodeProcess,
    Peer,
    bring_up,
    latched,
    ros_domain,
    statuses,
    why_no_nodes,
)
from bench.faults.row import Case, Row, Setup, Tally, first_wrong

ROBOT, POLICY = "reptile_agent_mujoco.mujoco_robot", "reptile_agent_ros.policy_node"
ADAPTER = "reptile_agent_ros.adapter_node"
WATCHED_S = 4.0
"""How long control is looked at after a fault of the adapter."""
FLOOD_HZ = 10_000
FLOOD = f"""
import sys, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
rclpy.init()
publisher = rclpy.create_node("flood").create_publisher(
    JointState, "joint_states", qos_profile_sensor_data
)
names = sys.argv[1].split(",")
message = JointState(name=names, position=[0.0] * len(names), velocity=[0.0] * len(names))
count, due_s = 0, time.monotonic()
while True:
    publisher.publish(message)
    count += 1
    if count % 1000 == 0:
        print(count, flush=True)
    due_s = max(due_s + {1 / FLOOD_HZ}, time.monotonic() - 1e-2)
    while time.monotonic() < due_s:
        time.sleep(0)
"""
"""Publishes joint_states at FLOOD_HZ, or as fast as this machine can."""
COMMAND_TIMEOUT_S = 0.12
"""Of mujoco_robot here: three control periods of the arm, as the policy's own limit."""
SLACK_S = 0.1
"""A busy machine notices so much later; mujoco_robot looks once a tick."""
STILL_RAD = 0.02
DOMAIN = 90


@dataclass(frozen=True)
class Flooded:
    """What a flood did to policy_node."""

    messages_hz: float
    """Really sent."""
    control_hz: float
    missed: int
    """Control periods."""
    grown_mib: float
    mode: str
    tracking_error: float


def flood(
    start: Callable[..., NodeProcess], peer: Peer, joints: list[str], folder: Path, for_s: float
) -> Flooded:
    """Flood policy_node with measurements.

    Args:
        start: starts a node, by its module and parameters.
        peer: in the same domain, which this process' environment names.
        joints: of the bundle.
        folder: for the flood's output.
        for_s: how long to look, once control runs.
    """
    status = statuses(peer)
    node = start(POLICY, max_frozen=0)
    with (folder / "flood.txt").open("w+") as output:
        sender = subprocess.Popen([sys.executable, "-c", FLOOD, ",".join(joints)], stdout=output)
        try:
            bring_up(peer, "policy_node")
            peer.wait_for(lambda: status and status[-1].ticks > 50, "ticks", timeout_s=20.0)
            first, at_s = status[-1], time.monotonic()
            before_mib, sent = _resident_mib(node.process.pid), _newest(folder / "flood.txt")
            peer.spin_for(for_s)
            duration_s, last = time.monotonic() - at_s, status[-1]
            sent = _newest(folder / "flood.txt") - sent
            grown_mib = _resident_mib(node.process.pid) - before_mib
        finally:
            sender.kill()
            sender.wait()
    return Flooded(
        messages_hz=sent / duration_s,
        control_hz=(last.ticks - first.ticks) / duration_s,
        missed=last.missed - first.missed,
        grown_mib=grown_mib,
        mode=last.mode,
        tracking_error=last.tracking_error,
    )


@dataclass(frozen=True)
class Killed:
    """What the robot did when its policy was killed in mid-motion."""

    held_after_s: float
    """From the kill until its watchdog let it hold."""
    moved_rad: float
    """Farthest that a joint went in half a second, half a second later."""
    to_goal_rad: float
    """How far the joint that was led about still was from its goal then."""


def kill_policy(start: Callable[..., NodeProcess], peer: Peer, joints: list[str]) -> Killed:
    """Kill policy_node with SIGKILL while it leads the simulated arm about.

    Raises:
        TimeoutError: the robot never said that it holds.
    """
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    seen: list[dict[str, float]] = []
    peer.node.create_subscription(
        JointState,
        "joint_states",
        lambda message: seen.append(dict(zip(message.name, message.position))),
        qos_profile_sensor_data,
    )
    robot = start(ROBOT, publish_rate_hz=200.0, command_timeout_s=COMMAND_TIMEOUT_S)
    policy, status = start(POLICY), statuses(peer)
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: status and status[-1].ticks > 10, "ticks", timeout_s=20.0)
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    peer.wait_for(publisher.get_subscription_count, "the policy's subscription")
    # policy_node may have heard the robot before this process did.
    peer.wait_for(lambda: seen, "joint_states")
    joint, began, goal = joints[0], seen[-1][joints[0]], [0.0] * len(joints)
    goal[0] = 1.5 if began < 0 else -1.5
    # One point with a time: a straight line, which takes three seconds.
    point = JointTrajectoryPoint(positions=goal)
    point.time_from_start.sec = 3
    publisher.publish(JointTrajectory(joint_names=joints, points=[point]))
    peer.wait_for(lambda: abs(seen[-1][joint] - began) > 0.2, "motion")
    held = re.compile(r"no command for [0-9.]+ s: the robot holds")
    before = len(held.findall(robot.output()))
    policy.kill()
    at_s = time.monotonic()
    while len(held.findall(robot.output())) == before:
        if time.monotonic() > at_s + 5.0:
            raise TimeoutError("the robot did not say that it holds within 5 s")
        time.sleep(0.001)
    held_after_s = time.monotonic() - at_s
    peer.spin_for(0.5)
    first = seen[-1]
    peer.spin_for(0.5)
    moved = max(abs(seen[-1][name] - first[name]) for name in joints)
    return Killed(held_after_s, moved, abs(goal[0] - seen[-1][joint]))


def _flood(setup: Setup, fault: str) -> Row:
    why_not = why_no_nodes()
    if why_not:
        return Row(fault, 0, 0, None, why_not)
    tally, joints = Tally(setup, 1), list(setup.bundle.manifest.robot.observed_joints)
    rate_hz = 1 / setup.bundle.manifest.robot.control_period_s
    with ros_domain(DOMAIN, setup.folder) as (start, peer):
        found = flood(start, peer, joints, setup.folder, for_s=5.0)
    wrong = first_wrong(
        [
            (found.messages_hz > 1000, f"only {found.messages_hz:.0f} messages/s"),
            (abs(found.control_hz / rate_hz - 1) < 0.1, f"control at {found.control_hz:.1f} Hz"),
            (found.mode == "active", "fallback"),
            (found.grown_mib < 2.0, f"{found.grown_mib:.1f} MiB more"),
        ]
    )
    tally.add(wrong)
    return tally.row(
        fault,
        f"policy_node as a process: {found.messages_hz:.0f} messages/s, control at "
        f"{found.control_hz:.1f} Hz of {rate_hz:g}, {found.missed} periods missed, memory "
        f"{found.grown_mib:+.2f} MiB",
    )


def _policy_killed(setup: Setup, fault: str) -> Row:
    why_not = why_no_nodes()
    if why_not:
        return Row(fault, 0, 0, None, why_not)
    joints = list(setup.bundle.manifest.robot.observed_joints)
    tally = Tally(setup, min(5, setup.count(0.003)))
    for trial in range(tally.total):
        with ros_domain(DOMAIN + 1 + trial, setup.folder) as (start, peer):
            found = kill_policy(start, peer, joints)
        wrong = first_wrong(
            [
                (found.held_after_s < COMMAND_TIMEOUT_S + SLACK_S, "the watchdog was late"),
                (found.moved_rad < STILL_RAD, f"it moved on by {found.moved_rad:.3f} rad"),
                (found.to_goal_rad > 0.3, "it went on to its goal"),
            ]
        )
        tally.add(wrong, 1e3 * found.held_after_s)
    return tally.row(
        fault,
        "SIGKILL in mid-motion; mujoco_robot holds by its own watchdog "
        f"(command_timeout_s {COMMAND_TIMEOUT_S} s here), which is most of the time",
    )


def lose_adapter(start: Callable[..., NodeProcess], peer: Peer, by: signal.Signals) -> list[float]:
    """Have adapter_node learn, and send its process a signal in the midst of it.

    Returns:
        When the commands of the `WATCHED_S` after that came, and the last one before [s].
    """
    from reptile_agent_msgs.msg import (  # pyright: ignore[reportMissingImports]
        AdaptationStatus,
    )
    from std_msgs.msg import Float64MultiArray

    came_s: list[float] = []
    peer.node.create_subscription(
        Float64MultiArray,
        "forward_command_controller/commands",
        lambda _: came_s.append(time.monotonic()),
        100,
    )
    verdicts = latched(peer, AdaptationStatus, "adapter_node/status")
    start(ROBOT, publish_rate_hz=200.0)
    start(POLICY)
    # It learns all the time.
    adapter = start(ADAPTER, adapt_period_s=0.01, inner_steps=200)
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: verdicts, "a verdict", timeout_s=30.0)
    first = len(came_s) - 1
    adapter.process.send_signal(by)
    peer.spin_for(WATCHED_S)
    return came_s[first:]


def _adapter_lost(setup: Setup, fault: str, by: signal.Signals) -> Row:
    why_not = why_no_nodes()
    if why_not:
        return Row(fault, 0, 0, None, why_not)
    period_s = setup.bundle.manifest.robot.control_period_s
    tally = Tally(setup, min(3, setup.count(0.003)))
    for trial in range(tally.total):
        with ros_domain(DOMAIN + 6 + trial, setup.folder) as (start, peer):
            came_s = lose_adapter(start, peer, by)
        periods = (came_s[-1] - came_s[0]) / period_s
        longest_s = float(np.diff(came_s).max())
        wrong = first_wrong(
            [
                (len(came_s) - 1 > 0.9 * periods, f"{len(came_s) - 1} commands in {periods:.0f}"),
                (periods * period_s > 0.9 * WATCHED_S, "the commands ended"),
                (longest_s < COMMAND_TIMEOUT_S, f"{1e3 * longest_s:.0f} ms without a command"),
            ]
        )
        tally.add(wrong, 1e3 * longest_s)
    return tally.row(
        fault,
        f"{by.name} while it learns; the time is the longest between two commands in the "
        f"{WATCHED_S:g} s after it, with periods of {1e3 * period_s:g} ms; how evenly control goes "
        "on at 200 Hz: bench.control_jitter",
    )


def _newest(file: Path) -> int:
    return int(file.read_text().split()[-1])


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


CASES: Mapping[str, Case] = {
    "10 kHz flood on a sensor topic": _flood,
    "policy node killed": _policy_killed,
    "adaptation killed": partial(_adapter_lost, by=signal.SIGKILL),
    "adaptation hung, as a process": partial(_adapter_lost, by=signal.SIGSTOP),
}
"""Fault -> what makes its row."""
