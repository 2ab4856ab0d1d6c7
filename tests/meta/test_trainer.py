"""reptile_agent.meta.trainer: tiny runs, repeated and interrupted to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny import TINY, ShortCartpole, snapshot

from reptile_agent.meta.checkpoint import CheckpointError
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.rounds import judging_seed
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from sim.backends.batch import BatchSim

WHOLE = 2 * (1 + 6) + 5
"""Yields of a whole run: two rounds gathered, and all outer steps."""


@pytest.fixture(scope="module")
def family() -> ShortCartpole:
    return ShortCartpole()


def trained(family, config: TrainConfig = TINY) -> tuple[dict[str, np.ndarray], list[str], list]:
    logged: list[tuple[str, float, int]] = []
    trainer = Trainer(family, config, lambda *row: logged.append(row))
    done = list(trainer.run())
    return snapshot(trainer), done, logged


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[n], two[n]) for n in one)


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"outer": "sgd", "epsilon": 0.3},
        {"learn_lr": 0.1, "inner": InnerOptimizer(kind="adam")},
        {"guided_rounds": 1},
        {"tried_plans": 2, "priority": 0.3},
        {"algorithm": "joint"},
        {"algorithm": "joint", "learn_lr": 0.1},
        {"algorithm": "fomaml"},
        {"algorithm": "maml", "learn_lr": 0.1},
        {"algorithm": "scratch"},
        {"learner": "actor_critic"},
        {"learner": "actor_critic", "algorithm": "fomaml", "learn_lr": 0.1},
        {"learner": "actor_critic", "algorithm": "scratch"},
        {"learner": "actor_critic", "priority": 0.6},
        {"learner": "model_policy"},
        {"learner": "model_policy", "algorithm": "maml"},
    ],
    ids=lambda changes: ", ".join(str(value) for value in changes.values()) or "reptile",
)
def config(request) -> TrainConfig:
    """Every algorithm and every learner at least once."""
    return dataclasses.replace(TINY, **request.param)


@pytest.fixture(scope="module")
def whole(family, config) -> dict[str, np.ndarray]:
    """The start after a run that nothing interrupted."""
    return trained(family, config)[0]


@pytest.fixture(scope="module")
def reptile(family) -> dict[str, np.ndarray]:
    """The start after a whole run of TINY."""
    return trained(family)[0]


def advanced(trainer: Trainer, yields: int) -> Trainer:
    """The trainer after so many yields of its run."""
    for _, _ in zip(range(yields), trainer.run()):
        pass
    return trainer


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


def test_the_same_seed_gives_the_same_start_to_the_bit_whatever_else_is_drawn(
    family, config, whole
):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert same(trained(family, config)[0], whole)


def test_another_seed_gives_another_start(family, reptile):
    assert not same(trained(family, dataclasses.replace(TINY, seed=1))[0], reptile)


def test_reptile_and_joint_training_part_only_in_the_meta_phase(family):
    def after(algorithm: str, yields: int) -> dict[str, np.ndarray]:
        config = dataclasses.replace(TINY, algorithm=algorithm)
        return snapshot(advanced(Trainer(family, config), yields))

    assert same(after("reptile", WHOLE - 5), after("joint", WHOLE - 5))
    assert not same(after("reptile", WHOLE), after("joint", WHOLE))


@pytest.mark.parametrize(
    "changes",
    [
        {"outer": "sgd", "epsilon": 0.5, "epsilon_schedule": "constant"},
        {"meta_batch": 1},
        {"inner": InnerOptimizer(kind="adam")},
        {"lr_scale": {"w": 0.0}},
        {"train_inner_steps": 3},
        {"query_steps": 0},
        {"query_window": 2, "query_steps": 3},
        {"epsilon_schedule": "cosine"},
        {"priority": 0.6},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_run_and_matter(family, reptile, changes):
    params, *_ = trained(family, dataclasses.replace(TINY, **changes))
    assert all(np.isfinite(value).all() for value in params.values())
    assert not all(np.array_equal(params[name], reptile[name]) for name in reptile)


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
def test_an_interrupted_run_goes_on_to_the_same_bits(family, reptile, tmp_path, yields):
    path, trainer = tmp_path / "checkpoint.safetensors", advanced(Trainer(family, TINY), yields)
    trainer.save(path)
    resumed = Trainer.resume(family, path)
    assert resumed.config == TINY
    assert resumed.done_iterations == trainer.done_iterations
    for _ in resumed.run():
        pass
    assert same(snapshot(resumed), reptile)


@pytest.mark.parametrize("yields", [0, 7, 8], ids=["excited", "before", "driven"])
def test_a_round_that_is_broken_off_leaves_the_run_as_it_was(
    family, reptile, tmp_path, yields, monkeypatch
):
    """A KeyboardInterrupt in the middle of a round, which a resumed run makes again."""
    path, trainer = tmp_path / "checkpoint.safetensors", advanced(Trainer(family, TINY), yields)
    step, seen = BatchSim.step, []

    def interrupted(sim, action):
        seen.append(bool(trainer.droppable))
        if len(seen) == 10:
            raise KeyboardInterrupt
        return step(sim, action)

    with monkeypatch.context() as patch:
        patch.setattr(BatchSim, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            advanced(trainer, WHOLE)
    assert seen == [True] * 10
    assert not trainer.droppable
    assert trainer.droppable.dropped
    trainer.save(path)
    resumed = advanced(Trainer.resume(family, path), WHOLE)
    assert same(snapshot(resumed), reptile)


def test_a_run_interrupted_again_and_again_ends_in_the_same_bits(family, config, whole, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(family, config).save(path)
    for _ in range(WHOLE // 2 + 2):
        trainer = advanced(Trainer.resume(family, path), 3)
        trainer.save(path)
    assert trainer.done_iterations == trainer.total_iterations
    assert same(snapshot(trainer), whole)


@pytest.mark.parametrize("learner", ["dynamics", "actor_critic"])
def test_validating_on_the_way_changes_no_bit_of_the_run(family, learner):
    config = dataclasses.replace(TINY, learner=learner)
    trainer, seen = Trainer(family, config), []
    for doing in trainer.run():
        if trainer.env_steps and not doing.endswith("experience"):
            seen.append(trainer.validate(tasks=2, steps=24))
    assert np.isfinite(seen).all()
    assert len(seen) == 17
    assert len(set(seen)) > 1
    assert trainer.validate(tasks=2, steps=24) == seen[-1]
    assert same(snapshot(trainer), trained(family, config)[0])


@pytest.mark.parametrize("algorithm", ["reptile", "fomaml", "maml", "joint"])
def test_learned_step_sizes_are_those_that_the_start_adapts_with(family, algorithm):
    config = dataclasses.replace(
        TINY, algorithm=algorithm, learn_lr=0.1, lr_scale={"w": 0.5, "b0": 0.0}
    )
    trainer = advanced(Trainer(family, config), WHOLE - 5)
    assert config.lr_scale.items() <= trainer.lr_scale.items()
    for _ in trainer.run():
        pass
    scale, lr = trainer.lr_scale, trainer.online().lr
    assert set(scale) == set(trainer.params)
    assert scale["b0"] == lr["b0"] == 0.0, "a frozen layer stays frozen"
    for name, before in {"w0": 0.5, "w1": 0.5, "b1": 1.0}.items():
        assert scale[name] > 0
        assert abs(scale[name] / before - 1) > 0.02, name
        assert float(lr[name]) == pytest.approx(config.adaptation.inner_lr * scale[name], rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.1])
@pytest.mark.parametrize("yields", [3, WHOLE - 3], ids=["fit", "meta"])
def test_target_networks_follow_by_tau_and_nothing_else_moves_them(family, tau, yields):
    config = dataclasses.replace(
        TINY, learner="actor_critic", actor_critic=ActorCriticConfig(hidden=(8,), tau=tau)
    )
    trainer = Trainer(family, config)
    runs = trainer.run()
    for _ in range(yields):
        next(runs)
    before = snapshot(trainer)
    next(runs)
    after = snapshot(trainer)
    targets = [name for name in before if name.startswith("target.")]
    assert {name.split(".")[1] for name in targets} == {"policy", "critic"}
    for name in targets:
        led = after[name.removeprefix("target.")]
        wanted = before[name] + tau * (led - before[name])
        np.testing.assert_allclose(after[name], wanted, rtol=1e-6, atol=1e-7)
    assert not np.array_equal(after["critic.w0"], before["critic.w0"])


@pytest.mark.parametrize("guided_rounds", [0, 1])
def test_a_round_tells_how_far_it_is(family, guided_rounds):
    config = dataclasses.replace(TINY, guided_rounds=guided_rounds)
    trainer, told = Trainer(family, config), []
    trainer.droppable.tell = lambda *done: told.append(done)
    list(trainer.run())
    once = [(t, config.round_steps) for t in range(1, config.round_steps + 1)]
    assert told == once * config.rounds


def test_runs_are_judged_on_other_starts_than_they_were_trained_on():
    gathered = {seed * 1000 + number for seed in range(2000) for number in range(20)}
    assert not gathered & {judging_seed(seed) for seed in range(2000)}


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


@pytest.mark.parametrize("changes", [{"priority": -0.1}, {"priority_correction": 1.1}])
def test_priorities_outside_their_ranges_are_refused(family, changes):
    with pytest.raises(ValueError, match="priority"):
        Trainer(family, dataclasses.replace(TINY, **changes))


@pytest.mark.parametrize("tasks", [0, 129])
def test_a_number_of_tasks_that_the_split_has_not_is_refused(family, tasks):
    with pytest.raises(ValueError, match=rf"tasks must be 1\.\.128 .* got {tasks}"):
        Trainer(family, dataclasses.replace(TINY, tasks=tasks))


def test_no_round_at_all_is_refused(family):
    with pytest.raises(ValueError, match="rounds must be 1 or more, got 0"):
        Trainer(family, dataclasses.replace(TINY, rounds=0))


def test_asking_for_a_start_before_there_is_one_is_refused(family):
    trainer = Trainer(family, TINY)
    for thing in ("params", "agent"):
        with pytest.raises(ValueError, match="nothing is trained yet"):
            getattr(trainer, thing)
