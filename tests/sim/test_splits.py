"""sim.splits and the splits that are frozen beside each family."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sim import registry, splits
from sim.variations import Variation


def inside(family, task) -> dict[str, bool]:
    return {v.name: v.train[0] <= task[v.name] <= v.train[1] for v in family.variations}


@pytest.mark.parametrize("split", ["train", "in_range", "held_out"])
def test_these_splits_keep_to_the_training_range(family, split):
    for task in family.splits()[split]:
        assert all(inside(family, task).values()), task


@pytest.mark.parametrize("split", ["validation", "extrapolated"])
def test_these_splits_leave_the_training_range_in_one_or_two_variations(family, split):
    for task in family.splits()[split]:
        assert 1 <= list(inside(family, task).values()).count(False) <= 2, task


def test_every_split_has_its_size_and_tasks_the_family_takes(family):
    frozen = family.splits()
    infeasible = frozen[splits.INFEASIBLE]
    assert {name: len(frozen[name]) for name in splits.SIZES} == splits.SIZES
    assert not any(family.feasible(task) for task in infeasible[:6])
    for tasks in frozen.values():
        family.check(tasks)


def test_what_no_controller_can_solve_is_kept_apart():
    wear = Variation("wear", "x", 1.0, (1.0, 2.0), (1.0, 4.0), "for the test")

    def light(task):
        return task["wear"] < 2.5

    drawn = splits.draw((wear,), lambda rng: {"bent": 1.0}, light, seed=0)
    infeasible = drawn.pop(splits.INFEASIBLE)
    assert all(light(task) for tasks in drawn.values() for task in tasks)
    assert len(infeasible) == 32
    assert not any(light(task) for task in infeasible)


def test_no_task_is_in_two_splits(family):
    tasks = [json.dumps(t, sort_keys=True) for split in family.splits().values() for t in split]
    assert len(tasks) == len(set(tasks))


def test_the_held_out_kind_is_in_no_other_split(family):
    for name in splits.SIZES:
        for task in family.splits()[name]:
            special = {v.name for v in family.held_out} & set(task)
            assert bool(special) == (name == "held_out")


def test_what_is_frozen_can_be_solved(family):
    for split in ("train", "extrapolated"):
        assert all(family.feasible(task) for task in family.splits()[split][:6])


# Not of the arm and the quadruped: each of their tasks is tried for feasibility, which takes long.
@pytest.mark.parametrize("name", ["cartpole", "half_cheetah", "point_nav", "rover"])
def test_the_frozen_splits_are_those_that_the_generator_draws(name):
    family = registry.get(name)
    document = json.loads((family.folder / "splits.json").read_text())
    drawn = splits.draw(family.variations, family.draw_held_out, family.feasible, document["seed"])
    assert drawn == document["splits"]


def test_a_changed_number_is_noticed(tmp_path):
    tasks = {"train": [{"wear": 1.25}, {"wear": 1.5}], "held_out": [{"wear": 1.0}]}
    splits.write(tmp_path / "splits.json", tasks, 3, ())
    assert splits.read(tmp_path / "splits.json", ()) == tasks
    text = (tmp_path / "splits.json").read_text()
    (tmp_path / "splits.json").write_text(text.replace("1.25", "1.26"))
    with pytest.raises(
        ValueError, match=r"splits.json was changed after it was frozen.*restore it"
    ):
        splits.read(tmp_path / "splits.json", ())


@pytest.mark.parametrize(
    "changes",
    [{"beyond": (0.0, 9.0)}, {"train": (0.5, 1.5)}, {"log": True}, {"choices": (1.0, 2.0)}],
    ids=lambda changes: next(iter(changes)),
)
def test_ranges_that_changed_after_it_are_noticed(tmp_path, changes):
    usual = Variation("wear", "x", 1.0, (1.0, 1.5), (0.5, 2.0), "worn")
    path = tmp_path / "splits.json"
    splits.write(path, {"train": [{"wear": 1.25}]}, 3, (usual,))
    assert splits.read(path, (usual,)) == {"train": [{"wear": 1.25}]}
    changed = dataclasses.replace(usual, **changes)
    with pytest.raises(
        ValueError, match=r"other ranges \(wear was 1\.\.1\.5, beyond 0\.5\.\.2, is"
    ):
        splits.read(path, (changed,))
    with pytest.raises(ValueError, match=r"other ranges \(more was not there, is"):
        splits.read(path, (usual, dataclasses.replace(usual, name="more")))


@pytest.mark.parametrize("text", ["", '{"seed": 0, "splits"', "{}", "[]"])
def test_half_a_file_is_named(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ValueError, match=r"splits.json is not a whole file of splits .*restore it"):
        splits.read(tmp_path / "splits.json", ())


def test_a_moved_task_is_noticed(tmp_path):
    splits.write(tmp_path / "splits.json", {"train": [{"a": 1.0}], "held_out": [{"a": 2.0}]}, 0, ())
    document = json.loads((tmp_path / "splits.json").read_text())
    document["splits"]["train"] += document["splits"]["held_out"]
    (tmp_path / "splits.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="was changed after it was frozen"):
        splits.read(tmp_path / "splits.json", ())


def test_a_draw_without_enough_feasible_tasks_ends():
    wear = Variation("wear", "x", 1.0, (1.0, 2.0), (0.5, 4.0), "for the test")
    with pytest.raises(ValueError, match="split 'train': too few feasible tasks"):
        splits.draw((wear,), lambda rng: {}, lambda task: False, seed=0)
