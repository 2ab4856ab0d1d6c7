"""Which way imports point where import-linter does not look: in the ROS packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "ros2_ws/src"
SHARED = {
    *("adaptation", "onboard", "provenance", "replay", "spec", "task", "transition"),
    *("atomic", "gate", "probation"),
}


def imported(file: Path) -> set[str]:
    """Modules that a file imports, in full."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", ["reptile_agent", "reptile_agent_mujoco"])
def test_nodes_import_the_robots_side_and_only_the_simulated_robot_a_simulator(package):
    files = list((SOURCES / package).glob("reptile_agent_*/*.py"))
    assert len(files) > 3
    for file in files:
        for module in imported(file):
            top, _, rest = module.partition(".")
            assert top not in ("torch", "onnx"), f"{file.name} imports {module}"
            if top == "reptile_agent":
                assert rest.split(".")[0] in SHARED, f"{file.name} imports {module}"
            if top in ("sim", "mujoco"):
                assert package == "reptile_agent_mujoco", f"{file.name} imports {module}"
