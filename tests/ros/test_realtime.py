"""reptile_agent_ros.realtime: control goes before all else where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from played_robot import Robot

from bench.faults.nodes import bring_up, change_state

PRIORITY = 20


def allowed() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def schedulings(pid: int) -> list[int]:
    """Of every thread of a process."""
    policies = [os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")]
    return [policy & ~os.SCHED_RESET_ON_FORK for policy in policies]


@pytest.mark.skipif(not allowed(), reason="this user may not schedule by SCHED_FIFO")
def test_every_thread_of_an_active_policy_goes_first_and_no_other(start_node, peer, arm_bundle):
    Robot(peer, list(arm_bundle.manifest.robot.observed_joints))
    node = start_node("reptile_agent_ros.policy_node", realtime_priority=PRIORITY)
    pid = node.process.pid
    assert change_state(peer, "policy_node", 1)
    assert set(schedulings(pid)) == {os.SCHED_OTHER}
    assert change_state(peer, "policy_node", 3)
    assert set(schedulings(pid)) == {os.SCHED_FIFO}
    assert f"real-time priority {PRIORITY}" in node.output()
    assert change_state(peer, "policy_node", 4)
    assert set(schedulings(pid)) == {os.SCHED_OTHER}


@pytest.mark.skipif(not allowed(), reason="this user may not schedule by SCHED_FIFO")
def test_what_is_begun_later_is_ordinary():
    code = (
        "import os, subprocess, sys, threading; from reptile_agent_ros import realtime; "
        "assert not realtime.schedule(5); "
        "later = threading.Thread(target=lambda: print(os.sched_getscheduler(0))); "
        "later.start(); later.join(); "
        "subprocess.run([sys.executable, '-c', 'import os; print(os.sched_getscheduler(0))'])"
    )
    done = subprocess.run([sys.executable, "-uc", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0"], done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not allowed(), reason="needs a right to give up")
def test_who_may_go_first_may_go_back_without_being_root():
    code = (
        "import os; from reptile_agent_ros import realtime; "
        "first = realtime.schedule(20) or 'first'; os.setuid(65534); "
        "print(first, realtime.schedule(0) or 'back', "
        "os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["first", "back", "0"], done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_who_may_not_is_told_how_to_be_allowed():
    code = "from reptile_agent_ros import realtime; print(realtime.schedule(20))"
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    command += ["prlimit", "--rtprio=0:0"] if shutil.which("prlimit") else []
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode and "setpriv" in done.stderr:
        pytest.skip(f"nothing can be taken from this user: {done.stderr.strip()}")
    assert "this user may not use real-time priority 20" in done.stdout, done.stderr
    assert "LimitRTPRIO=20" in done.stdout


def test_a_policy_that_need_not_go_first_does_not_and_says_nothing(start_node, peer, arm_bundle):
    robot = Robot(peer, list(arm_bundle.manifest.robot.observed_joints))
    node = start_node("reptile_agent_ros.policy_node", realtime_priority=0)
    bring_up(peer, "policy_node")
    peer.wait_for(lambda: len(robot.commands) > 10, "commands")
    assert set(schedulings(node.process.pid)) == {os.SCHED_OTHER}
    assert "real-time" not in node.output()
    assert "ordinary" not in node.output()
