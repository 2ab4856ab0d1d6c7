"""reptile_agent.meta.collect: what rounds of experience record, and how lanes adapt in them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toy import SIGMA, Toy, ToySim

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import agent
from reptile_agent.meta.agent import Agent, AgentConfig
from reptile_agent.meta.collect import drive, excite
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes
from reptile_agent.meta.learner import stack
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.online import AdaptingLanes, OnlineAdaptation
from reptile_agent.replay import Replay

LANES, STEPS = 3, 30


@pytest.fixture
def sim() -> ToySim:
    return ToySim()


@pytest.fixture
def round_zero(sim, robot):
    return excite(sim, robot, SIGMA, STEPS, 1.5, np.random.default_rng(0))


@pytest.fixture
def make(robot, round_zero):
    """An agent of the toy family."""
    normaliser = agent.measure(Toy(robot), round_zero.flat())

    def make(learner: str = "dynamics") -> Agent:
        config = AgentConfig(
            learner=learner,
            model=DynamicsConfig((8,), 2, 2),
            actor_critic=ActorCriticConfig(hidden=(8,)),
            samples=8,
        )
        return agent.make(Toy(robot), config, normaliser)

    return make


@pytest.fixture
def driving(make) -> Agent:
    return make()


@pytest.fixture
def params(driving):
    return driving.learner.init(torch.Generator().manual_seed(0))


@pytest.fixture
def online(params):
    """Adaptation that begins with the first few transitions, without rehearsal."""

    def make(inner_lr: float = 0.1) -> OnlineAdaptation:
        config = AdaptationConfig(
            inner_steps=3, batch=4, rehearsal=0, window=20, holdout=2, period=5, inner_lr=inner_lr
        )
        nothing = {"weight": np.ones(0, np.float32)}
        lr = step_sizes(params, inner_lr)
        return OnlineAdaptation(config, InnerOptimizer(), lr, nothing)

    return make


def test_a_round_records_what_was_sent_and_what_came_of_it(sim, round_zero):
    assert round_zero.obs.shape == (LANES, STEPS, 2)
    np.testing.assert_array_equal(round_zero.action, np.stack(sim.actions, axis=1))
    np.testing.assert_array_equal(round_zero.obs[:, 1:], round_zero.next_obs[:, :-1])
    np.testing.assert_array_equal(round_zero.reward, -np.arange(LANES)[:, None].repeat(STEPS, 1))
    aim = 0.8 * np.sin(0.3 * (1 + np.arange(STEPS)))
    wanted = np.abs(round_zero.next_obs[..., 0] - aim)
    np.testing.assert_allclose(round_zero.tracking_error, wanted, atol=1e-6)


def test_excitation_is_as_strong_as_asked_and_keeps_to_the_limits(sim, robot):
    rollout = excite(sim, robot, (0.1, 1.0), 400, 0.5, np.random.default_rng(0))
    aim = 0.8 * np.sin(0.3 * (1 + np.arange(400)))
    off = rollout.action[:, 50:, 0] - aim[50:]
    assert off.std() == pytest.approx(0.05, rel=0.15)
    assert rollout.action[:, 50:, 1].std() == pytest.approx(0.5, rel=0.15)
    wild = excite(sim, robot, SIGMA, 50, 20.0, np.random.default_rng(0)).action
    np.testing.assert_allclose([wild.min((0, 1)), wild.max((0, 1))], [[-1, -3], [1, 3]])


def test_without_noise_the_command_is_the_reference(sim, robot):
    rollout = excite(sim, robot, SIGMA, 10, 0.0, np.random.default_rng(0))
    aim = np.float32(0.8 * np.sin(0.3 * (1 + np.arange(10))))
    np.testing.assert_allclose(rollout.action[0, :, 0], aim)
    np.testing.assert_array_equal(rollout.action[..., 1], 0.0)


def test_rounds_do_not_run_into_each_other_in_the_replay(round_zero):
    replay = Replay(2 * STEPS, 2, 2, LANES)
    round_zero.transitions(replay)
    round_zero.transitions(replay)
    first = replay.state()["first"]
    np.testing.assert_array_equal(np.flatnonzero(first[0]), [0, STEPS])
    assert (first == first[0]).all()


def test_a_lane_that_fell_starts_anew_and_the_others_go_on(robot):
    rollout = excite(ToySim(falls_at=0.5), robot, SIGMA, 200, 1.5, np.random.default_rng(0))
    fell = np.abs(rollout.next_obs[..., 1]) > 0.5
    assert 0 < fell.sum() < 100
    assert rollout.first[:, 0].all()
    np.testing.assert_array_equal(rollout.first[:, 1:], fell[:, :-1])
    same = np.where(fell[:, :-1, None], np.float32(0), rollout.next_obs[:, :-1])
    np.testing.assert_array_equal(rollout.obs[:, 1:], same)
    replay = Replay(200, 2, 2, LANES)
    rollout.transitions(replay)
    batch = replay.sample(np.random.default_rng(0), 5, 40, segment=3)
    unbroken = batch["next_obs"][..., :-1, 1] + 0.1 * batch["action"][..., 1:, 1]
    np.testing.assert_allclose(batch["next_obs"][..., 1:, 1], unbroken, atol=1e-6)


@pytest.mark.parametrize("sees_reference", [False, True])
def test_a_learner_that_sees_references_finds_them_behind_the_measurements(
    round_zero, sees_reference
):
    replay = Replay(STEPS, 3 if sees_reference else 2, 2, LANES)
    round_zero.transitions(replay, sees_reference)
    found = replay.state()
    aim = np.float32(0.8 * np.sin(0.3 * (1 + np.arange(STEPS + 1))))
    for name, moment in (("obs", aim[:-1]), ("next_obs", aim[1:])):
        np.testing.assert_array_equal(found[name][..., :2], getattr(round_zero, name))
        if sees_reference:
            np.testing.assert_allclose(found[name][..., 2], np.tile(moment, (LANES, 1)), atol=1e-6)


def test_an_agent_that_drives_repeats_itself_by_its_seed(sim, driving, params):
    runs = []
    for seed in (1, 1, 2):
        sim.reset(0)
        runs.append(drive(sim, driving, params, 8, np.random.default_rng(seed), explore=0.5))
    np.testing.assert_array_equal(runs[0].action, runs[1].action)
    assert not np.array_equal(runs[0].action, runs[2].action)
    assert runs[0].accepted is None


def test_driving_adapts_every_period_and_not_before_it_may(
    sim, online, driving, params, monkeypatch
):
    seen, adapt = [], AdaptingLanes.adapt

    def counting(lanes: AdaptingLanes, replay: Replay) -> None:
        seen.append(len(replay))
        adapt(lanes, replay)

    monkeypatch.setattr(AdaptingLanes, "adapt", counting)
    rng = np.random.default_rng(0)
    rollout = drive(sim, driving, params, 26, rng, adaptation=online(), adapt_from=12)
    assert seen == [15, 20, 25]
    np.testing.assert_array_equal(rollout.accepted, [3] * LANES)
    np.testing.assert_array_equal(rollout.refused, [0] * LANES)
    np.testing.assert_array_equal(rollout.rolled_back, [0] * LANES)


@pytest.mark.parametrize("learner", ["dynamics", "actor_critic"])
def test_adapting_changes_what_the_robot_does_but_not_the_noise(sim, online, make, learner):
    driving = make(learner)
    params = driving.learner.init(torch.Generator().manual_seed(0))

    def actions(lr: float | None) -> np.ndarray:
        sim.reset(0)
        adaptation = None
        if lr is not None:
            sizes = step_sizes(params, lr)
            adaptation = dataclasses.replace(online(), lr=sizes)
        rng = np.random.default_rng(0)
        return drive(sim, driving, params, 26, rng, explore=0.5, adaptation=adaptation).action

    plain, standing, adapting = actions(None), actions(0.0), actions(0.1)
    np.testing.assert_allclose(standing, plain, atol=1e-4)
    np.testing.assert_allclose(adapting[:, :10], plain[:, :10], atol=1e-4)
    assert np.abs(adapting[:, 10:] - plain[:, 10:]).max() > 1e-2


def test_every_lane_may_have_a_start_of_its_own(sim, driving, params):
    def driven(start, **settings) -> np.ndarray:
        sim.reset(0)
        return drive(sim, driving, start, 8, np.random.default_rng(0), **settings).action

    other = driving.learner.init(torch.Generator().manual_seed(1))
    starts = {name: value.clone() for name, value in stack(params, LANES).items()}
    for name, value in other.items():
        starts[name][1] = 5 * value
    both = driven(starts, stacked=True)
    one, two = driven(params), driven({name: 5 * value for name, value in other.items()})
    np.testing.assert_allclose(both[[0, 2]], one[[0, 2]], atol=1e-4)
    np.testing.assert_allclose(both[1], two[1], atol=1e-4)
    assert np.abs(one[1] - two[1]).max() > 1e-2


def test_faults_come_in_their_period_and_stay(sim, driving, params):
    stuck = [{"gain": 0.0}, {"gain": 0.2}, {"gain": 0.0}]
    rng = np.random.default_rng(0)
    rollout = drive(sim, driving, params, 12, rng, explore=0.5, faults={7: stuck})
    moved = rollout.next_obs[..., 0] != rollout.obs[..., 0]
    assert moved[:, :7].all()
    np.testing.assert_array_equal(moved[:, 7:], np.array([[False], [True], [False]]).repeat(5, 1))
