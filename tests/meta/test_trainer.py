"""reptile_agent.meta.trainer: tiny runs, repeated and interrupted to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.checkpoint import CheckpointError
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.trainer import TrainConfig, Trainer
from sim.families.cartpole import Cartpole

TINY = TrainConfig(
    tasks=4,
    rounds=2,
    round_steps=24,
    fit_iterations=6,
    fit_batch=16,
    iterations=5,
    meta_batch=3,
    train_inner_steps=2,
    adaptation=AdaptationConfig(batch=4, rehearsal=2, window=12),
    model=DynamicsConfig(hidden=(8,), members=2, segment=2),
    samples=4,
)
WHOLE = 2 * (1 + 6) + 5
"""Yields of a whole run: two rounds gathered, and all outer steps."""


class ShortCartpole(Cartpole):
    plan_horizon = 4


@pytest.fixture(scope="module")
def family() -> ShortCartpole:
    return ShortCartpole()


def snapshot(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in trainer.params.items()}


def trained(family, config: TrainConfig = TINY) -> tuple[dict[str, np.ndarray], list[str], list]:
    logged: list[tuple[str, float, int]] = []
    trainer = Trainer(family, config, lambda *row: logged.append(row))
    done = list(trainer.run())
    return snapshot(trainer), done, logged


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[n], two[n]) for n in one)


@pytest.fixture(
    scope="module",
    params=[{}, {"algorithm": "joint"}, {"outer": "sgd", "epsilon": 0.3}],
    ids=["reptile", "joint", "reptile by sgd"],
)
def config(request) -> TrainConfig:
    return dataclasses.replace(TINY, **request.param)


@pytest.fixture(scope="module")
def whole(family, config) -> dict[str, np.ndarray]:
    """The start after a run that nothing interrupted."""
    return trained(family, config)[0]


def test_a_run_goes_through_its_stations_and_logs_them(family):
    params, done, logged = trained(family)
    one, two = (
        [f"round {n}: gathering experience", *[f"round {n}: fitting the model"] * 6] for n in (1, 2)
    )
    assert done == [*one, *two, *["reptile"] * 5]
    assert all(np.isfinite(value).all() for value in params.values())
    steps = {name: [row[2] for row in logged if row[0] == name] for name, *_ in logged}
    assert steps["fit/loss"] == list(range(12))
    assert steps["meta/after"] == list(range(12, 17))
    assert steps["collect/tracking_error"] == [0, 1]
    assert all(np.isfinite(value) for _, value, _ in logged)


def test_progress_ends_at_the_announced_number_of_iterations(family):
    trainer = Trainer(family, TINY)
    seen = [trainer.done_iterations for _ in trainer.run()]
    assert seen == sorted(seen)
    assert trainer.done_iterations == trainer.total_iterations == 17


def test_the_same_seed_gives_the_same_start_to_the_bit(family, config, whole):
    assert same(trained(family, config)[0], whole)


def test_another_seed_gives_another_start(family, config, whole):
    assert not same(trained(family, dataclasses.replace(config, seed=1))[0], whole)


def test_the_random_state_of_the_process_does_not_matter(family, config, whole):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert same(trained(family, config)[0], whole)


def test_reptile_and_joint_training_part_only_in_the_meta_phase(family):
    def after(algorithm: str, yields: int) -> dict[str, np.ndarray]:
        trainer = Trainer(family, dataclasses.replace(TINY, algorithm=algorithm))
        for _, _ in zip(range(yields), trainer.run()):
            pass
        return snapshot(trainer)

    assert same(after("reptile", WHOLE - 5), after("joint", WHOLE - 5))
    assert not same(after("reptile", WHOLE), after("joint", WHOLE))


@pytest.mark.parametrize(
    "changes",
    [
        {"outer": "sgd", "epsilon": 0.5, "epsilon_schedule": "constant"},
        {"meta_batch": 1},
        {"inner": InnerOptimizer(kind="adam")},
        {"lr_scale": {"w": 0.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_run_and_matter(family, changes):
    params, *_ = trained(family, dataclasses.replace(TINY, **changes))
    assert all(np.isfinite(value).all() for value in params.values())
    assert not same(params, trained(family)[0])


def test_parameters_with_a_step_size_of_zero_stay_in_the_meta_phase(family):
    config = dataclasses.replace(TINY, lr_scale={"w": 0.0}, outer="sgd", epsilon=1.0)
    trainer = Trainer(family, config)
    runs = trainer.run()
    for _, _ in zip(range(WHOLE - 5), runs):
        pass
    before = snapshot(trainer)
    for _ in runs:
        pass
    after = snapshot(trainer)
    np.testing.assert_allclose(after["w0"], before["w0"], rtol=1e-6)
    assert np.abs(after["b0"] - before["b0"]).max() > 1e-4


@pytest.mark.parametrize(
    "yields",
    [1, 2, 5, 7, 8, 11, 14, 15, 17, WHOLE],
    ids=[
        "before the first round",
        "first outer step",
        "in the first round",
        "end of the first round",
        "before the second round",
        "in the second round",
        "before the meta phase",
        "first meta step",
        "in the meta phase",
        "at the end",
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(family, config, whole, tmp_path, yields):
    trainer, path = Trainer(family, config), tmp_path / "checkpoint.safetensors"
    for _, _ in zip(range(yields), trainer.run()):
        pass
    trainer.save(path)
    resumed = Trainer.resume(family, path)
    assert resumed.config == config
    assert resumed.done_iterations == trainer.done_iterations
    for _ in resumed.run():
        pass
    assert same(snapshot(resumed), whole)


def test_a_run_interrupted_again_and_again_ends_in_the_same_bits(family, config, whole, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(family, config).save(path)
    for _ in range(WHOLE + 2):
        trainer = Trainer.resume(family, path)
        for _, _ in zip(range(2), trainer.run()):
            pass
        trainer.save(path)
    assert trainer.done_iterations == trainer.total_iterations
    assert same(snapshot(trainer), whole)


def test_a_bundles_rehearsal_is_the_same_after_resuming(family, tmp_path):
    trainer = Trainer(family, TINY)
    for _ in trainer.run():
        pass
    trainer.save(tmp_path / "checkpoint.safetensors")
    resumed = Trainer.resume(family, tmp_path / "checkpoint.safetensors")
    one, two = trainer.rehearsal(40), resumed.rehearsal(40)
    assert one["obs"].shape == (40, 4)
    assert one["action"].shape == (40, 2, 1)
    assert same(one, two)


def test_a_checkpoint_of_another_family_is_refused(family, short_arm, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(family, TINY).save(path)
    with pytest.raises(CheckpointError, match="is a run of family 'cartpole', not of 'arm'"):
        Trainer.resume(short_arm, path)


def test_a_checkpoint_cut_in_half_is_refused_with_its_name(family, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(family, TINY).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged"):
        Trainer.resume(family, path)


@pytest.mark.parametrize("tasks", [0, 129])
def test_a_number_of_tasks_that_the_split_has_not_is_refused(family, tasks):
    with pytest.raises(ValueError, match=rf"tasks must be 1\.\.128 .* got {tasks}"):
        Trainer(family, dataclasses.replace(TINY, tasks=tasks))


def test_asking_for_a_start_before_there_is_one_is_refused(family):
    trainer = Trainer(family, TINY)
    for thing in ("params", "planner"):
        with pytest.raises(ValueError, match="nothing is trained yet"):
            getattr(trainer, thing)
