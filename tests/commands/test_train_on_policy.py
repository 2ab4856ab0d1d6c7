"""reptile-agent train-on-policy, and what evaluate and report make of its runs."""

from __future__ import annotations

import json

import pytest

from reptile_agent import cli
from reptile_agent.commands import trained
from reptile_agent.commands.train import CHECKPOINT, CONFIG
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer

TINY = (
    *("--iterations", "2", "--meta-batch", "2", "--episodes", "2"),
    *("--sampling.episode-steps", "5", "--policy.hidden", "6", "--validate-every", "0"),
)


def call(*arguments: str) -> int:
    """Run `reptile-agent` in this process; its exit code."""
    try:
        cli.main(list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a tiny run of MAML."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = ("point_nav", "--out", str(folder), "--algorithm", "maml", *TINY)
    assert call("train-on-policy", *arguments) == 0
    return folder


def test_a_run_leaves_what_a_run_of_train_leaves(run):
    ran = json.loads((run / CONFIG).read_text())
    assert (ran["command"], ran["family"]) == ("train-on-policy", "point_nav")
    assert ran["config"]["algorithm"] == "maml"
    assert ran["config"]["sampling"]["episode_steps"] == 5
    assert (run / "tensorboard").is_dir()
    trainer = trained.load(run / CHECKPOINT)
    assert isinstance(trainer, OnPolicyTrainer)
    assert trainer.done_iterations == trainer.total_iterations == 3


def test_only_its_own_command_goes_on_with_it(run, capsys):
    assert call("train-on-policy", "point_nav", "--out", str(run), "--resume") == 0
    assert "going on at 3/3" in capsys.readouterr().out
    assert call("train", "point_nav", "--out", str(run), "--resume") == 2
    error = capsys.readouterr().err
    assert f"{run} is a run of `reptile-agent train-on-policy point_nav`" in error
    assert error.count("\n") == 1


def test_its_evaluation_is_the_return_against_k(run, capsys):
    assert call("evaluate", str(run), "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == [f"maml, k={k}" for k in (0, 1, 2, 5)]
    # Two episodes of 5 steps of 0.1 s for each inner step.
    assert [row["seconds_of_data"] for row in rows] == pytest.approx([0.0, 1.0, 2.0, 5.0])
    assert all(len(row["episode_return"]) == 32 for row in rows)
    assert (rows[0]["better"], rows[0]["worse"]) == (0, 0)
    mean = sum(rows[1]["episode_return"]) / 32
    assert rows[1]["mean"] == pytest.approx(mean)
    start, after = rows[0]["episode_return"], rows[1]["episode_return"]
    worse = sum(b < a - 0.05 * abs(a) for a, b in zip(start, after))
    assert rows[1]["worse"] == worse
    assert call("evaluate", str(run), "--inner-steps", "0", "1", "--episodes", "3") == 0
    said = capsys.readouterr().out
    assert "point_nav, validation: return of an episode, 32 tasks" in said
    assert "1.5000" in said, "three episodes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gated",), "adapts as it did in training, with no gate"),
        (("--override", "inner_lr", "0.3"), "adapts as it did in training"),
        (("--episodes", "0"), "--episodes must be 1 or more"),
        (("--inner-steps", "-1"), "--inner-steps 0 or more"),
    ],
)
def test_what_a_policy_cannot_do_is_refused(run, arguments, message, capsys):
    assert call("evaluate", str(run), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_oracle_is_judged_on_its_own_tasks_and_unadapted(tmp_path, capsys):
    folder = str(tmp_path / "run")
    more = ("--algorithm", "oracle", "--split", "in_range")
    assert call("train-on-policy", "point_nav", "--out", folder, *TINY, *more) == 0
    assert call("evaluate", folder) == 2
    assert "trained on the split 'in_range'" in capsys.readouterr().err
    assert call("evaluate", folder, "--split", "in_range", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == ["oracle, k=0"]


def test_its_page_has_no_fault_and_names_its_own_command(run, tmp_path, capsys):
    assert call("evaluate", str(run), "--inner-steps", "0", "1") == 0
    page = tmp_path / "page.html"
    assert call("report", str(run), "--no-film", "--out", str(page)) == 0
    text = page.read_text()
    assert "3 of 3 iterations" in text
    assert "maml, k=1" in text
    assert "sampling.episode_steps" in text
    assert "Before the fault" not in text
    (run / CHECKPOINT).rename(tmp_path / "kept")
    assert call("report", str(run), "--no-film", "--out", str(page)) == 0
    (tmp_path / "kept").rename(run / CHECKPOINT)
    assert f"reptile-agent train-on-policy point_nav --out {run}" in page.read_text()


def test_a_contradiction_is_answered_in_one_line(tmp_path, capsys):
    arguments = ("--out", str(tmp_path / "run"), "--sampling.episode-steps", "101")
    assert call("train-on-policy", "point_nav", *arguments) == 2
    error = capsys.readouterr().err
    assert "sampling.episode_steps must be 1..100" in error
    assert error.count("\n") == 1
