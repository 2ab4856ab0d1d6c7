"""Transitions of the life cycle that fail for a reason that nobody foresaw."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BREAKING = """
import rclpy
from reptile_agent_ros.adapter_node import AdapterNode
from reptile_agent_ros.policy_node import PolicyNode

class Breaking({kind}):
    broken = True

    def {method}(self, *given):
        if Breaking.broken:
            Breaking.broken = False
            raise RuntimeError('planted')
        return super().{method}(*given)

rclpy.init()
node = Breaking()


def tell(transition, result):
    entities = len([*node.subscriptions, *node.timers, *node.publishers, *node.services])
    print(transition, result, node._state_machine.current_state[1], entities, flush=True)


tell('none', 'NONE')
for name in {transitions}:
    tell(name, getattr(node, f'trigger_{{name}}')().name)
rclpy.shutdown()
"""


@pytest.mark.parametrize(
    ("kind", "method", "transitions"),
    [
        ("PolicyNode", "_configure", ("configure", "configure", "activate")),
        ("PolicyNode", "_begin", ("configure", "activate", "configure", "activate")),
        ("PolicyNode", "_publish_status", ("configure", "activate", "deactivate", "configure")),
        ("AdapterNode", "_configure", ("configure", "configure", "activate")),
        ("AdapterNode", "_destroy", ("configure", "cleanup", "configure", "activate")),
    ],
)
def test_what_nobody_foresaw_is_logged_and_all_is_let_go_of(ros_domain, kind, method, transitions):
    code = BREAKING.format(kind=kind, method=method, transitions=transitions)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"ROS_DOMAIN_ID": str(ros_domain)},
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    results = [line[1] for line in lines]
    broken = results.index("ERROR")
    assert f"on_{lines[broken][0]} failed: RuntimeError: planted" in done.stderr
    assert "Traceback" in done.stderr
    assert results.count("ERROR") == 1, "once mended it goes on as if nothing had been"
    assert lines[broken][2:] == lines[0][2:], "unconfigured, with nothing left of what was made"
    assert lines[-1][2] in ("active", "inactive")
