"""reptile_agent.meta.online: gate and probation, and only what is good stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from three_robots import (
    BAD,
    GOOD,
    LANES,
    NO_REWARD,
    NOBODY,
    NOMINAL,
    STEPS,
    WATCH,
    counts,
    excited,
    lane_of,
    remembered,
    same,
)
from toy import ToySim

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.collect import Rollout, drive
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes
from reptile_agent.meta.learner import Params
from reptile_agent.meta.online import (
    GATE_SHARE,
    AdaptingLanes,
    OnlineAdaptation,
    to_tensors,
)
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch


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
