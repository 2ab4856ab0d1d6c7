"""reptile-agent train: best and last starts, losses that are not finite, and where curves go."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reptile_agent import cli
from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.commands import post_mortem
from reptile_agent.commands.console import UserError
from reptile_agent.commands.train import CHECKPOINT, train
from reptile_agent.commands.train_log import TrainLog
from reptile_agent.commands.validation import BEST, Validation
from reptile_agent.meta import checkpoint
from reptile_agent.meta.droppable import Droppable
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from sim.families.cartpole import Cartpole

LENGTH = 8


@dataclass(frozen=True)
class ToyConfig:
    """Settings of a trainer that only counts."""

    fit_lr: float = 0.25
    seed: int = 3


class Counter:
    """Implements Trainable: iterations count up, costs are given, one iteration may fail."""

    family = Cartpole()
    config = ToyConfig()
    total_iterations = LENGTH

    def __init__(self, costs=(), fails_at: int = -1, begin: int = 0) -> None:
        self.done_iterations, self._costs, self._fails_at = begin, costs, fails_at
        self.droppable = Droppable()
        self.looked_at: list[int] = []

    def run(self) -> Iterator[str]:
        yield "gathering"
        while self.done_iterations < LENGTH:
            if self.done_iterations == self._fails_at:
                obs = np.ones((30, 4)) * np.arange(30)[:, None]
                obs[4, 2] = np.nan
                batch = {"obs": obs, "params.w": np.full((2, 2), np.inf)}
                raise LossNotFinite(f"fit/loss at step {self.done_iterations}", batch)
            self.done_iterations += 1
            yield "counting"

    def validate(self) -> float:
        self.looked_at.append(self.done_iterations)
        return self._costs[self.done_iterations - 1]

    def save(self, path: Path) -> None:
        checkpoint.write(path, {}, {"at": self.done_iterations})


def saved_at(path: Path) -> int:
    return checkpoint.read(path)[1]["at"]


def ignore(*_: object) -> None:
    """A log that keeps nothing."""


@pytest.fixture
def validated(tmp_path):
    """Train a Counter; what was looked at and logged."""

    def run(costs, every: int | None, begin: int = 0, clock=lambda: 0.0):
        trainer, logged = Counter(costs, begin=begin), []
        validation = Validation(
            trainer, tmp_path, CHECKPOINT, every, lambda *row: logged.append(row), clock
        )
        assert train(trainer, tmp_path, validation) == 0
        return trainer.looked_at, logged

    return run


def test_the_best_start_is_kept_beside_the_last_and_both_are_named(validated, tmp_path, capsys):
    looked_at, logged = validated([0, 5, 0, 2, 0, 4, 0, 3], every=2)
    assert looked_at == [2, 4, 6, 8]
    assert [row[1:] for row in logged] == [(5.0, 2), (2.0, 4), (4.0, 6), (3.0, 8)]
    assert {row[0] for row in logged} == {"validate/cost"}
    assert (saved_at(tmp_path / BEST), saved_at(tmp_path / CHECKPOINT)) == (4, LENGTH)
    said = "mean reward -2 per control period, adapting, at iteration 4"
    assert f"best on the validation split: {said}" in capsys.readouterr().out


def test_a_resumed_run_keeps_the_best_start_of_its_first_part(validated, tmp_path):
    validated([0, 0, 0, 1, 9, 9, 9, 9], every=4)
    validated([9] * 7 + [2], every=4, begin=4)
    assert saved_at(tmp_path / BEST) == 4
    validated([9] * 7 + [0.5], every=4, begin=4)
    assert saved_at(tmp_path / BEST) == 8


def test_a_new_run_does_not_inherit_the_best_start_of_another(validated, tmp_path):
    validated([0, 0, 0, 1, 0, 0, 0, 9], every=4)
    validated([0, 0, 0, 7, 0, 0, 0, 5], every=4)
    assert json.loads((tmp_path / "best.json").read_text()) == {"iteration": 8, "cost": 5.0}


def test_a_cost_that_is_not_a_number_is_never_the_best(validated, tmp_path):
    validated([0, 0, 0, np.nan, 0, 0, 0, 3], every=4)
    assert saved_at(tmp_path / BEST) == 8
    validated([np.nan] * LENGTH, every=1)
    assert saved_at(tmp_path / BEST) == 8


def test_a_run_can_do_without_validation(validated, tmp_path):
    assert validated([], every=0) == ([], [])
    assert not (tmp_path / BEST).exists()


def test_looking_at_the_validation_split_changes_nothing_of_the_run(tmp_path):
    config = TrainConfig(
        tasks=2,
        rounds=1,
        round_steps=30,
        fit_iterations=3,
        fit_batch=8,
        iterations=3,
        meta_batch=2,
        train_inner_steps=2,
        adaptation=AdaptationConfig(inner_steps=1, batch=4, rehearsal=2, window=12, period=50),
        model=DynamicsConfig(hidden=(8,), members=2, segment=2),
        samples=4,
    )
    written = []
    for name, every in (("looked", 3), ("left alone", 0)):
        out = tmp_path / name
        out.mkdir()
        trainer = Trainer(Cartpole(), config)
        assert train(trainer, out, Validation(trainer, out, CHECKPOINT, every, ignore)) == 0
        assert (out / BEST).exists() == (every > 0)
        written.append(checkpoint.read(out / CHECKPOINT))
    # Not the files' bytes: safetensors writes its metadata in any order.
    (looked, progress), (left_alone, same_progress) = written
    assert progress == same_progress
    assert looked.keys() == left_alone.keys()
    assert all(np.array_equal(looked[name], left_alone[name]) for name in looked)


@pytest.mark.parametrize(("look_s", "most"), [(0.0, LENGTH), (0.05, 5), (10.0, 2)])
def test_left_to_itself_validation_takes_a_tenth_of_the_time(validated, monkeypatch, look_s, most):
    """An iteration takes 0.2 s, so that 0.05 s of looking are paid back in three."""
    now = [0.0]
    steps, looks = Counter.run, Counter.validate

    def run(self):
        for doing in steps(self):
            now[0] += 0.2
            yield doing

    def validate(self):
        now[0] += look_s
        return looks(self)

    monkeypatch.setattr(Counter, "run", run)
    monkeypatch.setattr(Counter, "validate", validate)
    looked_at, _ = validated([1.0] * LENGTH, every=None, clock=lambda: now[0])
    assert looked_at[0] == 1
    assert looked_at[-1] == LENGTH
    assert len(looked_at) <= most
    assert len(looked_at) >= most - 1


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_its_batch(tmp_path, capsys):
    Counter(begin=2).save(tmp_path / CHECKPOINT)
    assert train(Counter(fails_at=5, begin=2), tmp_path) == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 3, "two stages and one message"
    assert "fit/loss at step 5 is not finite" in said
    assert f"obs[{Cartpole().robot.observations[2].name}]: 1 of 30 not finite" in said
    assert "params.w: 4 of 4 not finite" in said
    assert "--fit-lr 0.25" in said
    assert "--resume repeats from there" in said
    assert saved_at(tmp_path / CHECKPOINT) == 2, "the last good one"
    arrays, state = checkpoint.read(tmp_path / post_mortem.POST_MORTEM)
    assert np.isnan(arrays["obs"][4, 2])
    assert (state["what"], state["iteration"]) == ("fit/loss at step 5", 5)
    assert state["config"] == {"fit_lr": 0.25, "seed": 3}


def test_without_a_checkpoint_nobody_is_sent_to_resume(tmp_path, capsys):
    assert train(Counter(fails_at=0), tmp_path) == 1
    assert "there is no checkpoint yet" in capsys.readouterr().out
    assert not (tmp_path / CHECKPOINT).exists()


def test_extreme_columns_are_named_worst_first():
    rng = np.random.default_rng(0)
    batch = {
        "obs": rng.standard_normal((64, 4)),
        "action": rng.standard_normal((64, 3, 1)),
        "weight": np.ones(64),
        "contact": np.eye(64)[0],
        "nothing": np.ones((0, 3)),
        "params.w0": rng.standard_normal((5, 4)),
    }
    robot = Cartpole().robot
    assert post_mortem.extreme_columns(batch, robot) == []
    batch["obs"][3, 1] = 1e4
    batch["action"][9, 2, 0] = -1e6
    batch["weight"][0] = np.inf
    batch["params.w0"] *= 1e7
    names = [robot.actions[0].name, robot.observations[1].name]
    assert post_mortem.extreme_columns(batch, robot) == [
        "weight: 1 of 64 not finite",
        f"params.w0: {batch['params.w0'].flat[np.abs(batch['params.w0']).argmax()]:.3g}",
        f"action[{names[0]}]: -1e+06",
        f"obs[{names[1]}]: 1e+04",
    ]


def test_a_negative_number_of_iterations_is_refused(tmp_path, capsys):
    arguments = ["train", "cartpole", "--out", str(tmp_path / "run"), "--validate-every", "-1"]
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "--validate-every must be 0 or more, got -1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_wandb_the_flag_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb, or leave --wandb out"):
        TrainLog(tmp_path, "a project")


@pytest.fixture
def offline_wandb(tmp_path, monkeypatch):
    """The real package, without a network or an account."""
    wandb = pytest.importorskip("wandb", reason="wandb is optional and is not installed here")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return wandb


def test_wandb_sees_what_tensorboard_sees_with_each_groups_own_steps(tmp_path, offline_wandb):
    rows = [("collect/reward", 0.5, 0), ("fit/loss", 3.0, 17), ("collect/reward", 0.75, 1)]
    with TrainLog(tmp_path, "project") as log:
        log.describe({"config": {"seed": 5}})
        run = log._wandb
        kept = []
        offered = run.log
        run.log = lambda row: kept.append(row) or offered(row)
        for row in rows:
            log(*row)
        assert run.settings.mode == "offline"
        assert run.config["config"] == {"seed": 5}
        assert run.id == (tmp_path / "wandb-id.txt").read_text().strip()
    assert kept == [{n: v, f"{n.split('/')[0]}/step": step} for n, v, step in rows]
    assert list(tmp_path.glob(f"wandb/offline-run-*/run-{run.id}.wandb"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [
        (name, e.value, e.step) for name in events.Tags()["scalars"] for e in events.Scalars(name)
    ]
    assert sorted(found) == sorted(rows)


def test_a_resumed_run_goes_on_under_its_name_at_wandb(tmp_path, offline_wandb):
    names = []
    for resume in (False, True, False):
        with TrainLog(tmp_path, "project", resume) as log:
            names.append(log._wandb.id)
    assert names[0] == names[1] != names[2]
