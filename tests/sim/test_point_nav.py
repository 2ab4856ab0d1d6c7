"""sim.families.point_nav: a point, its goals, and two ways to pay for reaching them."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from reptile_agent.spec import limits
from sim import registry
from sim.backends.batch import BatchSim

NAMES = ["point_nav", "point_nav_sparse"]


@pytest.fixture
def dense():
    return registry.get("point_nav")


@pytest.fixture
def sparse():
    return registry.get("point_nav_sparse")


@pytest.fixture(params=NAMES)
def family(request):
    return registry.get(request.param)


def driven(family, tasks, steps: int, command=(1.0, 0.0)) -> np.ndarray:
    """Observations after so many periods of one command from rest in the middle, [lanes, 4]."""
    sim = BatchSim(family, tasks)
    sim.batch.qpos[:], sim.batch.qvel[:] = 0.0, 0.0
    sim.batch.forward()
    action = np.tile(np.float32(command), (len(tasks), 1))
    for _ in range(steps):
        obs, *_ = sim.step(action)
    return obs


def test_a_command_is_a_velocity_that_drag_holds_back(dense):
    friction = np.array([0.25, 1.0, 10.0])
    obs = driven(dense, [{"friction": f} for f in friction], steps=30)
    np.testing.assert_allclose(obs[:, 2], 10.0 / (10.0 + friction), rtol=1e-3)
    np.testing.assert_array_equal(obs[:, [1, 3]], 0.0)


def test_a_heavier_point_starts_more_slowly_and_gets_as_fast(dense):
    tasks = [{"mass": m} for m in (0.5, 1.0, 5.0)]
    early, late = driven(dense, tasks, steps=1)[:, 2], driven(dense, tasks, steps=60)[:, 2]
    assert early[0] > 1.2 * early[1] > 1.2**2 * early[2] > 0
    np.testing.assert_allclose(late, late[1], rtol=1e-3)
    mass = BatchSim(dense, tasks).batch.expand("body_mass")[:, 1]
    np.testing.assert_allclose(mass, [0.5, 1.0, 5.0])


def test_a_turned_drive_turns_the_way_and_not_its_length(dense):
    turn = np.array([0.0, np.pi / 2, -2.5])
    way = driven(dense, [{"turn_rad": t} for t in turn], steps=10)[:, :2]
    np.testing.assert_allclose(np.arctan2(way[:, 1], way[:, 0]), turn, atol=1e-5)
    np.testing.assert_allclose(np.hypot(*way.T), way[0, 0], rtol=1e-5)


def test_a_mirrored_drive_goes_the_other_way_along_x_alone(dense):
    way = driven(dense, [{}, {"mirrored": 1.0}], steps=10, command=(1.0, 0.5))
    np.testing.assert_array_equal(way[1], way[0] * [-1, 1, -1, 1])
    both = driven(dense, [{"mirrored": 1.0, "turn_rad": np.pi / 2}], steps=10, command=(1.0, 0.5))
    np.testing.assert_allclose(both[0, :2], [-way[0, 1], -way[0, 0]], rtol=1e-5)


def test_the_goal_is_the_reference_and_not_observed(family):
    sim = BatchSim(family, [{"goal_x": 0.3, "goal_y": -0.4}, {"goal_x": -2.0}])
    np.testing.assert_allclose(sim.reference(3)[0], [[0.3, -0.4]] * 3, rtol=1e-6)
    np.testing.assert_allclose(sim.reference(3)[1], [[-2.0, 0.0]] * 3)
    sim.batch.qpos[:] = 0.0
    sim.batch.forward()
    obs, *_ = sim.step(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(obs[0], obs[1])


def test_the_dense_reward_is_minus_the_distance(dense):
    obs, action = torch.zeros(3, 4), torch.zeros(3, 2)
    goal = torch.tensor([[0.3, -0.4], [0.0, 0.0], [-2.0, 0.0]])
    expected = torch.tensor([-0.5, 0.0, -2.0])
    torch.testing.assert_close(dense.reward(obs, action, obs, goal), expected)


def test_the_sparse_reward_is_paid_near_the_goal_alone(sparse):
    obs, action = torch.zeros(4, 4), torch.zeros(4, 2)
    goal = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.19, 0.0], [0.15, 0.15]])
    expected = torch.tensor([1.0, 0.9, 0.81, 0.0])
    torch.testing.assert_close(sparse.reward(obs, action, obs, goal), expected)


def test_goals_keep_to_the_box_in_training_and_leave_it_beyond(dense):
    frozen = dense.splits()
    train, beyond = (
        np.array([[task["goal_x"], task["goal_y"]] for task in frozen[split]])
        for split in ("train", "extrapolated")
    )
    assert np.abs(train).max() <= 0.5
    assert (np.abs(beyond).max(axis=1) > 0.5).mean() > 0.5
    assert np.abs(beyond).max() > 1.0
    assert all(task["friction"] == task["mass"] == 1.0 for task in frozen["train"])


def test_held_out_commands_are_turned_or_mirrored_and_no_others_are(dense):
    for split, tasks in dense.splits().items():
        # The cosine between a command and the way that it goes.
        off = 1.0 - dense.mixing(tasks)[:, 0, 0] if tasks else np.zeros(0)
        assert (off > 0.29).all() if split == "held_out" else (off == 0).all()


def test_both_rewards_are_asked_of_the_same_tasks(dense, sparse):
    assert dense.splits() == sparse.splits()
    assert dense.robot.name != sparse.robot.name


def test_a_far_goal_is_not_feasible_for_a_point_that_drag_holds(dense):
    assert dense.feasible({"goal_x": 2.0, "goal_y": 2.0})
    assert dense.feasible({"goal_x": 1.0, "friction": 10.0})
    assert not dense.feasible({"goal_x": 2.0, "goal_y": -2.0, "friction": 10.0})


@pytest.mark.parametrize("split", ["train", "extrapolated", "held_out"])
def test_who_knows_the_drive_reaches_every_goal_within_the_believed_limits(family, split):
    tasks = family.splits()[split][:32]
    sim = BatchSim(family, tasks)
    undo = np.linalg.inv(family.mixing(tasks))
    low, high = limits(family.robot.observations)
    for _ in range(family.episode_steps):
        wanted = np.clip(2.0 * (sim.reference(1)[:, 0] - sim.obs[:, :2]), -0.7, 0.7)
        obs, reward, *_ = sim.step(np.einsum("lij,lj->li", undo, wanted).astype(np.float32))
        assert ((obs >= low) & (obs <= high)).all()
    best = {"point_nav": 0.0, "point_nav_sparse": 1.0}[family.name]
    assert (reward > best - 0.1).all()


def test_nothing_pulls_the_point_down(dense):
    assert not dense.model.opt.gravity.any()
    sim = BatchSim(dense, [{}])
    sim.batch.step(nstep=5, stage=mujoco.mjtStage.mjSTAGE_VEL)
    assert not sim.batch.qvel.any()
