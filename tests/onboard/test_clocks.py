"""What controls a robot reads steady clocks only: setting the wall clock moves none of it.

That a whole node misses no tick when ROS time jumps is in tests/ros/test_faults.py.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMPED = {"saved.py"}
"""Files that write down when they were made, for people; nothing reads it."""
ON_BOARD = sorted(
    file for file in (ROOT / "reptile_agent/onboard").glob("*.py") if file.name not in STAMPED
)
SHARED = [ROOT / "reptile_agent" / name for name in ("gate.py", "probation.py", "replay.py")]
NODES = sorted((ROOT / "ros2_ws/src/reptile_agent/reptile_agent_ros").glob("*.py"))
WALL = {"time", "time_ns", "ctime", "localtime", "gmtime", "strftime"}
"""Functions of the module time that follow the wall clock."""
STAMPS = {"stamp", "_age_s"}
"""Where a node may ask for ROS time: to stamp what it publishes, and to read another's stamp."""


def functions(tree: ast.AST, name: str = "") -> list[tuple[str, ast.AST]]:
    """Every node with the name of the function that it is in."""
    found = []
    for child in ast.iter_child_nodes(tree):
        inside = child.name if isinstance(child, ast.FunctionDef) else name
        found += [(inside, child), *functions(child, inside)]
    return found


def wall_clocks(source: str) -> list[str]:
    """Uses of the wall clock, and of ROS time other than for stamps."""
    found = []
    for inside, node in functions(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            names = [alias.name for alias in node.names]
            if node.module == "datetime" or WALL & set(names):
                found.append(f"line {node.lineno}: from {node.module} import {names}")
        if isinstance(node, ast.Import) and any(a.name == "datetime" for a in node.names):
            found.append(f"line {node.lineno}: import datetime")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "time" and node.attr in WALL:
                found.append(f"line {node.lineno}: time.{node.attr}")
            if node.value.id == "ClockType" and node.attr != "STEADY_TIME":
                found.append(f"line {node.lineno}: ClockType.{node.attr}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keywords = {keyword.arg for keyword in node.keywords}
            if node.func.attr == "create_timer" and "clock" not in keywords:
                found.append(f"line {node.lineno}: a timer on ROS time")
            if node.func.attr == "get_clock" and inside not in STAMPS:
                found.append(f"line {node.lineno}: get_clock() in {inside}")
    return found


@pytest.mark.parametrize("file", [*ON_BOARD, *SHARED, *NODES], ids=lambda file: file.name)
def test_no_control_follows_the_wall_clock(file):
    assert wall_clocks(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ndef tick(): return time.time()",
        "from time import monotonic, time_ns",
        "from datetime import datetime",
        "import datetime",
        "class N:\n def tick(self): self.get_clock().now()",
        "class N:\n def go(self): self.create_timer(0.1, self.tick)",
        "clock = Clock(clock_type=ClockType.SYSTEM_TIME)",
    ],
)
def test_the_search_finds_what_follows_the_wall_clock(source):
    assert wall_clocks(source)


def test_the_files_were_found():
    assert {"envelope.py", "controller.py", "adapter.py"} <= {file.name for file in ON_BOARD}
    assert {"policy_node.py", "adapter_node.py"} <= {file.name for file in NODES}
