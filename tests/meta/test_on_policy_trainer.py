"""reptile_agent.meta.on_policy_trainer and on_policy_evaluate: tiny runs of every algorithm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from targets import Targets, TargetSim

from reptile_agent.meta.checkpoint import CheckpointError
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.learners.policy_gradient import PolicyConfig
from reptile_agent.meta.on_policy import Sampling
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.on_policy_evaluate import evaluate_on_policy
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer
from sim.families.point_nav import PointNav

ALGORITHMS = ["promp", "maml", "fomaml", "reptile", "rl2", "joint", "oracle", "scratch"]
LEARNS_LR = ["promp", "maml", "fomaml", "reptile"]
TINY = OnPolicyConfig(
    iterations=4,
    meta_batch=3,
    episodes=2,
    inner_steps=1,
    outer_steps=2,
    sampling=Sampling(episode_steps=5),
    policy=PolicyConfig(hidden=(6,)),
)


def trained(config: OnPolicyConfig, family=None, log=lambda *_: None) -> OnPolicyTrainer:
    trainer = OnPolicyTrainer(family or Targets(), config, log)
    for _ in trainer.run():
        pass
    return trainer


def same(one: OnPolicyTrainer, two: OnPolicyTrainer) -> bool:
    return all(torch.equal(value, two.params[name]) for name, value in one.params.items())


@pytest.fixture(
    params=[
        *({"algorithm": name} for name in ALGORITHMS),
        *({"algorithm": name, "learn_lr": 0.1} for name in LEARNS_LR),
        {"algorithm": "reptile", "outer": "sgd", "epsilon": 0.3},
    ],
    ids=lambda changes: ", ".join(map(str, changes.values())),
)
def config(request) -> OnPolicyConfig:
    return dataclasses.replace(TINY, **request.param)


def test_a_run_is_as_long_as_announced_finite_and_logged(config):
    logged = []
    trainer = OnPolicyTrainer(Targets(), config, lambda *row: logged.append(row))
    seen = [trainer.done_iterations for _ in trainer.run()]
    assert seen == list(range(1, trainer.total_iterations + 1))
    assert trainer.total_iterations == (1 if config.algorithm == "scratch" else 5)
    assert all(value.isfinite().all() for value in trainer.params.values())
    steps = [step for name, _, step in logged if name == "return/0"]
    assert steps == list(range(1, trainer.total_iterations))
    assert all(np.isfinite(value) for _, value, _ in logged)


def test_the_same_seed_gives_the_same_start_to_the_bit(config):
    one = trained(config)
    torch.manual_seed(99)
    assert same(one, trained(config))
    assert not same(one, trained(dataclasses.replace(config, seed=1)))


@pytest.mark.parametrize("yields", [0, 1, 3])
def test_an_interrupted_run_goes_on_to_the_same_bits(config, tmp_path, yields):
    path = tmp_path / "checkpoint.safetensors"
    trainer = OnPolicyTrainer(Targets(), config)
    for _, _ in zip(range(yields), trainer.run()):
        pass
    trainer.save(path)
    resumed = OnPolicyTrainer.resume(Targets(), path)
    assert resumed.config == config
    assert resumed.done_iterations == trainer.done_iterations
    for _ in resumed.run():
        pass
    whole = trained(config)
    assert same(resumed, whole)
    np.testing.assert_array_equal(resumed.state.eta, whole.state.eta)


def test_episodes_that_are_broken_off_leave_the_run_as_it_was(config, tmp_path, monkeypatch):
    if config.algorithm == "scratch":
        return  # it gathers nothing but what it measures
    path, trainer = tmp_path / "checkpoint.safetensors", OnPolicyTrainer(Targets(), config)
    for _, _ in zip(range(2), trainer.run()):
        pass
    step, seen = TargetSim.step, []

    def interrupted(sim, action):
        seen.append(bool(trainer.droppable))
        if len(seen) == 7:
            raise KeyboardInterrupt
        return step(sim, action)

    with monkeypatch.context() as patch:
        patch.setattr(TargetSim, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(trainer.run())
    assert seen == [True] * 7
    assert trainer.droppable.dropped
    trainer.save(path)
    resumed = OnPolicyTrainer.resume(Targets(), path)
    for _ in resumed.run():
        pass
    assert same(resumed, trained(config))


@pytest.mark.parametrize("algorithm", LEARNS_LR)
def test_step_sizes_are_learned_saved_and_taken_in_evaluation(algorithm, tmp_path):
    config = dataclasses.replace(TINY, algorithm=algorithm, learn_lr=0.5, iterations=8)
    trainer, path = trained(config), tmp_path / "checkpoint.safetensors"
    learned = {name: float(value) for name, value in trainer.lr.items()}
    assert all(value > 0 for value in learned.values())
    assert len({round(value / config.inner_lr, 2) for value in learned.values()}) > 2
    trainer.save(path)
    resumed = OnPolicyTrainer.resume(Targets(), path)
    assert {name: float(value) for name, value in resumed.lr.items()} == learned

    def adapted_return() -> float:
        tasks = Targets().splits()["validation"]
        (found,) = evaluate_on_policy(resumed, tasks, [2], 8)
        return float(found.episode_return.mean())

    theirs = adapted_return()
    resumed.state.log_lr = None  # as if they were those of the configuration again
    assert adapted_return() != theirs


def test_reptile_with_sgd_is_the_papers_update():
    """params + epsilon * mean(adapted - params), where nothing is clipped."""
    usual = dataclasses.replace(
        TINY, algorithm="reptile", outer="sgd", epsilon=0.25, outer_clip_norm=1e9, iterations=1
    )
    whole, half = trained(usual), trained(dataclasses.replace(usual, epsilon=0.125))
    start = trained(dataclasses.replace(usual, algorithm="scratch"))
    for name, value in start.params.items():
        moved, less = whole.params[name] - value, half.params[name] - value
        torch.testing.assert_close(moved, 2 * less, atol=1e-6, rtol=1e-4)
    assert any((whole.params[name] != value).any() for name, value in start.params.items())


@pytest.mark.parametrize(("algorithm", "learn_lr"), [("joint", 0.1), ("rl2", 0.1), ("maml", -0.1)])
def test_step_sizes_that_cannot_be_learned_are_refused(algorithm, learn_lr):
    config = dataclasses.replace(TINY, algorithm=algorithm, learn_lr=learn_lr)
    with pytest.raises(ValueError, match=f"learn_lr must be .*got {learn_lr}"):
        OnPolicyTrainer(Targets(), config)


def test_on_a_simulated_robot_too_it_goes_on_to_the_same_bits(tmp_path):
    """A simulator that ran before and was told new tasks does what a new one does."""
    family, path = PointNav(), tmp_path / "checkpoint.safetensors"
    trainer = OnPolicyTrainer(family, TINY)
    for _ in trainer.run():
        if trainer.done_iterations == 3:
            trainer.save(path)
    resumed = OnPolicyTrainer.resume(family, path)
    for _ in resumed.run():
        pass
    assert same(resumed, trainer)


def test_all_algorithms_take_the_same_number_of_simulated_steps():
    def steps(algorithm: str) -> int:
        family = Targets()
        config = dataclasses.replace(TINY, algorithm=algorithm, meta_batch=8)
        trainer = trained(config, family)
        counted = sum(sim.steps_taken for sim in family.sims)
        assert trainer.env_steps == counted
        return counted

    taken = {algorithm: steps(algorithm) for algorithm in ALGORITHMS if algorithm != "scratch"}
    assert set(taken.values()) == {8 * 2 * 5 * (1 + 4 * 2)}, taken


LEARNS = OnPolicyConfig(
    iterations=20,
    meta_batch=8,
    episodes=8,
    inner_lr=0.3,
    inner=InnerOptimizer(clip_norm=0.0),
    outer_steps=2,
    epsilon=0.02,
    sampling=Sampling(episode_steps=5, discount=0.5),
    policy=PolicyConfig(hidden=(16,)),
)


@pytest.mark.parametrize("algorithm", ["promp", "maml", "fomaml", "reptile"])
def test_it_learns_to_learn(algorithm):
    """The best that one policy can do on both targets is -0.64 a step, -3.2 in all."""
    trainer = trained(dataclasses.replace(LEARNS, algorithm=algorithm))
    tasks = trainer.family.splits()["validation"]
    before, after = (
        found.episode_return for found in evaluate_on_policy(trainer, tasks, [0, 1], 32)
    )
    assert before.mean() < -3.0
    assert after.mean() > -2.4


def test_a_recurrent_policy_finds_out_within_a_trial():
    config = dataclasses.replace(LEARNS, algorithm="rl2", iterations=40, outer_steps=3)
    trainer = trained(config)
    tasks = trainer.family.splits()["validation"]
    _, second = evaluate_on_policy(trainer, tasks, [0, 1], 1)
    assert second.episode_return.mean() > -1.6


def test_an_oracle_is_good_from_the_start_and_joint_training_is_not():
    config = dataclasses.replace(LEARNS, split="validation", meta_batch=2)
    results = {}
    for algorithm in ("oracle", "joint", "scratch"):
        trainer = trained(dataclasses.replace(config, algorithm=algorithm))
        (found,) = evaluate_on_policy(trainer, trainer.tasks, [0], 32)
        results[algorithm] = found.episode_return.mean()
    assert results["oracle"] > -1.0
    assert results["joint"] < -2.8
    assert results["scratch"] < -2.8


@pytest.mark.parametrize("algorithm", ["maml", "rl2"])
def test_evaluation_counts_the_seconds_of_data(algorithm):
    family = Targets()
    trainer = trained(dataclasses.replace(TINY, algorithm=algorithm), family)
    tasks = [{"target": 0.5}, {"target": 0.5, "lasts": 2}]
    family.sims.clear()
    found = evaluate_on_policy(trainer, tasks, [0, 2], 3)
    assert [(one.method, one.k) for one in found] == [(algorithm, 0), (algorithm, 2)]
    # Three episodes of 5 steps, or 2, of 0.5 s, for each inner step.
    np.testing.assert_allclose(found[0].seconds_of_data, [0.0, 0.0])
    np.testing.assert_allclose(found[1].seconds_of_data, [15.0, 6.0])
    assert sum(sim.steps_taken for sim in family.sims) == 2 * 3 * 3 * 5


def test_validation_is_evaluation_and_leaves_the_run_alone(config):
    config = dataclasses.replace(config, split="validation", meta_batch=2)
    trainer = OnPolicyTrainer(Targets(), config)
    for _ in trainer.run():
        cost = trainer.validate()
    assert same(trainer, trained(config))
    (found,) = evaluate_on_policy(trainer, trainer.tasks, [1], 2)
    assert cost == pytest.approx(-found.episode_return.mean() / 5)


def test_an_oracle_is_judged_on_no_other_tasks():
    trainer = trained(dataclasses.replace(TINY, algorithm="oracle"))
    with pytest.raises(ValueError, match="trained on the split 'train'"):
        evaluate_on_policy(trainer, [{"target": 0.5}], [0], 1)


def test_a_loss_that_is_no_number_stops_the_run_with_its_batch():
    class Broken(TargetSim):
        def step(self, action):
            obs, reward, terminated, truncated = super().step(action)
            bad = np.nan if self.broken else 0.0
            return obs, reward + np.float32(bad), terminated, truncated

    class BrokenTargets(Targets):
        def make_sim(self, tasks):
            Broken.broken = False
            return Broken(tasks)

    trainer = OnPolicyTrainer(BrokenTargets(), TINY)
    run = trainer.run()
    next(run)
    next(run)
    Broken.broken = True
    with pytest.raises(LossNotFinite, match="at iteration 2 is not finite") as caught:
        next(run)
    batch = caught.value.batch
    assert np.isnan(batch["0.advantage"]).any()
    assert batch["0.obs"].shape == (3, 2, 5, 1)
    assert np.isfinite(batch["params.policy.w0"]).all()


def test_other_families_checkpoints_are_refused(tmp_path):
    class Others(Targets):
        name = "others"

    OnPolicyTrainer(Targets(), TINY).save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="is a run of family 'targets', not of 'others'"):
        OnPolicyTrainer.resume(Others(), tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta_batch": 9}, r"meta_batch must be 1\.\.8"),
        ({"inner_steps": 0}, "promp needs inner_steps of 1 or more"),
        ({"split": "infeasible"}, r"no tasks in a split 'infeasible' \(has: train, validation\)"),
        ({"sampling": Sampling(episode_steps=11)}, r"episode_steps must be 1\.\.10"),
        ({"algorithm": "rl2", "trial_episodes": 3}, r"= 4 must be a multiple of trial_episodes"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        OnPolicyTrainer(Targets(), dataclasses.replace(TINY, **changes))


def test_asking_for_a_start_before_there_is_one_is_refused():
    trainer = OnPolicyTrainer(Targets(), TINY)
    for thing in ("params", "learner"):
        with pytest.raises(ValueError, match="nothing is trained yet"):
            getattr(trainer, thing)
