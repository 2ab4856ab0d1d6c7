"""examples/my_robot: a package outside ours is trained, exported, verified and played unchanged.

It is installed into a folder of its own, as pip installs it anywhere, and works by its entry point.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "my_robot"
DOC = ROOT / "docs" / "bring-your-own-robot.md"
TINY = (
    "--tasks 2 --rounds 1 --round-steps 110 --fit-iterations 40 --iterations 2 --fit-batch 32 "
    "--meta-batch 2 --samples 8 --train-inner-steps 2 --model.hidden 8 --model.members 1 "
    "--model.segment 1"
).split()
COMMANDS = """
import json, sys
from reptile_agent.cli import main
for arguments in json.loads(sys.argv[1]):
    print("$", *arguments, flush=True)
    try:
        main(arguments)
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{arguments} ended with {stop.code}")
"""

Python = Callable[..., str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example is installed; from a copy, so that nothing is built in the repository."""
    folder = tmp_path_factory.mktemp("my_robot")
    source = shutil.copytree(EXAMPLE, folder / "source")
    pip = "install -q --no-index --no-deps --no-build-isolation --disable-pip-version-check"
    command = [sys.executable, "-m", "pip", *pip.split(), "--target", "site", str(source)]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Run Python where the example is installed, in an empty folder; its stdout."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    cwd = tmp_path_factory.mktemp("work")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_robot_from_outside_goes_all_the_way(python):
    commands = [
        ["tasks", "pan_tilt", "--json"],
        ["train", "pan_tilt", "--out", "run", *TINY],
        ["export", "run"],
        ["verify", "run/bundle", "--json"],
        "evaluate run --json --steps 60 --judged-from 40 --inner-steps 0 2".split(),
        "play pan_tilt --bundle run/bundle --adapt --seconds 6 --json".split(),
    ]
    said = python("-c", COMMANDS, json.dumps(commands))
    outputs = dict(re.findall(r"^\$ (\w+).*\n((?:(?!\$ ).*\n)*)", said, re.MULTILINE))
    assert list(outputs) == ["tasks", "train", "export", "verify", "evaluate", "play"]
    (tasks,) = json.loads(outputs["tasks"])
    assert tasks["family"] == "pan_tilt"
    assert tasks["splits"]["train"] == 128
    verified = json.loads(outputs["verify"])
    assert verified["passed"]
    assert verified["planner_compared"]
    methods = [row["method"] for row in json.loads(outputs["evaluate"])["rows"]]
    assert methods == ["command passed through", "reptile, k=0", "reptile, k=2"]
    played = json.loads(outputs["play"])
    assert played["policy"] == "bundle"
    assert played["on_board"]["adaptations"] >= 1


def test_its_splits_are_what_its_ranges_give(python, site):
    frozen = site / "pan_tilt" / "splits.json"
    before = frozen.read_text()
    frozen.unlink()
    python("-m", "sim.freeze_splits", "pan_tilt")
    assert frozen.read_text() == before


def test_every_variation_changes_how_it_moves_and_can_be_taken_back(python):
    python(
        "-c",
        """
import numpy as np
from sim import registry

family = registry.get("pan_tilt")
variations = [*family.variations, *family.held_out]
tasks = [{}, *({v.name: max(v.beyond, key=lambda end: abs(end - v.nominal))} for v in variations)]
sim = family.make_sim(tasks)

def move():
    sim.batch.qpos[:], sim.batch.qvel[:] = 0.0, 0.0
    sim.batch.qacc_warmstart[:] = 0.0
    for _ in range(20):
        obs = sim.step(np.full((len(tasks), 2), 0.5))[0]
    return obs

moved = move()
for variation, obs in zip(variations, moved[1:]):
    assert np.abs(obs - moved[0]).max() > 1e-4, variation.name
sim.set_tasks([{}] * len(tasks))
healed = move()
assert (healed == healed[0]).all()
""",
    )


def test_the_urdf_of_the_docs_is_the_same_robot(python):
    (build,) = re.findall(r"```python\n(import mujoco\s+def build.*?)```", DOC.read_text(), re.S)
    build = build.replace('self.folder / "my_robot.urdf"', repr(str(EXAMPLE / "pan_tilt.urdf")))
    python(
        "-c",
        f"""
import mujoco
import numpy as np
from pan_tilt import LIMITS_RAD, TORQUE_N_M, PanTilt

{build}

urdf = type("FromUrdf", (PanTilt,), {{"build": build}})()
one, other = (family.make_sim([{{"camera_kg": 0.9}}]) for family in (urdf, PanTilt()))
for _ in range(25):
    np.testing.assert_allclose(
        one.step(np.full((1, 2), 0.4))[0], other.step(np.full((1, 2), 0.4))[0], atol=1e-6
    )
""",
    )


def test_the_docs_name_only_files_and_commands_that_exist():
    from reptile_agent import cli

    text = DOC.read_text()
    for command in re.findall(r"^reptile-agent (\w+)", text, re.MULTILINE):
        assert command in cli.COMMANDS
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (DOC.parent / link).exists(), link
