"""reptile_agent.meta.collect: what rounds of experience record, and how lanes adapt in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import collect
from reptile_agent.meta.collect import OnlineAdaptation, adapt_lanes, drive, excite, mixed_batches
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.meta.learner import stack
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.planner import Planner, PlannerConfig
from reptile_agent.replay import Replay
from reptile_agent.transition import Transition

LANES, STEPS = 3, 30
SIGMA = (0.2, 1.0)


class ToySim:
    """Lift goes 30 % of the way to its command, wheel turns by its effort; implements VecSim."""

    def __init__(self, gain=(0.3, 0.2, 0.1), falls_at=np.inf) -> None:
        self.num_envs, self.gain = LANES, np.array(gain, np.float32)
        self.falls_at = falls_at
        self.reset(seed=0)

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        if lanes is None:
            self.t, self.actions = 0, []
            self.obs = np.zeros((LANES, 2), np.float32)
        else:
            self.obs = np.where(lanes[:, None], np.float32(0), self.obs)
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        time = self.t + 1 + np.arange(horizon)
        return np.tile(np.float32(0.8 * np.sin(0.3 * time))[None, :, None], (LANES, 1, 1))

    def step(self, action: np.ndarray):
        self.actions.append(action.copy())
        lift = self.obs[:, 0] + self.gain * (action[:, 0] - self.obs[:, 0])
        self.obs = np.stack([lift, self.obs[:, 1] + 0.1 * action[:, 1]], axis=1)
        self.t += 1
        no, fell = np.zeros(LANES, bool), np.abs(self.obs[:, 1]) > self.falls_at
        return self.obs, -np.arange(LANES, dtype=np.float32), fell, no


@pytest.fixture
def sim() -> ToySim:
    return ToySim()


@pytest.fixture
def round_zero(sim, robot):
    return excite(sim, robot, SIGMA, STEPS, 1.5, np.random.default_rng(0))


@pytest.fixture
def planner(robot, round_zero) -> Planner:
    flat = [getattr(round_zero, n).reshape(-1, 2) for n in ("obs", "action", "next_obs")]
    learner = DynamicsLearner(robot, DynamicsConfig((8,), 2, 2), Normaliser.fit(robot, *flat))

    def reward(obs, action, after, reference):
        return -(after[..., 0] - reference[..., 0]).square()

    return Planner(learner, PlannerConfig(horizon=4, noise=SIGMA, samples=8), reward)


@pytest.fixture
def params(planner):
    return planner.learner.init(torch.Generator().manual_seed(0))


@pytest.fixture
def online(round_zero):
    def make(**changes) -> OnlineAdaptation:
        settings = {
            "inner_steps": 3,
            "batch": 4,
            "rehearsal": 2,
            "window": 20,
            "holdout": 2,
            "period": 5,
        }
        rehearsal = {
            "obs": np.full((9, 2), 77.0, np.float32),
            "action": np.full((9, 2, 2), 77.0, np.float32),
            "next_obs": np.full((9, 2, 2), 77.0, np.float32),
            "weight": np.ones(9, np.float32),
        }
        config = AdaptationConfig(**(settings | changes))
        return OnlineAdaptation(config, InnerOptimizer(), {}, rehearsal)

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


def test_nobody_adapts_while_a_lane_has_no_whole_segment(planner, params, online):
    replay = Replay(STEPS, 2, 2, LANES)
    fallen = np.array([True, False, False])
    for _ in range(STEPS):
        zeros = np.zeros((LANES, 2), np.float32)
        replay.push(Transition(zeros, zeros, zeros, zeros[:, 0], fallen))
    rng = np.random.default_rng(0)
    assert adapt_lanes(planner, params, stack(params, LANES), replay, online(), rng) is None


def test_a_planner_that_drives_repeats_itself_by_its_seed(sim, planner, params):
    runs = []
    for seed in (1, 1, 2):
        sim.reset(0)
        runs.append(drive(sim, planner, params, 8, np.random.default_rng(seed), explore=0.5))
    np.testing.assert_array_equal(runs[0].action, runs[1].action)
    assert not np.array_equal(runs[0].action, runs[2].action)


def test_minibatches_hold_live_segments_then_rehearsed_ones(round_zero, online):
    replay = Replay(STEPS, 2, 2, LANES)
    round_zero.transitions(replay)
    batches = mixed_batches(replay, online(), 2, np.random.default_rng(0))
    assert batches["obs"].shape == (LANES, 3, 6, 2)
    assert batches["action"].shape == batches["next_obs"].shape == (LANES, 3, 6, 2, 2)
    assert (batches["obs"][:, :, 4:] == 77).all()
    assert (batches["obs"][:, :, :4].abs() < 77).all()


def test_weights_average_to_one_and_rehearsed_ones_weigh_their_share(round_zero, online):
    replay = Replay(STEPS, 2, 2, LANES)
    round_zero.transitions(replay)
    adaptation = online(rehearsal_weight=0.25)
    weight = mixed_batches(replay, adaptation, 2, np.random.default_rng(0))["weight"]
    torch.testing.assert_close(weight.mean(-1), torch.ones(LANES, 3))
    torch.testing.assert_close(weight[..., 4:] / weight[..., :1], torch.full((LANES, 3, 2), 0.25))


def test_without_rehearsal_only_live_segments_are_drawn(round_zero, online):
    replay = Replay(STEPS, 2, 2, LANES)
    round_zero.transitions(replay)
    batches = mixed_batches(replay, online(rehearsal=0), 2, np.random.default_rng(0))
    assert batches["obs"].shape == (LANES, 3, 4, 2)
    torch.testing.assert_close(batches["weight"], torch.ones(LANES, 3, 4))


@pytest.mark.parametrize("origin", ["start", "last"])
def test_lanes_adapt_from_where_the_configuration_says(round_zero, online, planner, params, origin):
    replay = Replay(STEPS, 2, 2, LANES)
    round_zero.transitions(replay)
    adaptation = online(start=origin)
    live = {n: v + 0.1 for n, v in stack(params, LANES).items()}
    adapted = adapt_lanes(planner, params, live, replay, adaptation, np.random.default_rng(5))
    batches = mixed_batches(replay, adaptation, 2, np.random.default_rng(5))
    lr = step_sizes(params, adaptation.config.inner_lr)
    for lane in range(LANES):
        start = params if origin == "start" else {n: v[lane] for n, v in live.items()}
        own = {n: v[lane] for n, v in batches.items()}
        wanted, *_ = inner_loop(planner.learner, adaptation.optimizer, start, {}, own, lr)
        for name in params:
            torch.testing.assert_close(adapted[name][lane], wanted[name], atol=1e-5, rtol=1e-4)


def test_lanes_wait_until_they_have_seen_enough(round_zero, online, planner, params):
    replay = Replay(STEPS, 2, 2, LANES)
    live = stack(params, LANES)
    assert adapt_lanes(planner, params, live, replay, online(), np.random.default_rng(0)) is None


def test_driving_adapts_every_period_and_not_before_it_may(
    sim, online, planner, params, monkeypatch
):
    seen = []
    adapt = collect.adapt_lanes

    def counting(*arguments):
        seen.append(len(arguments[3]))
        return adapt(*arguments)

    monkeypatch.setattr(collect, "adapt_lanes", counting)
    drive(sim, planner, params, 26, np.random.default_rng(0), adaptation=online(), adapt_from=12)
    assert seen == [15, 20, 25]


def test_adapting_changes_what_the_planner_does(sim, online, planner, params):
    sim.reset(0)
    plain = drive(sim, planner, params, 26, np.random.default_rng(0))
    sim.reset(0)
    generator = np.random.default_rng(0)
    adapting = drive(sim, planner, params, 26, generator, adaptation=online())
    np.testing.assert_array_equal(plain.action[:, :5], adapting.action[:, :5])
    assert not np.array_equal(plain.action, adapting.action)
