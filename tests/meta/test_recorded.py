"""Recorded robots as tasks: their file, and what training makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from test_trainer import advanced, same, trained
from tiny import TINY, ShortCartpole, snapshot

from reptile_agent.meta import dataset
from reptile_agent.meta.dataset import Dataset, DatasetError, RecordedTask, recorded_task
from reptile_agent.meta.recorded import RecordedLanes
from reptile_agent.meta.trainer import Trainer
from reptile_agent.transition import Transition

LENGTH = TINY.rounds * TINY.round_steps
LEAST = TINY.adaptation.window + TINY.query_window


def lived(family, periods: int) -> list[Transition]:
    """What a cart whose motor's leads are exchanged did under chance, with a gap in the middle."""
    sim, rng = family.make_sim([{"reversed": 1.0}]), np.random.default_rng(0)
    obs, found = sim.reset(seed=1), []
    for t in range(periods):
        reference = sim.reference(family.plan_horizon)
        action = rng.uniform(-5, 5, (1, 1)).astype(np.float32)
        after, reward, *_ = sim.step(action)
        first = np.array([t in (0, periods // 2)])
        found.append(Transition(obs, action, after, reward, first, reference=reference))
        obs = after
    return found


@pytest.fixture(scope="module")
def family() -> ShortCartpole:
    return ShortCartpole()


@pytest.fixture(scope="module")
def tasks(family) -> tuple[RecordedTask, ...]:
    """One that is shorter than a lane, and one that takes three."""
    lengths = {"short": LEAST + 1, "long": 2 * LENGTH + 4}
    return tuple(recorded_task(n, family.robot, lived(family, k)) for n, k in lengths.items())


@pytest.fixture(scope="module")
def config(family, tasks, tmp_path_factory):
    """TINY with both."""
    path = tmp_path_factory.mktemp("recorded") / "dataset.safetensors"
    dataset.write(path, Dataset(family.robot, tasks))
    return dataclasses.replace(TINY, dataset=path)


def test_a_file_gives_back_what_was_written(family, tasks, config):
    found = dataset.read(config.dataset, family.robot)
    assert found.robot == family.robot
    for ours, theirs in zip(found.tasks, tasks, strict=True):
        for field in dataclasses.fields(RecordedTask):
            assert np.array_equal(getattr(ours, field.name), getattr(theirs, field.name))


def test_a_transition_that_is_not_finite_is_left_out_and_leaves_a_gap(family):
    transitions = lived(family, 12)
    lost = np.full_like(transitions[3].obs, np.nan)
    transitions[3] = dataclasses.replace(transitions[3], obs=lost)
    task = recorded_task("cart", family.robot, transitions)
    assert len(task) == 11
    assert np.flatnonzero(task.first).tolist() == [0, 3, 5]
    blind = [dataclasses.replace(transitions[0], reference=None)]
    with pytest.raises(DatasetError, match="cart: a transition has no reference"):
        recorded_task("cart", family.robot, blind)
    with pytest.raises(DatasetError, match="no transition fits robot"):
        recorded_task("cart", family.robot, transitions[3:4])


def test_lanes_hold_every_transition_and_no_stretch_that_was_not(family, tasks, config):
    recorded = RecordedLanes(config.dataset, family, config)
    assert recorded.lanes == 1 + 3
    lanes = recorded._whole
    short, long = tasks
    assert np.array_equal(lanes["obs"][0, : len(short)], short.obs)
    assert np.array_equal(lanes["obs"][0, len(short) :], short.obs[: LENGTH - len(short)])
    assert lanes["first"][0, len(short)], "what is repeated does not continue its own end"
    everything = {row.tobytes() for row in lanes["obs"][1:].reshape(-1, 4)}
    assert {row.tobytes() for row in long.obs} <= everything
    for lane in range(4):
        breaks = ~lanes["first"][lane, 1:]
        ends, starts = lanes["next_obs"][lane, :-1], lanes["obs"][lane, 1:]
        assert np.array_equal(ends[breaks], starts[breaks])
    arrays = (torch.from_numpy(lanes[n]) for n in ("obs", "action", "next_obs", "reference"))
    assert np.allclose(lanes["reward"], family.reward(*arrays).numpy())


def test_round_by_round_all_of_a_lane_is_remembered(family, config):
    trainer = advanced(Trainer(family, config), 10_000)
    held, lanes = trainer._replay.state(), RecordedLanes(config.dataset, family, config)._whole
    for name in ("obs", "action", "next_obs", "reward", "first"):
        assert np.array_equal(held[name][TINY.tasks :], lanes[name]), name


def test_each_recorded_task_weighs_what_was_asked_for(family, config):
    heavy = dataclasses.replace(config, dataset_lanes=3)
    trainer = advanced(Trainer(family, heavy), 2)
    assert trainer._replay.lanes == TINY.tasks + 3 * 4
    assert trainer.env_steps == TINY.tasks * TINY.round_steps, "recorded steps are not simulated"


def test_a_dataset_changes_the_start_and_so_does_its_weight(family, config):
    without, with_it = trained(family, TINY)[0], trained(family, config)[0]
    heavy = trained(family, dataclasses.replace(config, dataset_lanes=2))[0]
    assert not same(without, with_it)
    assert not same(with_it, heavy)


def test_a_model_learns_what_only_the_recorded_robot_does(family, config, tasks):
    """No simulated cart has its leads exchanged; the recorded one weighs twelve to one."""

    def error(changes: dict) -> float:
        settings = {"algorithm": "joint", "iterations": 0, "fit_iterations": 150, "tasks": 1}
        run = dataclasses.replace(config, **settings, **changes)
        trainer = advanced(Trainer(family, run), 10_000)
        task = tasks[1]
        rows = {
            "obs": torch.from_numpy(task.obs[:-1]),
            "action": torch.from_numpy(np.stack([task.action[:-1], task.action[1:]], 1)),
            "next_obs": torch.from_numpy(np.stack([task.next_obs[:-1], task.next_obs[1:]], 1)),
        }
        whole = ~task.first[1:]
        rows = {name: value[whole] for name, value in rows.items()}
        rows["weight"] = torch.ones(int(whole.sum()))
        return float(trainer.agent.learner.prediction_error(trainer.params, rows).mean())

    assert error({"dataset_lanes": 3}) < 0.8 * error({"dataset": None})


@pytest.mark.parametrize("interrupted", [1, 5, 8, 15])
def test_a_resumed_run_is_the_same_to_the_bit(family, config, tmp_path, interrupted):
    trainer = advanced(Trainer(family, config), interrupted)
    trainer.save(tmp_path / "checkpoint.safetensors")
    resumed = Trainer.resume(family, tmp_path / "checkpoint.safetensors")
    for _ in resumed.run():
        pass
    assert same(snapshot(resumed), trained(family, config)[0])


def test_a_run_whose_dataset_was_exchanged_says_so_and_one_that_is_over_needs_none(
    family, config, tasks, tmp_path
):
    path, saved = tmp_path / "dataset.safetensors", tmp_path / "checkpoint.safetensors"
    path.write_bytes(Path(config.dataset).read_bytes())
    trainer = advanced(Trainer(family, dataclasses.replace(config, dataset=path)), 3)
    trainer.save(saved)
    dataset.write(path, Dataset(family.robot, tasks[1:]))
    with pytest.raises(DatasetError, match="is not the one that this run began with"):
        advanced(Trainer.resume(family, saved), 10)
    path.write_bytes(Path(config.dataset).read_bytes())
    advanced(trainer, 10_000).save(saved)
    path.unlink()
    assert same(snapshot(Trainer.resume(family, saved)), snapshot(trainer))


def refused(path: Path, robot) -> str:
    with pytest.raises(DatasetError) as caught:
        dataset.read(path, robot)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_dataset_are_refused_by_name(family, config, tasks, tmp_path):
    robot, path = family.robot, tmp_path / "dataset.safetensors"
    assert "`reptile-agent dataset BAG` makes one" in refused(path, robot)
    whole = Path(config.dataset).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(path, robot)
    save_file({"obs": np.zeros(3, np.float32)}, path, {"format": "something"})
    assert "it says: something" in refused(path, robot)
    about = {"format": dataset.FORMAT, "robot": robot.model_dump_json()}
    save_file({f"0.{n}": np.zeros(3, np.float32) for n in dataset.ARRAYS}, path, about)
    assert "incomplete" in refused(path, robot)
    save_file({}, path, about)
    assert "holds no task" in refused(path, robot)
    odd = dataclasses.replace(tasks[0], action=tasks[0].action[:-1])
    dataset.write(path, Dataset(robot, (odd,)))
    assert "'action' of 'short' should be float32" in refused(path, robot)
    odd = dataclasses.replace(tasks[0], obs=np.full_like(tasks[0].obs, np.inf))
    dataset.write(path, Dataset(robot, (odd,)))
    assert "'obs' of 'short' is not finite" in refused(path, robot)
    odd = dataclasses.replace(tasks[0], first=tasks[0].first.astype(np.float32))
    dataset.write(path, Dataset(robot, (odd,)))
    assert "'first' of 'short' should be bool" in refused(path, robot)


def test_a_dataset_of_another_robot_is_refused_by_its_signals(family, config, tmp_path):
    robot = family.robot
    one, *others = robot.actions
    renamed = robot.model_copy(
        update={"actions": (one.model_copy(update={"unit": "lbf"}), *others)}
    )
    said = refused(config.dataset, renamed)
    assert f"{one.name} [{one.unit}], no {one.name} [lbf]" in said
    turned = robot.model_copy(update={"observations": robot.observations[::-1]})
    assert "another order" in refused(config.dataset, turned)
    slower = robot.model_copy(update={"control_period_s": 1.0})
    assert "is controlled every 1.0 s" in refused(config.dataset, slower)


def test_a_run_refuses_what_is_too_short_or_weighs_nothing(family, tmp_path, config):
    path = tmp_path / "dataset.safetensors"
    few = recorded_task("glimpse", family.robot, lived(family, LEAST - 1))
    dataset.write(path, Dataset(family.robot, (few,)))
    with pytest.raises(DatasetError, match=f"'glimpse' has {LEAST - 1} transitions, fewer than"):
        advanced(Trainer(family, dataclasses.replace(TINY, dataset=path)), 2)
    with pytest.raises(DatasetError, match="dataset_lanes must be 1 or more, got 0"):
        advanced(Trainer(family, dataclasses.replace(config, dataset_lanes=0)), 2)
