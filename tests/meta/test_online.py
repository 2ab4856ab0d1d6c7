"""reptile_agent.meta.online: lanes adapt side by side, and only what is good stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toy import SIGMA, Toy, ToySim

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import agent
from reptile_agent.meta.agent import Agent, AgentConfig
from reptile_agent.meta.collect import Rollout, drive, excite
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.meta.learner import Params
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig
from reptile_agent.meta.online import (
    GATE_SHARE,
    AdaptingLanes,
    OnlineAdaptation,
    minibatches,
    to_tensors,
)
from reptile_agent.probation import ProbationConfig
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch, Transition

LANES, STEPS = 3, 40
NOMINAL = (0.5, 0.5, 0.5)
WATCH = ProbationConfig(ticks=4, patience=2, baseline_ticks=3, cooldown_ticks=2)
GOOD, BAD = np.full(LANES, 0.1), np.full(LANES, 9.0)
NOBODY = np.zeros(LANES, bool)
NO_REWARD = np.full(LANES, np.nan)
"""A model learns from none, so that none is watched."""


def excited(robot, gain: tuple[float, ...], seed: int = 0) -> Rollout:
    return excite(ToySim(gain), robot, SIGMA, STEPS, 1.5, np.random.default_rng(seed))


def remembered(rollout: Rollout) -> Replay:
    replay = Replay(STEPS, 2, 2, LANES)
    rollout.transitions(replay)
    return replay


@pytest.fixture(scope="module")
def nominal(robot) -> Rollout:
    return excited(robot, NOMINAL)


@pytest.fixture(scope="module")
def make(robot, nominal):
    """An agent whose normalisers were measured on the nominal robot."""
    names = ("obs", "action", "next_obs", "reference", "reward")
    arrays = {name: getattr(nominal, name) for name in names}
    rows = {name: a.reshape(-1, *a.shape[2:]) for name, a in arrays.items()}
    normaliser = agent.measure(Toy(robot), rows)

    def make(learner: str = "dynamics") -> Agent:
        config = AgentConfig(
            learner=learner,
            model=DynamicsConfig((16,), 2, 2),
            model_policy=ModelPolicyConfig((16,), 2, 2, policy_hidden=(8,), model_steps=0),
            samples=8,
        )
        return agent.make(Toy(robot), config, normaliser)

    return make


@pytest.fixture(scope="module")
def learner(make):
    return make().learner


@pytest.fixture(scope="module")
def rehearsal(nominal) -> Batch:
    found = remembered(nominal).sample(np.random.default_rng(0), 1, 20, segment=2)
    return {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}


@pytest.fixture(scope="module")
def start(learner, rehearsal) -> Params:
    """Knows the nominal robot."""
    fresh = learner.init(torch.Generator().manual_seed(0))
    batch = to_tensors({n: np.broadcast_to(v, (150, *v.shape)) for n, v in rehearsal.items()})
    optimizer = InnerOptimizer(clip_norm=0)
    return inner_loop(learner, optimizer, fresh, {}, batch, step_sizes(fresh, 0.1))[0]


@pytest.fixture(scope="module")
def worn(robot) -> Replay:
    """What three robots did, each weaker than the one before."""
    return remembered(excited(robot, (0.35, 0.2, 0.05), seed=1))


@pytest.fixture
def online(start, rehearsal):
    """Adaptation whose gate lets through all that predicts better, if it is on."""

    def make(**changes) -> OnlineAdaptation:
        settings = {
            "inner_steps": 10,
            "batch": 16,
            "rehearsal": 0,
            "window": 30,
            "fast_tau": None,
            "holdout": 12,
            "period": 5,
            "max_distance": 1e6,
            "rehearsal_margin": 1e6,
        }
        gated = changes.pop("gated", False)
        config = AdaptationConfig(**(settings | changes))
        lr = step_sizes(start, config.inner_lr)
        return OnlineAdaptation(config, InnerOptimizer(), lr, rehearsal, gated, WATCH)

    return make


@pytest.fixture
def gated(learner, start, online):
    """Gated lanes that are ready to take new parameters."""

    def make(**changes) -> AdaptingLanes:
        rng = np.random.default_rng(5)
        lanes = AdaptingLanes(learner, start, LANES, online(gated=True, **changes), rng)
        for _ in range(WATCH.baseline_ticks):
            lanes.tick(GOOD, NO_REWARD, NOBODY)
        return lanes

    return make


def lane_of(params: Params, lane: int) -> Params:
    return {name: value[lane].clone() for name, value in params.items()}


def same(one: Params, two: Params) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def counts(lanes: AdaptingLanes) -> tuple[list[int], list[int], list[int]]:
    return lanes.accepted.tolist(), lanes.refused.tolist(), lanes.rolled_back.tolist()


def test_minibatches_hold_live_segments_then_rehearsed_ones(learner, worn, online):
    pool = {
        "obs": np.full((9, 2), 77.0, np.float32),
        "action": np.full((9, 2, 2), 77.0, np.float32),
        "next_obs": np.full((9, 2, 2), 77.0, np.float32),
        "weight": np.ones(9, np.float32),
    }
    config = online(batch=4, rehearsal=2, rehearsal_weight=0.25).config
    batches = minibatches(learner, worn, config, pool, np.random.default_rng(0))
    assert batches["obs"].shape == (LANES, 10, 6, 2)
    assert batches["action"].shape == batches["next_obs"].shape == (LANES, 10, 6, 2, 2)
    assert (batches["obs"][:, :, 4:] == 77).all()
    assert (batches["obs"][:, :, :4].abs() < 77).all()
    weight = batches["weight"]
    torch.testing.assert_close(weight.mean(-1), torch.ones(LANES, 10))
    torch.testing.assert_close(weight[..., 4:] / weight[..., :1], torch.full((LANES, 10, 2), 0.25))


def test_without_rehearsal_only_live_segments_are_drawn(learner, worn, online):
    config = online(batch=4).config
    batches = minibatches(learner, worn, config, {}, np.random.default_rng(0))
    assert batches["obs"].shape == (LANES, 10, 4, 2)
    torch.testing.assert_close(batches["weight"], torch.ones(LANES, 10, 4))


@pytest.mark.parametrize("origin", ["start", "last"])
def test_lanes_adapt_from_where_the_configuration_says(learner, start, worn, online, origin):
    adaptation = online(start=origin, rehearsal=2)
    lanes = AdaptingLanes(learner, start, LANES, adaptation, np.random.default_rng(5))
    lanes.live = before = {name: value + 0.1 for name, value in lanes.live.items()}
    lanes.adapt(worn)
    rng = np.random.default_rng(5)
    batches = minibatches(learner, worn, adaptation.config, adaptation.rehearsal, rng)
    for lane in range(LANES):
        origin_of = start if origin == "start" else lane_of(before, lane)
        own = lane_of(batches, lane)
        wanted, *_ = inner_loop(learner, adaptation.optimizer, origin_of, {}, own, adaptation.lr)
        for name in start:
            torch.testing.assert_close(lanes.live[name][lane], wanted[name], atol=1e-5, rtol=1e-4)
    assert counts(lanes) == ([1, 1, 1], [0, 0, 0], [0, 0, 0])


@pytest.mark.parametrize("gate", [False, True])
def test_lanes_are_pulled_back_to_the_projections_radius(learner, start, worn, online, gate):
    free = AdaptingLanes(learner, start, LANES, online(), np.random.default_rng(5))
    free.adapt(worn)
    away = torch.stack(
        [(free.live[name] - start[name]).square().flatten(1).sum(1) for name in start]
    )
    distance = away.sum(0).sqrt()
    radius = float(distance.sort().values[:2].mean())  # between the nearest and the others
    adaptation = online(projection_radius=radius, gated=gate)
    lanes = AdaptingLanes(learner, start, LANES, adaptation, np.random.default_rng(5))
    lanes.adapt(worn)
    found = lanes._offered if gate else lanes.live
    if gate:
        assert lanes.accepted.sum() == LANES
    for lane in range(LANES):
        if distance[lane] <= radius:
            assert same(lane_of(found, lane), lane_of(free.live, lane))
            continue
        for name in start:
            moved = (free.live[name][lane] - start[name]) * (radius / distance[lane])
            torch.testing.assert_close(found[name][lane], start[name] + moved)
    assert (distance > radius).tolist().count(True) in range(1, LANES)


def test_of_two_recencies_each_lane_takes_what_predicts_better(robot, learner, start, online):
    # The first two break in the middle, and a short memory learns more of how they are now.
    replay = Replay(2 * STEPS, 2, 2, LANES)
    for gains, seed in ((NOMINAL, 1), ((0.05, 0.1, 0.5), 2)):
        excited(robot, gains, seed).transitions(replay)
    adaptation = online(window=80, fast_tau=8.0, inner_steps=40)
    lanes = AdaptingLanes(learner, start, LANES, adaptation, np.random.default_rng(5))
    rng, config = np.random.default_rng(5), adaptation.config
    each = [minibatches(learner, replay, config, {}, rng, tau=tau) for tau in (50.0, 8.0)]
    held_out = to_tensors(replay.sample(rng, 1, 22, segment=2, window=11))
    lanes.adapt(replay)
    found = []
    for lane in range(LANES):
        candidates = [
            inner_loop(
                learner, adaptation.optimizer, start, {}, lane_of(batches, lane), adaptation.lr
            )[0]
            for batches in each
        ]
        judged = {name: value[lane, 0] for name, value in held_out.items()}
        errors = [float(learner.prediction_error(c, judged).mean()) for c in candidates]
        found.append(int(np.argmin(errors)))
        for name in start:
            taken = candidates[found[-1]][name]
            torch.testing.assert_close(lanes.live[name][lane], taken, atol=1e-5, rtol=1e-4)
    assert found == [1, 1, 0]


@pytest.mark.parametrize("gate", [False, True])
def test_nobody_adapts_before_all_have_seen_enough(learner, start, online, gate):
    lanes = AdaptingLanes(learner, start, LANES, online(gated=gate), np.random.default_rng(0))
    before = {name: value.clone() for name, value in lanes.live.items()}
    lanes.adapt(Replay(STEPS, 2, 2, LANES))
    broken, zeros = Replay(STEPS, 2, 2, LANES), np.zeros((LANES, 2), np.float32)
    for _ in range(STEPS):  # the first lane fell in every period: it has no whole segment
        fallen = np.array([True, False, False])
        broken.push(Transition(zeros, zeros, zeros, zeros[:, 0], fallen))
    lanes.adapt(broken)
    assert counts(lanes) == ([0, 0, 0],) * 3
    assert same(lanes.live, before)


def test_without_the_gate_all_that_is_learned_drives_and_stays(learner, start, worn, online):
    lanes = AdaptingLanes(learner, start, LANES, online(), np.random.default_rng(0))
    lanes.adapt(worn)
    learned = {name: value.clone() for name, value in lanes.live.items()}
    for _ in range(20):
        lanes.tick(BAD, NO_REWARD, ~NOBODY)
    assert same(lanes.live, learned)
    assert counts(lanes) == ([1, 1, 1], [0, 0, 0], [0, 0, 0])


@pytest.mark.parametrize("setting", ["max_distance", "rehearsal_margin", "margin"])
def test_the_gate_refuses_lane_by_lane(learner, start, worn, rehearsal, online, gated, setting):
    free = AdaptingLanes(learner, start, LANES, online(holdout=2), np.random.default_rng(5))
    free.adapt(worn)
    kept_back = int(GATE_SHARE * len(rehearsal["weight"]))
    judged = {name: value[:kept_back] for name, value in rehearsal.items()}
    held = worn.state()

    def error(params: Params, batch: Batch) -> float:
        return float(learner.prediction_error(params, to_tensors(batch)).mean())

    found: dict[str, list[float]] = {"max_distance": [], "rehearsal_margin": [], "margin": []}
    for lane in range(LANES):
        adapted = lane_of(free.live, lane)
        newest = {  # the only segment that two transitions hold
            "obs": held["obs"][lane, -2:-1],
            "action": held["action"][lane, None, -2:],
            "next_obs": held["next_obs"][lane, None, -2:],
        }
        away = torch.stack([(adapted[n] - start[n]).square().sum() for n in start]).sum().sqrt()
        found["max_distance"].append(float(away))
        found["rehearsal_margin"].append(error(adapted, judged) / error(start, judged) - 1)
        found["margin"].append(1 - error(adapted, newest) / error(start, newest))
    better = np.array(found["margin"]) > 0
    measured = np.array(found[setting])
    one, two = sorted(measured[better])[:2]
    limit = (one + two) / 2
    good = better & (measured > limit if setting == "margin" else measured <= limit)
    assert 0 < good.sum() < better.sum(), "the limit tells lanes apart"
    strict = gated(holdout=2, **{setting: limit})
    strict.adapt(worn)
    assert counts(strict) == (good.astype(int).tolist(), (~good).astype(int).tolist(), [0] * LANES)
    for lane in range(LANES):
        wanted = lane_of(free.live, lane) if good[lane] else start
        assert same(lane_of(strict.live, lane), wanted)


def test_what_is_offered_waits_until_it_can_be_judged(learner, start, worn, online):
    rng = np.random.default_rng(5)
    lanes = AdaptingLanes(learner, start, LANES, online(gated=True), rng)
    lanes.adapt(worn)
    assert counts(lanes)[0] == [1, 1, 1]
    drove = []
    for _ in range(WATCH.baseline_ticks + 1):
        drove.append(same(lane_of(lanes.live, 0), start))
        lanes.tick(GOOD, NO_REWARD, NOBODY)
    assert drove == [True] * WATCH.baseline_ticks + [False]


def test_probation_takes_back_the_lane_that_tracks_worse(start, worn, gated):
    lanes = gated()
    lanes.adapt(worn)
    adapted = {name: value.clone() for name, value in lanes.live.items()}
    for _ in range(WATCH.patience):
        assert same(lanes.live, adapted)
        lanes.tick(np.where(np.arange(LANES) == 1, BAD, GOOD), NO_REWARD, NOBODY)
    assert same(lane_of(lanes.live, 1), start)
    for lane in (0, 2):
        assert same(lane_of(lanes.live, lane), lane_of(adapted, lane))
    assert counts(lanes) == ([1, 1, 1], [0, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("falls", [False, True])
def test_what_passed_is_what_a_lane_goes_back_to(robot, start, worn, gated, falls):
    lanes = gated()
    lanes.adapt(worn)
    for _ in range(WATCH.ticks):
        lanes.tick(GOOD, NO_REWARD, NOBODY)
    passed = {name: value.clone() for name, value in lanes.live.items()}
    lanes.adapt(remembered(excited(robot, (0.9, 0.9, 0.9), seed=2)))
    assert counts(lanes) == ([2, 2, 2], [0, 0, 0], [0, 0, 0])
    newer = {name: value.clone() for name, value in lanes.live.items()}
    second = np.arange(LANES) == 1
    for _ in range(1 if falls else WATCH.patience):
        lanes.tick(GOOD if falls else np.where(second, BAD, GOOD), NO_REWARD, falls & second)
    assert same(lane_of(lanes.live, 1), lane_of(passed, 1))
    assert not same(lane_of(lanes.live, 1), start)
    assert same(lane_of(lanes.live, 0), lane_of(newer, 0))
    assert counts(lanes)[2] == [0, 1, 0]


def test_a_lane_that_falls_with_what_has_passed_keeps_it(worn, gated):
    lanes = gated()
    lanes.adapt(worn)
    for _ in range(WATCH.ticks):
        lanes.tick(GOOD, NO_REWARD, NOBODY)
    passed = {name: value.clone() for name, value in lanes.live.items()}
    lanes.tick(GOOD, NO_REWARD, ~NOBODY)
    assert same(lanes.live, passed)
    assert counts(lanes)[2] == [0, 0, 0]


def test_a_policy_that_its_step_size_ruins_is_found_out(robot, make, nominal):
    """Its model predicts better: only what it would do tells, or else the robot, on probation."""
    driving = make("model_policy")
    start = driving.learner.init(torch.Generator().manual_seed(0))
    replay = Replay(STEPS, 3, 2, LANES)
    nominal.transitions(replay, sees_reference=True)
    found = replay.sample(np.random.default_rng(0), 1, 20, segment=2)
    rehearsal = {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}
    config = AdaptationConfig(
        inner_steps=3,
        batch=16,
        rehearsal=4,
        window=30,
        fast_tau=None,
        holdout=4,
        period=5,
        max_distance=1e6,
        rehearsal_margin=1e6,
        plans=0,
    )
    lr = step_sizes(start, 0.1, {"policy.": 1000.0})
    strict = dataclasses.replace(WATCH, ticks=10, margin=0.1, cooldown_ticks=10)
    ruinous = OnlineAdaptation(config, InnerOptimizer(), lr, rehearsal, False, strict)

    def error(adaptation: OnlineAdaptation | None) -> tuple[Rollout, float]:
        rng = np.random.default_rng(0)
        rollout = drive(ToySim(NOMINAL), driving, start, 60, rng, adaptation=adaptation)
        return rollout, float(rollout.tracking_error[:, 25:].mean())

    _, left_alone = error(None)
    free, ruined = error(ruinous)
    watched, held = error(dataclasses.replace(ruinous, gated=True))
    assert ruined > 1.2 * left_alone
    assert held < (left_alone + ruined) / 2
    assert (free.rolled_back == 0).all()
    assert (watched.accepted > 0).all()
    assert (watched.rolled_back > 0).all()
    asking = dataclasses.replace(ruinous, gated=True, config=config.model_copy(update={"plans": 4}))
    judged, spared = error(asking)
    assert judged.accepted.sum() < watched.accepted.sum()
    assert spared < (left_alone + ruined) / 2
