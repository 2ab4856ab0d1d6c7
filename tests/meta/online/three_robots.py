"""Three toy robots side by side, and what may be asked of their parameters."""

from __future__ import annotations

import numpy as np
import torch
from toy import SIGMA, ToySim

from reptile_agent.meta.collect import Rollout, excite
from reptile_agent.meta.learner import Params
from reptile_agent.meta.online import AdaptingLanes
from reptile_agent.probation import ProbationConfig
from reptile_agent.replay import Replay

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


def lane_of(params: Params, lane: int) -> Params:
    return {name: value[lane].clone() for name, value in params.items()}


def same(one: Params, two: Params) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def counts(lanes: AdaptingLanes) -> tuple[list[int], list[int], list[int]]:
    return lanes.accepted.tolist(), lanes.refused.tolist(), lanes.rolled_back.tolist()
