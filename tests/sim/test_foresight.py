"""sim.backends.foresight: plans are tried on copies of the lanes, which do not move."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from reptile_agent.task import Task, objective_of
from sim import registry
from sim.backends.batch import BatchSim
from sim.families.half_cheetah import HalfCheetah


def started(family, tasks, **how) -> BatchSim:
    """A simulator in mid-motion, where delay lines hold something."""
    sim = BatchSim(family, tasks, **how)
    sim.reset(seed=1)
    for _ in range(3):
        sim.step(np.full((len(tasks), len(family.robot.actions)), 0.1, np.float32))
    return sim


def two_tasks_and_their_plans(family) -> tuple[list[Task], np.ndarray]:
    """One task of the training split and one beyond it, and three plans of five periods of each."""
    tasks = [*family.splits()["train"][:1], *family.splits()["extrapolated"][:1]]
    rng, low = np.random.default_rng(0), np.array([a.low for a in family.robot.actions])
    return tasks, rng.uniform(low, -low, (2, 3, 5, low.size)).astype(np.float32)


def test_plans_earn_what_stepping_them_earns(family):
    """Plans are weighed by the objective, on the lane's own variant; the lanes stay as they are."""
    tasks, plans = two_tasks_and_their_plans(family)
    sim = started(family, tasks)
    before = sim.batch.state.copy()
    foreseen = sim.foresee(plans)
    np.testing.assert_array_equal(sim.batch.state, before)
    for plan in range(3):
        other = started(family, tasks, model=family.foresight_model)
        other.batch.state[:] = before
        other.obs = other.state()
        earned = np.zeros(2)
        alive = np.ones(2, bool)
        for t in range(5):
            last, aim = other.obs, other.reference(1)[:, 0]
            obs, _, terminated, _ = other.step(plans[:, plan, t])
            transition = map(torch.from_numpy, (last, plans[:, plan, t], obs, aim))
            earned += np.where(alive, objective_of(family)(*transition).numpy(), 0.0)
            alive &= ~terminated
        np.testing.assert_allclose(foreseen[:, plan], earned / 5, rtol=1e-4, atol=1e-5)


def test_plans_lead_where_stepping_them_leads(family):
    """Exactly there, for as long as their episode goes on; the lanes stay as they are."""
    tasks, plans = two_tasks_and_their_plans(family)
    sim = started(family, tasks)
    before = sim.batch.state.copy()
    seen, lasts = sim.follow(plans)
    np.testing.assert_array_equal(sim.batch.state, before)
    assert seen.shape == (2, 3, 6, len(family.robot.observations))
    for plan in range(3):
        other = started(family, tasks)
        other.batch.state[:] = before
        np.testing.assert_array_equal(seen[:, plan, 0], other.state())
        alive = np.ones(2, bool)
        for t in range(5):
            *_, terminated, _ = other.step(plans[:, plan, t])
            np.testing.assert_array_equal(lasts[:, plan, t], alive)
            np.testing.assert_array_equal(seen[alive, plan, t + 1], other.state()[alive])
            alive &= ~terminated


def test_an_ant_tries_plans_by_a_cheaper_integrator_and_moves_by_its_own():
    family = registry.get("ant")
    assert family.foresight_model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert family.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    plans = np.random.default_rng(0).uniform(-1, 1, (1, 24, 10, 8)).astype(np.float32)
    sim, lanes, earned = started(family, [{}]), started(family, [{}] * 24), np.zeros(24)
    foreseen = sim.foresee(plans)[0]
    lanes.batch.state[:] = sim.batch.state
    lanes.obs = lanes.state()
    for t in range(10):
        last = lanes.obs
        obs, *_ = lanes.step(plans[0, :, t])
        earned += lanes.objective(last, plans[0, :, t], obs, lanes.reference(1)[:, 0])
    assert spearmanr(foreseen, earned).statistic > 0.5  # contacts part the two


def test_plans_are_tried_on_the_variant_that_a_lane_has_become(family, change):
    plans = np.full((1, 1, 5, len(family.robot.actions)), 0.3, np.float32)
    sim = started(family, [{}])
    nominal = sim.foresee(plans)
    sim.set_tasks([change])
    assert not np.allclose(sim.foresee(plans), nominal, rtol=1e-6, atol=0)


def test_plans_can_be_tried_on_what_a_lane_is_believed_to_be(family, change):
    rng = np.random.default_rng(0)
    plans = rng.uniform(-0.3, 0.3, (1, 2, 5, len(family.robot.actions))).astype(np.float32)
    believing, mistaken = started(family, [{}]), started(family, [{}], believed=[change])
    right = started(family, [change])
    right.batch.state[:] = mistaken.batch.state
    np.testing.assert_array_equal(mistaken.batch.state, believing.batch.state)  # as they are
    np.testing.assert_array_equal(mistaken.foresee(plans), right.foresee(plans))
    assert not np.array_equal(mistaken.foresee(plans), believing.foresee(plans))


def test_a_plan_that_ends_its_episode_does_not_pay():
    """Where rewards are negative, ending early earns no more than going on."""

    class Costly(HalfCheetah):
        def reward(self, obs, action, next_obs, reference):
            return -1.0 - (action * action).sum(-1)

        objective = reward

        def terminated(self, obs):
            return np.abs(obs[:, 13]) > 3.0  # bfoot swings

    rng = np.random.default_rng(0)
    plans = rng.uniform(-1, 1, (1, 16, 5, 6)).astype(np.float32)
    plans[:, 0] = 0.0  # this one goes on, and costs 1 a period
    foreseen = started(Costly(), [{}]).foresee(plans)[0]
    assert foreseen[0] == pytest.approx(-1.0)
    assert (foreseen[1:] < -1.0).all()
