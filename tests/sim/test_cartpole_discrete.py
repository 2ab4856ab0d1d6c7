"""sim.families.cartpole_discrete: gymnasium's cart-pole and its variants."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gymnasium", reason="gymnasium is in the extra 'train'")

import gymnasium
import numpy as np
import torch
from gymnasium.utils.env_checker import check_env

from sim import splits
from sim.families.cartpole_discrete import END_M, END_RAD, CartpoleDiscrete
from sim.gymnasium_env import RobotEnv, RobotVectorEnv

START = np.array([0.1, 0.4, 0.05, -0.2])


@pytest.fixture(scope="module")
def family() -> CartpoleDiscrete:
    return CartpoleDiscrete()


def moved(family, task, action: float, start: np.ndarray = START) -> np.ndarray:
    """State after one step from `start`."""
    sim = family.make_sim([task])
    sim.envs[0].unwrapped.state = start.copy()
    sim.step(np.array([[action]]))
    return np.array(sim.envs[0].unwrapped.state)


def by_hand(task, action: float) -> np.ndarray:
    """One Euler step of Barto, Sutton and Anderson 1983 with viscous friction on the cart.

    Lagrange's equations of a cart and a uniform rod on a hinge, solved as a 2 x 2 system.
    """
    _, speed, angle, turn = START
    cart, rod = 1.0, 0.1 * task.get("pole_mass", 1.0)
    half = 0.5 * task.get("pole_length", 1.0)
    push = 10.0 * task.get("force_gain", 1.0) * (1 if action > 0.5 else -1)
    push *= -1 if task.get("reversed") else 1
    push -= task.get("friction", 0.0) * speed
    mass = [
        [cart + rod, rod * half * np.cos(angle)],
        [rod * half * np.cos(angle), 4 / 3 * rod * half**2],
    ]
    force = [push + rod * half * turn**2 * np.sin(angle), rod * half * 9.8 * np.sin(angle)]
    cart_acceleration, pole_acceleration = np.linalg.solve(mass, force)
    rates = [speed, cart_acceleration, turn, pole_acceleration]
    return START + 0.02 * np.array(rates)


@pytest.mark.parametrize("action", [0.0, 1.0])
@pytest.mark.parametrize(
    "task",
    [
        {},
        {"pole_mass": 8.0},
        {"pole_length": 0.4},
        {"friction": 4.0},
        {"force_gain": 0.3},
        {"reversed": 1.0},
        {"reversed": 1.0, "friction": 3.0, "force_gain": 1.7, "pole_mass": 0.3, "pole_length": 2.0},
    ],
)
def test_a_step_is_that_of_the_equations_of_motion(family, task, action):
    np.testing.assert_allclose(moved(family, task, action), by_hand(task, action), atol=1e-12)


def test_the_nominal_task_is_gymnasiums_own(family):
    sim, own = family.make_sim([{}]), gymnasium.make("CartPole-v1")
    obs, (expected, _) = sim.reset(seed=0), own.reset(seed=0)
    own.unwrapped.state = sim.envs[0].unwrapped.state.copy()
    for step in range(60):
        action = float(step % 3 == 0)
        obs, reward, terminated, _ = sim.step(np.array([[action]]))
        expected, gained, over, *_ = own.step(int(action))
        np.testing.assert_array_equal(obs[0], expected)
        assert (reward[0], terminated[0]) == (gained, over)
        if over:
            break
    assert terminated[0]


def test_a_fault_in_mid_motion_leaves_the_motion_and_can_be_taken_back(family):
    sim, untouched = family.make_sim([{}]), family.make_sim([{}])
    env, obs = sim.envs[0], sim.obs.copy()
    sim.set_tasks([{"pole_mass": 3.0, "friction": 2.0, "reversed": 1.0}])
    assert sim.envs[0] is env
    np.testing.assert_array_equal(sim.obs, obs)
    sim.set_tasks([{}])
    for _ in range(5):
        action = np.array([[1.0]])
        np.testing.assert_array_equal(sim.step(action)[0], untouched.step(action)[0])


def test_one_law_balances_every_task(family):
    frozen = family.splits()
    tasks = [*frozen["extrapolated"], *frozen["held_out"][:8], *frozen["train"][:8]]
    sim = family.make_sim(tasks)
    reversed_ = np.array([task.get("reversed", 0.0) for task in tasks])
    obs, lived = sim.reset(seed=1), 0.0
    for _ in range(300):
        right = (obs @ [0.05, 0.1, 1.0, 0.3] > 0) != reversed_
        obs, reward, *_ = sim.step(right[:, None].astype(np.float32))
        lived = lived + reward
    assert (lived == 300).all(), [t for t, n in zip(tasks, lived) if n < 300]


def test_the_splits_are_frozen_as_they_are_drawn(family):
    document = json.loads((family.folder / "splits.json").read_text())
    drawn = splits.draw(family.variations, family.draw_held_out, family.feasible, document["seed"])
    assert drawn == document["splits"] == family.splits()
    for name, tasks in drawn.items():
        family.check(tasks)
        assert all(("reversed" in task) == (name == "held_out") for task in tasks)


def test_the_reward_is_best_upright_on_the_mark_and_nothing_where_the_episode_ends(family):
    action, mark = torch.zeros(1), torch.tensor([0.3])
    best = torch.tensor([0.3, 0.0, 0.0, 0.0])
    assert family.reward(best, action, best, mark) == 1.0
    for column, end in ((0, END_M), (2, END_RAD)):
        states = torch.zeros(3, 4)
        states[:, column] = torch.tensor([0.5, 0.999, 1.2]) * end
        half, edge, beyond = family.reward(states, action, states, torch.zeros(3, 1)).tolist()
        assert 0.7 < half < 0.8
        assert 0.0 < edge < 0.01
        assert beyond == 0.0


def test_a_planner_trains_on_it(family):
    from reptile_agent.meta.learners.dynamics import DynamicsConfig
    from reptile_agent.meta.train_config import TrainConfig
    from reptile_agent.meta.trainer import Trainer

    config = TrainConfig(
        tasks=4,
        rounds=1,
        round_steps=40,
        fit_iterations=20,
        fit_batch=32,
        iterations=2,
        meta_batch=2,
        train_inner_steps=1,
        model=DynamicsConfig(hidden=(8,), members=2, segment=2),
        samples=4,
    )
    trainer = Trainer(family, config)
    for _ in trainer.run():
        pass
    assert trainer.done_iterations == trainer.total_iterations == 22
    assert all(torch.isfinite(value).all() for value in trainer.params.values())


def test_it_is_a_gymnasium_environment_of_two_choices_again(family):
    env = RobotEnv(family)
    assert env.action_space == gymnasium.spaces.Discrete(2)
    check_env(env, skip_render_check=True)
    envs = RobotVectorEnv(3, family)
    envs.reset(seed=0)
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([2, 2, 2])
    _, reward, *_ = envs.step(np.array([0, 1, 1]))
    assert reward.tolist() == [1.0] * 3
    with pytest.raises(ValueError, match=r"are not among the choices 0..1"):
        env.step(2)
    with pytest.raises(ValueError, match=r"are not among the choices 0..1"):
        env.step(0.5)
