"""What runs on a robot installs and runs without torch and mujoco."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_INDEX = re.compile(r"No matching distribution|Failed to establish|Temporary failure|timed out")

ON_THE_ROBOT = """
import importlib, pkgutil, sys
import numpy as np
import reptile_agent, reptile_agent.onboard
from pathlib import Path

for module in pkgutil.walk_packages(reptile_agent.onboard.__path__, "reptile_agent.onboard."):
    importlib.import_module(module.name)
for name in ("torch", "mujoco", "onnxscript", "matplotlib"):
    assert importlib.util.find_spec(name) is None, name

from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.policy import Policy
from reptile_agent.transition import Transition

bundle = Bundle.load(sys.argv[1])
policy, adapter = Policy(bundle), Adapter(bundle)
obs, rng = np.zeros(10, np.float32), np.random.default_rng(0)
reference = np.zeros((policy.horizon, 5), np.float32)
for t in range(80):
    action = policy.act(obs, reference) + rng.normal(0, 0.1, 5).astype(np.float32)
    after = obs.copy()
    after[:5] += 0.2 * (action - obs[:5])
    rows = (obs[None], action[None], after[None], np.zeros(1, np.float32), np.array([t == 0]))
    adapter.remember(Transition(*rows))
    obs = after
found = adapter.adapt(5)
assert np.isfinite(found.parameters).all()
assert found.loss.size == 5
policy.set_parameters(found.parameters)
assert np.isfinite(policy.act(obs, reference)).all()
assert "onnx" not in sys.modules, "only the process that tries graphs parses them"
print("acted and adapted:", found.verdict.word)
"""


@pytest.mark.slow
def test_a_robot_needs_no_torch_and_no_simulator(bundle_path, tmp_path):
    # A venv of its own must not see this one's ROS wheels, nor a sourced workspace.
    hidden = ("PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "AMENT_", "COLCON_", "_ROS_WHEELS")
    env = {name: v for name, v in os.environ.items() if not name.startswith(hidden)}
    python = tmp_path / "venv" / "bin" / "python"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(argument) for argument in arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)

    def pip(*arguments: object) -> None:
        done = run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)
        if done.returncode and NO_INDEX.search(done.stderr):
            pytest.skip(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    source = tmp_path / "source"
    for package in ("reptile_agent", "sim"):
        shutil.copytree(ROOT / package, source / package)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip("-c", ROOT / "constraints.txt", "setuptools", "wheel", *needed)
    pip("--no-deps", "--no-build-isolation", source)
    script = tmp_path / "on_the_robot.py"
    script.write_text(ON_THE_ROBOT)
    done = run(python, script, bundle_path)
    assert done.returncode == 0, done.stderr
    assert "acted and adapted" in done.stdout
