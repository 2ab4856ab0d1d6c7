"""reptile_agent.meta.online: lanes adapt side by side, each from its own last transitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from three_robots import (
    BAD,
    LANES,
    NO_REWARD,
    NOBODY,
    NOMINAL,
    STEPS,
    counts,
    excited,
    lane_of,
    same,
)

from reptile_agent.meta.inner_loop import inner_loop
from reptile_agent.meta.online import (
    AdaptingLanes,
    minibatches,
    to_tensors,
)
from reptile_agent.replay import Replay
from reptile_agent.transition import Transition


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
