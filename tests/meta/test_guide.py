"""reptile_agent.meta.guide: rounds that the simulator itself plans."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from toy import SIGMA, Foreseeing, ForeseeingToy, Toy, ToySim

from reptile_agent.meta.collect import excite
from reptile_agent.meta.guide import PLANS, guide
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer

STEPS = 30
TINY = TrainConfig(
    tasks=4,
    round_steps=12,
    fit_iterations=1,
    fit_batch=8,
    iterations=1,
    meta_batch=2,
    query_window=4,
    train_inner_steps=1,
    model=DynamicsConfig(hidden=(8,), members=1, segment=2),
    samples=4,
)


def error(rollout) -> float:
    return float(np.abs(rollout.next_obs[:, 5:, 0] - rollout.reference[:, 5:, 0]).mean())


def test_what_the_simulator_plans_follows_better_than_noise(robot):
    planned = guide(ForeseeingToy(), Toy(robot), STEPS, np.random.default_rng(0))
    noisy = excite(ForeseeingToy(), robot, SIGMA, STEPS, 1.0, np.random.default_rng(0))
    bare = excite(ForeseeingToy(), robot, SIGMA, STEPS, 0.0, np.random.default_rng(0))
    assert error(planned) < 0.7 * min(error(noisy), error(bare))


def test_every_second_lane_explores(robot):
    def actions(explore: float) -> np.ndarray:
        sim = ForeseeingToy(gain=(0.3, 0.3))
        return guide(sim, Toy(robot), 1, np.random.default_rng(0), explore).action[:, 0]

    np.testing.assert_array_equal(actions(0.5)[0], actions(0.0)[0])
    assert not np.array_equal(actions(0.5)[1], actions(0.0)[1])


def test_faults_come_in_their_period_and_plans_know_them(robot):
    stuck = [{"gain": 0.0}, {"gain": 0.2}, {"gain": 0.0}]
    rng = np.random.default_rng(0)
    rollout = guide(ForeseeingToy(), Toy(robot), 12, rng, faults={7: stuck})
    moved = rollout.next_obs[..., 0] != rollout.obs[..., 0]
    assert moved[:, :7].all()
    np.testing.assert_array_equal(moved[:, 7:], np.array([[False], [True], [False]]).repeat(5, 1))


def test_a_run_counts_the_plans_that_were_tried(robot):
    config = dataclasses.replace(TINY, rounds=3, guided_rounds=1)
    trainer = Trainer(Foreseeing(robot), config)
    per_round = config.round_steps * config.tasks
    for _ in trainer.run():
        pass
    assert trainer.env_steps == 3 * per_round + per_round * PLANS * Toy.plan_horizon


def test_a_run_without_foresight_is_refused_before_it_begins(robot):
    with pytest.raises(ValueError, match=re.escape("--guided-rounds 0")):
        Trainer(Toy(robot), dataclasses.replace(TINY, guided_rounds=1))


def test_a_simulator_that_cannot_try_plans_says_so(robot):
    with pytest.raises(ValueError, match=re.escape("ToySim cannot try plans")):
        guide(ToySim(), Toy(robot), STEPS, np.random.default_rng(0))
