"""The command line: what a user reads, and what mistakes come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reptile_agent import cli

TINY = (
    "--tasks 2 --rounds 1 --round-steps 110 --fit-iterations 3 --iterations 2 --fit-batch 16 "
    "--meta-batch 2 --samples 8 --train-inner-steps 2 --model.hidden 8 --validate-every 0"
).split()


def call(*arguments: str) -> int:
    """Run a command in this process; its exit code."""
    try:
        cli.main(list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


def test_help_lists_every_command(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"  {command}" in text


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert call(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"reptile-agent {command}" in text
    assert "options" in text


def test_an_unknown_command_names_those_that_exist(capsys):
    assert call("trian") == 2
    said = capsys.readouterr().err
    assert "no command 'trian' (there are: tasks, train" in said
    assert said.endswith("did you mean train?\n")


def test_a_family_that_does_not_exist_names_those_that_do(capsys, tmp_path):
    for arguments in (("tasks", "snake"), ("train", "snake", "--out", str(tmp_path / "run"))):
        assert call(*arguments) == 2
        error = capsys.readouterr().err
        assert "no task family 'snake' (there are: " in error
        assert "arm, cartpole" in error


def test_tasks_shows_ranges_units_and_splits(capsys):
    assert call("tasks", "arm", "--json") == 0
    (arm,) = json.loads(capsys.readouterr().out)
    payload = next(v for v in arm["variations"] if v["name"] == "payload_kg")
    assert payload["unit"] == "kg"
    assert arm["splits"]["train"] == 128


def test_train_export_verify_inspect_evaluate(tmp_path, capsys):
    run = tmp_path / "run"
    assert call("train", "cartpole", "--out", str(run), *TINY) == 0
    assert json.loads((run / "config.json").read_text())["config"]["tasks"] == 2
    assert list((run / "tensorboard").iterdir())
    assert call("train", "cartpole", "--out", str(run), *TINY) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    again = ("train", "cartpole", "--out", str(run), "--resume", "--validate-every", "0")
    assert call(*again) == 0
    assert call(*again, "--iterations", "9", "--model.members", "2") == 2
    assert "not with --iterations 9 (it is 2); leave that out" in capsys.readouterr().err
    evaluate = ("--steps", "60", "--judged-from", "50", "--inner-steps", "0", "1")
    assert call("evaluate", str(run), "--json", *evaluate) == 0
    free = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in free["rows"]] == ["reptile, k=0", "reptile, k=1"]
    assert len(free["rows"][0]["tracking_error"]) == 32
    # Nothing passes this gate, so that what adapts drives as what does not.
    closed = ("--gated", "--inner-steps", "1", "--override", "max_distance", "1e-9")
    assert call("evaluate", str(run), "--json", *evaluate, *closed) == 0
    gated = json.loads(capsys.readouterr().out)
    assert (free["gated"], gated["gated"]) == (False, True)
    assert "better" in free["rows"][1]
    assert "better" not in gated["rows"][0], "there is no k = 0 to be better than"
    start = free["rows"][0]["tracking_error"]
    assert gated["rows"][0]["tracking_error"] == pytest.approx(start, abs=1e-3)
    assert call("evaluate", str(run), "--split", "nowhere") == 2
    assert "no split 'nowhere' (there are: train" in capsys.readouterr().err
    assert call("evaluate", str(run), "--steps", "50", "--judged-from", "50") == 2
    assert "nothing would be judged" in capsys.readouterr().err


def test_a_checkpoint_cut_in_half_is_one_sentence(tmp_path, capsys):
    run = tmp_path / "run"
    assert call("train", "cartpole", "--out", str(run), *TINY) == 0
    checkpoint = run / "checkpoint.safetensors"
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    capsys.readouterr()
    for arguments in (("export", str(run)), ("train", "cartpole", "--out", str(run), "--resume")):
        assert call(*arguments) == 2
        error = capsys.readouterr().err
        assert "checkpoint.safetensors is damaged" in error
        assert error.count("\n") == 1
    assert checkpoint.read_bytes() == data[: len(data) // 2], "it was not touched"


def test_a_bundle_that_is_not_there_or_damaged_is_refused(tmp_path, capsys, arm_bundle_path):
    assert call("verify", str(tmp_path / "none")) == 2
    assert "it has no manifest.json" in capsys.readouterr().err
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in arm_bundle_path.iterdir():
        copy.joinpath(file.name).write_bytes(file.read_bytes())
    assert call("verify", str(copy), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"]
    assert any("k=20" in row["check"] for row in document["rows"])
    checks = [row["check"] for row in document["rows"]]
    for what in ("size and sha256", "operators on the allow-list", "no external data", "session"):
        assert sum(what in check for check in checks) >= 3, what
    (copy / "adapt.onnx").write_bytes((copy / "adapt.onnx").read_bytes()[:-1] + b"\0")
    assert call("verify", str(copy)) == 2
    found = capsys.readouterr()
    assert "adapt.onnx does not have the sha256 of the manifest" in found.err
    assert "adapt.onnx: size and sha256" in found.out
    assert "FAILED" in found.out


# The last option counts: long enough to be interrupted.
@pytest.mark.parametrize(
    ("stage", "longer"),
    [("fitting", ("--fit-iterations", "2000")), ("gathering", ("--round-steps", "3000000"))],
)
def test_ctrl_c_saves_and_resume_goes_on(stage, longer, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "cartpole", "--out", str(run), *TINY, *longer]
    command = [sys.executable, "-m", "reptile_agent.cli"]
    with subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if stage in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            text, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
    assert "go on with the same command and --resume" in text.replace("\n", " ")
    assert (run / "checkpoint.safetensors").is_file()
    export = subprocess.run(
        [*command, "export", str(run)], capture_output=True, text=True, check=False
    )
    assert export.returncode == 2
    assert "finish it with" in export.stderr


def test_the_module_can_be_run():
    done = subprocess.run(
        [sys.executable, "-m", "reptile_agent.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert done.stdout.strip() == "0.1.0"
