"""bench.headroom: what knowing the task is worth to a planner."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bench import headroom
from bench.headroom import Args, beliefs, main


@pytest.fixture
def args(tmp_path, monkeypatch) -> Args:
    monkeypatch.setattr(headroom, "JUDGED_FROM", 10)
    return Args(("arm",), tasks=4, seeds=1, periods=40, out=tmp_path / "headroom.json", json=True)


def test_an_arm_follows_better_by_plans_for_what_it_is(args, capsys):
    assert main(args) == 0
    rows = {row["plans_for"]: row for row in json.loads(args.out.read_text())["rows"]}
    assert list(rows) == ["the task", "nominal", "another"]
    assert rows["the task"]["worth_of_knowing"] == 0
    for belief in ("nominal", "another"):
        row = rows[belief]
        lost = rows["the task"]["mean_return"] - row["mean_return"]
        assert row["worth_of_knowing"] == pytest.approx(lost, abs=1e-3)
        assert row["low"] <= row["worth_of_knowing"] <= row["high"]
    assert rows["nominal"]["low"] > 0
    assert json.loads(capsys.readouterr().out)["rows"] == list(rows.values())
    # A second family is written beside the first.
    short = dataclasses.replace(args, families=("half_cheetah",), periods=12, tasks=2, json=False)
    assert main(short) == 0
    assert "worth" in capsys.readouterr().out
    table = headroom._table(json.loads(args.out.read_text())["rows"])
    assert [bool(column.header) for column in table.columns] == [True] * 6
    assert len(json.loads(args.out.read_text())["rows"]) == 6


def test_every_task_is_taken_for_another():
    tasks = [{"mass": 1.0}, {"mass": 2.0}, {"mass": 3.0}]
    found = beliefs(tasks)
    assert found["the task"] == tasks
    assert all(one != two for one, two in zip(found["another"], tasks))
    assert found["nominal"] == [{}, {}, {}]


def test_other_splits_keep_their_rows_and_one_task_is_too_few(args, capsys):
    for split in ("validation", "in_range", "validation"):
        short = dataclasses.replace(args, split=split, periods=12, tasks=2)
        assert main(short) == 0
    rows = json.loads(args.out.read_text())["rows"]
    assert [row["split"] for row in rows] == ["in_range"] * 3 + ["validation"] * 3
    assert main(dataclasses.replace(args, tasks=1)) == 2
    assert "--tasks must be 2 or more" in capsys.readouterr().out


def test_what_cannot_try_plans_is_refused(args, capsys):
    name = "gymnasium:Pendulum-v1"
    assert main(dataclasses.replace(args, families=(name,))) == 2
    assert f"'{name}' has no simulator that can try plans" in capsys.readouterr().out
    assert not args.out.exists()
