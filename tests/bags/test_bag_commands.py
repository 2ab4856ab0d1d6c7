"""reptile-agent adapt-bag and dataset: what a user reads, and what mistakes come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from said import Robot, write_bag

from reptile_agent import cli
from reptile_agent.bags import again
from reptile_agent.bags.picture import draw, tracking_error
from reptile_agent.bags.recording import read
from reptile_agent.commands import adapt_bag
from reptile_agent.commands.interrupt import Interrupt
from reptile_agent.meta import checkpoint, dataset

TRAIN = (
    "--tasks 2 --rounds 1 --round-steps 130 --fit-iterations 3 --iterations 2 --fit-batch 16 "
    "--meta-batch 3 --samples 8 --train-inner-steps 2 --model.hidden 8 --validate-every 0"
).split()
WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "mujoco", "rclpy", "std_msgs"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refused())
from reptile_agent import cli
cli.main(sys.argv[1:])
"""


def call(*arguments: object) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture
def bag(live, tmp_path):
    return write_bag(tmp_path / "monday", live().robot)


def test_the_robots_own_adaptations_are_repeated_shown_and_drawn(
    bag, live, arm_bundle_path, tmp_path, capsys
):
    picture = tmp_path / "out.png"
    arguments = ("adapt-bag", bag, "--bundle", arm_bundle_path, "--seed", 5, "--out", picture)
    assert call(*arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    theirs = live().found
    assert found["repeated"]
    assert found["transitions"] == 180
    assert [row["verdict"] for row in found["adaptations"]] == [t.verdict.word for t in theirs]
    assert [row["steps"] for row in found["adaptations"]] == [t.steps for t in theirs]
    assert picture.stat().st_size > 20_000
    assert call(*arguments) == 0
    text = capsys.readouterr().out
    assert f"{len(theirs)} of {len(theirs)} are the robot's own, to the bit" in text
    assert "note:" not in text


def test_another_seed_says_what_differs_and_why_that_may_be(bag, arm_bundle_path, tmp_path, capsys):
    where = ("--bundle", arm_bundle_path, "--out", tmp_path / "out.png")
    assert call("adapt-bag", bag, *where) == 0
    text = capsys.readouterr().out
    assert "no: the loss" in text
    assert "0 of 11 are the robot's own, to the bit" in text
    assert "it takes the same kind of processor, the adapter's --seed" in text


def test_other_settings_tell_what_would_have_come_of_them(bag, arm_bundle_path, tmp_path, capsys):
    where = ("--bundle", arm_bundle_path, "--out", tmp_path / "out.png", "--json")
    for settings, steps in ((("--inner-steps", "2"), 2), (("--every-s", "0.5"), 10)):
        assert call("adapt-bag", bag, *where, *settings) == 0
        found = json.loads(capsys.readouterr().out)
        assert not found["repeated"]
        assert {row["steps"] for row in found["adaptations"]} == {steps}


def test_mistakes_come_to_a_sentence(
    bag, arm_bundle, arm_bundle_path, tmp_path, capsys, faulty_arm
):
    where = ("--bundle", arm_bundle_path, "--out", tmp_path / "out.png")
    assert call("adapt-bag", bag, *where, "--every-s", "0") == 2
    assert "--every-s must be a positive time" in capsys.readouterr().err
    assert call("adapt-bag", bag, *where, "--inner-steps", "0") == 2
    assert "inner_steps" in capsys.readouterr().err
    assert call("adapt-bag", tmp_path / "nowhere", *where) == 2
    assert "there is no bag" in capsys.readouterr().err
    assert call("adapt-bag", bag, *where, "--out", tmp_path / "no" / "out.png") == 2
    assert f"there is no folder {tmp_path / 'no'} for --out" in capsys.readouterr().err
    robot = Robot(arm_bundle.manifest.start_sha256)
    robot.moved(1, faulty_arm[0])
    assert call("adapt-bag", write_bag(tmp_path / "short", robot), *where) == 1
    assert "too few transitions for an adaptation" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_done(bag, arm_bundle):
    recording = read(bag, arm_bundle.manifest)

    def interrupted():
        for number, outcome in enumerate(again.repeat(arm_bundle, recording, seed=5)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield outcome

    assert threading.current_thread() is threading.main_thread()
    outcomes, finished = adapt_bag._collect(interrupted(), quiet=True)
    assert not finished
    assert len(outcomes) == 2
    assert Interrupt.asked is False


def test_the_error_is_drawn_for_robots_that_followed_something_and_for_others(
    arm_bundle, faulty_arm, tmp_path
):
    robot = Robot(arm_bundle.manifest.start_sha256)
    for step, transition in enumerate(faulty_arm[:5], start=1):
        robot.moved(step, transition)
    robot.moved(6, faulty_arm[5], reference=np.zeros(0, np.float32))
    recording = read(write_bag(tmp_path / "bag", robot), arm_bundle.manifest)
    error = tracking_error(recording, arm_bundle.manifest.robot)
    columns, first = arm_bundle.manifest.robot.reference_columns, faulty_arm[0]
    wanted = np.abs(first.next_obs[0, columns] - first.reference[0, 0]).mean()
    assert error[0] == pytest.approx(wanted)
    assert np.isfinite(error).tolist() == [True] * 5 + [False]
    draw(tmp_path / "bag.png", recording, arm_bundle.manifest.robot, [])
    assert (tmp_path / "bag.png").stat().st_size > 5_000


def test_neither_ros_nor_torch_nor_a_simulator_is_needed(bag, arm_bundle_path, tmp_path):
    for command in ("adapt-bag", "dataset"):
        arguments = [command, str(bag), "--bundle", str(arm_bundle_path)]
        arguments += ["--out", str(tmp_path / f"{command}.out.png")]
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_bags_become_tasks_to_train_on(live, arm_bundle_path, tmp_path, capsys):
    bags = [write_bag(tmp_path / day, live().robot) for day in ("monday", "tuesday")]
    file, run = tmp_path / "data.safetensors", tmp_path / "run"
    assert call("dataset", *bags, "--bundle", arm_bundle_path, "--out", file) == 0
    assert f"reptile-agent train arm --dataset {file}" in capsys.readouterr().out.replace("\n", "")
    from sim.families.arm import Arm

    found = dataset.read(file, Arm().robot)
    assert [(task.name, len(task)) for task in found.tasks] == [("monday", 180), ("tuesday", 180)]
    assert call("train", "arm", "--out", run, "--dataset", file, *TRAIN) == 0
    arrays, state = checkpoint.read(run / "checkpoint.safetensors")
    # Two simulated ones, and two pieces of each bag, which is longer than a lane.
    assert len(arrays["replay.obs"]) == 2 + 4
    assert len(state["dataset_sha256"]) == 64
    capsys.readouterr()
    assert call("train", "cartpole", "--out", tmp_path / "cart", "--dataset", file, *TRAIN) == 2
    assert "whose observations are not those of 'cartpole'" in capsys.readouterr().err


def test_a_dataset_needs_bags_with_names_of_their_own(bag, arm_bundle_path, tmp_path, capsys):
    where = ("--bundle", arm_bundle_path, "--out", tmp_path / "data.safetensors")
    assert call("dataset", *where) == 2
    assert "name one bag or more" in capsys.readouterr().err
    assert call("dataset", bag, bag, *where) == 2
    assert "['monday'] are there twice" in capsys.readouterr().err
