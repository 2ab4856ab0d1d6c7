"""What is told of each held-out kind of change."""

import pandas as pd
import pytest

from bench.adaptation import kinds
from bench.adaptation.comparison import Comparison
from sim import registry

OFFSET, SWAP = "encoder_offset_shoulder_pan", "swap_wrist"


@pytest.fixture
def numbers():
    """Held-out tasks of the arm: the first two with exchanged plugs, the first with an offset."""
    frozen = registry.get("arm").splits()["held_out"]
    swapped = [number for number, task in enumerate(frozen) if task.get(SWAP)]
    offset = next(number for number, task in enumerate(frozen) if task.get(OFFSET))
    return swapped[0], swapped[1], offset


def compared(split, returns, family="arm"):
    """Joint training's runs, seeds x k in (0, 10) per task, and an oracle's, as good as 0."""
    rows = [
        {
            **{"family": family, "split": split, "task": task, "seed": seed, "k": k},
            **{"learner": "dynamics", "method": "joint", "gate": "on", "experiment": "adapt"},
            **{"seconds_of_data": 4.0 if k else 0.0, "episode_return": value},
        }
        for task, seeds in returns.items()
        for seed, pair in enumerate(seeds)
        for k, value in zip((0, 10), pair)
    ]
    rows += [row | {"method": "oracle", "episode_return": 0.0} for row in rows if row["k"] == 0]
    return Comparison(family, "dynamics", pd.DataFrame(rows), 10, 5.0, "on")


def test_one_kind_does_not_hide_behind_another(numbers):
    first, second, offset = numbers
    returns = {
        first: [(-10.0, -30.0), (-20.0, -40.0)],
        second: [(-30.0, -10.0), (-40.0, -90.0)],
        offset: [(-8.0, -2.0), (-6.0, -1.0)],
    }
    found = kinds.rows(compared("held_out", returns))
    assert found == [
        [SWAP, "joint", "10", "on", "-25", "-35", "75%", "2 x 2"],
        [SWAP, "oracle", "0", "-", "0", "-", "-", "2 x 2"],
        [OFFSET, "joint", "10", "on", "-7", "-1.5", "0%", "2 x 1"],
        [OFFSET, "oracle", "0", "-", "0", "-", "-", "2 x 1"],
    ]


def test_a_task_of_two_kinds_counts_for_both(monkeypatch):
    arm = registry.get("arm")
    splits = arm.splits() | {"held_out": [{SWAP: 1.0, OFFSET: 0.1}, {}]}
    monkeypatch.setattr(type(arm), "splits", lambda _: splits)
    assert kinds.of_tasks("arm", [0, 1]) == {SWAP: [0], OFFSET: [0]}


def test_other_splits_and_unknown_families_have_no_kinds(numbers):
    one = {numbers[0]: [(-10.0, -30.0)]}
    assert kinds.rows(compared("in_range", one)) == []
    assert kinds.rows(compared("held_out", one, family="a family that is gone")) == []
