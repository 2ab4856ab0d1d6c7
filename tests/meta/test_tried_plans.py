"""reptile_agent.meta.tried_plans: plans that the simulator carries out on the side."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from test_guide import TINY
from toy import SIGMA, Foreseeing, ForeseeingToy, Toy, ToySim

from reptile_agent.meta.algorithms import joint
from reptile_agent.meta.guide import PLANS
from reptile_agent.meta.planner import PlannerConfig
from reptile_agent.meta.rounds import run_round
from reptile_agent.meta.trainer import DIRECTIONS, Trainer
from reptile_agent.meta.tried_plans import TriedPlans, all_rows, asked_about_tried, drawn, joined
from reptile_agent.spec import limits

HORIZON, SEGMENT = 6, 3
CONFIG = PlannerConfig(horizon=HORIZON, noise=SIGMA)
TRYING = dataclasses.replace(TINY, rounds=3, tried_plans=2)


def tried_by(sim, robot, plans=5, periods=40) -> TriedPlans:
    """Variations of a plan that lifts and turns, over some periods in which the robot moves."""
    rng = np.random.default_rng(0)
    tried = TriedPlans(sim, robot, CONFIG, plans, SEGMENT, rng)
    for _ in range(periods):
        reference = sim.reference(HORIZON)
        plan = np.tile([0.1, 0.3], (sim.num_envs, HORIZON, 1))
        tried.see(plan, reference)
        sim.step(np.tile([0.5, 0.3], (sim.num_envs, 1)).astype(np.float32))
    return tried


def test_segments_are_what_the_robot_would_do(robot):
    sim = ForeseeingToy()
    found = tried_by(sim, robot).segments()
    assert found["obs"].shape == (3, 200, 2)
    assert found["action"].shape == found["next_obs"].shape == (3, 200, SEGMENT, 2)
    np.testing.assert_array_equal(found["weight"], 1.0)
    before, gain = found["obs"], sim.gain[:, None]
    for t in range(SEGMENT):
        action, after = found["action"][:, :, t], found["next_obs"][:, :, t]
        lift = before[..., 0] + gain * (action[..., 0] - before[..., 0])
        np.testing.assert_allclose(after[..., 0], lift, atol=1e-5)
        np.testing.assert_allclose(after[..., 1], before[..., 1] + 0.1 * action[..., 1], atol=1e-5)
        before = after
    low, high = limits(robot.actions)
    assert (found["action"] >= low).all()
    assert (found["action"] <= high).all()


def test_plans_are_varied_as_the_planner_varies_them(robot):
    """About the plan, which is relative to the reference, in all of its periods."""
    sim = ForeseeingToy(gain=(0.3,))
    tried = TriedPlans(sim, robot, CONFIG, 4000, SEGMENT, np.random.default_rng(0))
    plan = np.tile([-0.5, 0.3], (1, HORIZON, 1))
    starts = []
    for _ in range(12):
        tried.see(plan, sim.reference(HORIZON))
        action = tried.segments()["action"][0, -4000:]
        # The reference gives away where in the plan the segment begins.
        base = sim.reference(HORIZON)[0, :, 0] - 0.5
        at = int(np.abs(base - action[:, 0, 0].mean()).argmin())
        starts.append(at)
        np.testing.assert_allclose(action[..., 0].mean(0), base[at : at + SEGMENT], atol=0.03)
        np.testing.assert_allclose(action[..., 0].std(0), SIGMA[0], rtol=0.1)
    assert set(starts) == set(range(HORIZON - SEGMENT + 1))


def test_segments_in_which_an_episode_ends_weigh_nothing(robot):
    found = tried_by(ForeseeingToy(falls_at=1.0), robot).segments()
    over = (np.abs(found["next_obs"][:, :, :-1, 1]) > 1.0).any(axis=2)
    assert over.any()
    assert (found["weight"][over] == 0).all()
    assert (found["weight"][np.abs(found["next_obs"][..., 1]).max(axis=2) < 0.5] == 1).all()


@pytest.mark.parametrize("guided", [0, 1])
def test_the_robots_do_the_same_whatever_is_tried_beside_them(robot, guided):
    """In a round that is driven, and in one that the simulator plans."""
    alone, beside = (
        dataclasses.replace(TRYING, guided_rounds=guided, rounds=2, tried_plans=plans)
        for plans in (0, 3)
    )
    trainer = Trainer(Foreseeing(robot), alone)
    for _ in trainer.run():
        pass
    driving, tasks = (trainer.agent, trainer.params), [{"gain": 0.3}, {"gain": 0.1}]

    def go(config):
        rngs = np.random.default_rng(0), np.random.default_rng(1)
        return run_round(Foreseeing(robot), config, tasks, 1, rngs, driving)

    (one, nothing), (two, tried) = go(alone), go(beside)
    np.testing.assert_array_equal(two.action, one.action)
    np.testing.assert_array_equal(two.next_obs, one.next_obs)
    assert nothing is None
    assert tried["obs"].shape == (2, 3 * alone.round_steps, 2)


def test_all_rounds_but_the_first_try_plans_and_count_them(robot):
    config = dataclasses.replace(TRYING, guided_rounds=1)
    trainer = Trainer(Foreseeing(robot), config)
    remembered = []
    for doing in trainer.run():
        tried = trainer.state.tried
        if not doing.endswith("experience"):
            remembered.append(0 if tried is None else tried["obs"].shape[1])
    per_round = config.round_steps * config.tried_plans
    assert remembered == [0, per_round, 2 * per_round, 2 * per_round]
    moved = 3 * config.round_steps
    planned = config.round_steps * (PLANS + 2 * config.tried_plans) * Toy.plan_horizon
    assert trainer.env_steps == config.tasks * (moved + planned)


def test_a_model_learns_what_only_tried_plans_show(robot):
    """Fitted to a round in which nothing moves, it predicts motion if plans were tried beside."""

    def error(plans: int) -> float:
        still = {"excitation": 0.0, "explore": 0.0, "rounds": 2}
        fit = {"fit_iterations": 300, "fit_batch": 64, "fit_lr": 5e-3, "tried_plans": plans}
        config = dataclasses.replace(TINY, **still, **fit)
        trainer = Trainer(Foreseeing(robot), config)
        for _ in trainer.run():
            pass
        seen = tried_by(ForeseeingToy(), robot, plans=1).segments()
        rows = all_rows([drawn(seen, np.random.default_rng(0), 1, 50)])
        learner = trainer.agent.learner
        batch = {name: torch.from_numpy(value[0, 0]) for name, value in rows.items()}
        return float(learner.prediction_error(trainer.params, batch).mean())

    assert error(8) < 0.7 * error(0)


def test_queries_are_of_what_was_tried_on_the_same_task_where_it_was_simulated():
    obs = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    tried = {"obs": obs, "weight": np.ones((2, 3), np.float32)}
    did = {"obs": torch.full((3, 2, 50, 1), -1.0), "weight": torch.ones(3, 2, 50)}
    lanes = np.array([1, 7, 0])  # 7 is a recorded robot, of whom nothing was tried
    asked = asked_about_tried(did, tried, lanes, np.random.default_rng(0))["obs"]
    assert set(asked[0].flatten().tolist()) == {3.0, 4.0, 5.0}
    assert (asked[1] == -1.0).all()
    assert set(asked[2].flatten().tolist()) == {0.0, 1.0, 2.0}
    assert (did["obs"] == -1.0).all()
    assert asked_about_tried(did, None, lanes, np.random.default_rng(0)) is did


def test_the_meta_phase_asks_about_what_was_tried(robot, monkeypatch):
    """Its batches hold none of what the robots did."""
    trainer = Trainer(Foreseeing(robot), TRYING)
    queries = []

    def direction(*args, **how):
        queries.append(args[4])
        return joint.direction(*args, **how)

    monkeypatch.setitem(DIRECTIONS, TRYING.algorithm, direction)
    for _ in trainer.run():
        pass
    tried = {row.tobytes() for rows in trainer.state.tried["action"] for row in rows}
    asked = queries[-1]["action"].flatten(0, 2).numpy()
    assert all(row.tobytes() in tried for row in asked)


def test_what_cannot_try_plans_is_refused_before_it_begins(robot):
    with pytest.raises(ValueError, match=re.escape("--guided-rounds 0 --tried-plans 0")):
        Trainer(Toy(robot), TRYING)
    with pytest.raises(ValueError, match="ToySim cannot try plans"):
        TriedPlans(ToySim(), robot, CONFIG, 1, SEGMENT, np.random.default_rng(0))
    longer = dataclasses.replace(TRYING.model, segment=Toy.plan_horizon + 1)
    with pytest.raises(ValueError, match=r"periods long and hold no segment of model.segment = 5"):
        Trainer(Foreseeing(robot), dataclasses.replace(TRYING, model=longer))


@pytest.mark.parametrize(("plans", "learner"), [(-1, "dynamics"), (2, "model_policy")])
def test_settings_that_make_no_sense_are_refused(robot, plans, learner):
    config = dataclasses.replace(TRYING, tried_plans=plans, learner=learner)
    with pytest.raises(
        ValueError, match=f"tried_plans must be 0 or more.*got {plans} with {learner}"
    ):
        Trainer(Foreseeing(robot), config)


def test_a_driven_round_needs_a_driver(robot):
    rngs = np.random.default_rng(0), np.random.default_rng(1)
    with pytest.raises(ValueError, match="round 1 is to be driven, and nothing drives yet"):
        run_round(Foreseeing(robot), TRYING, [{"gain": 0.3}], 1, rngs, None)


def test_segments_are_joined_and_drawn_from_all_of_each_lane():
    one = {"weight": np.zeros((2, 3)), "obs": np.zeros((2, 3, 1))}
    two = {"weight": np.ones((2, 2)), "obs": np.array([[[1.0], [2.0]], [[3.0], [4.0]]])}
    assert joined(None, None) is None
    assert joined(one, None) is one
    both = joined(joined(None, one), two)
    assert both is not None
    found = drawn(both, np.random.default_rng(0), 1, 200)
    assert found["obs"].shape == (2, 1, 200, 1)
    assert set(found["obs"][0].flat) == {0.0, 1.0, 2.0}
    assert set(found["obs"][1].flat) == {0.0, 3.0, 4.0}
    assert all_rows([found, found])["obs"].shape == (1, 1, 800, 1)
