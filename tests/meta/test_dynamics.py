"""reptile_agent.meta.learners.dynamics: what the model sees, and what its loss means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser


def make_learner(robot, members: int = 3, segment: int = 4, hidden=(8,)) -> DynamicsLearner:
    normaliser = Normaliser(
        obs_mean=np.float32([0.1, 0.2]),
        obs_std=np.float32([0.5, 2.0]),
        action_mean=np.float32([0.05, -0.1]),
        action_std=np.float32([0.3, 1.5]),
        delta_std=np.float32([0.1, 0.4]),
    )
    return DynamicsLearner(robot, DynamicsConfig(hidden, members, segment), normaliser)


@pytest.fixture
def learner(robot) -> DynamicsLearner:
    return make_learner(robot)


@pytest.fixture
def params(learner, generator):
    fresh = learner.init(generator)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in fresh.items()
    }


@pytest.fixture
def batch(generator):
    return {
        "obs": torch.randn(5, 2, generator=generator),
        "action": torch.randn(5, 4, 2, generator=generator),
        "next_obs": torch.randn(5, 4, 2, generator=generator),
        "weight": torch.tensor([1.0, 0.5, 2.0, 1.0, 0.5]),
    }


def change(learner, params, obs, action):
    """Predicted change of the measurement [members, obs_dim]."""
    obs, action = torch.tensor([obs]), torch.tensor([action])
    members = learner.config.members
    both = (obs.expand(members, 1, 2), action.expand(members, 1, 2))
    return (learner.predict(params, *both) - obs)[:, 0]


def test_a_turn_more_of_an_endless_joint_changes_nothing(learner, params):
    here = change(learner, params, [0.3, 0.7], [0.1, 0.2])
    there = change(learner, params, [0.3, 0.7 + 2 * math.pi], [0.1, 0.2])
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
    assert (here - change(learner, params, [0.3, 0.9], [0.1, 0.2])).abs().max() > 1e-3


def test_an_end_stopped_joint_is_seen_where_it_is(learner, params):
    here = change(learner, params, [0.3, 0.7], [0.1, 0.2])
    there = change(learner, params, [0.3 + 2 * math.pi, 0.7], [0.1 + 2 * math.pi, 0.2])
    assert (here - there).abs().max() > 1e-3


def test_a_servos_command_is_seen_relative_to_where_it_stands(learner):
    def features(obs, action):
        return learner._features(torch.tensor([obs]), torch.tensor([action]))[0]

    # plain lift, sine and cosine of wheel, servo of lift, effort of wheel
    assert features([0.6, 0.5], [0.7, 1.4]).tolist() == pytest.approx(
        [(0.6 - 0.1) / 0.5, math.sin(0.5), math.cos(0.5), (0.7 - 0.6 - 0.05) / 0.3, 1.5 / 1.5]
    )


def test_the_loss_is_that_of_rolling_every_member_on_from_its_own_prediction(
    learner, params, batch
):
    total = torch.tensor(0.0)
    for member in range(3):
        own = {name: value[member : member + 1] for name, value in params.items()}
        single = make_learner(learner.robot, members=1)
        per_row = torch.zeros(5)
        for row in range(5):
            obs, errors = batch["obs"][row], []
            for t in range(4):
                obs = single.predict(own, obs[None, None], batch["action"][row, t][None, None])[
                    0, 0
                ]
                errors.append((obs - batch["next_obs"][row, t]) / torch.tensor([0.1, 0.4]))
            per_row[row] = torch.stack(errors).square().mean()
        total = total + (per_row * batch["weight"]).sum() / 5
    torch.testing.assert_close(learner.loss(params, batch), total)


def test_every_members_gradient_is_that_of_its_own_loss(learner, params, batch):
    grads = torch.func.grad(learner.loss)(params, batch)
    alone = make_learner(learner.robot, members=1)
    for member in range(3):
        own = {name: value[member : member + 1] for name, value in params.items()}
        for name, value in torch.func.grad(alone.loss)(own, batch).items():
            torch.testing.assert_close(grads[name][member : member + 1], value)


def test_the_prediction_error_is_that_of_the_members_mean(learner, params, batch):
    found = learner.prediction_error(params, batch)
    predicted = []
    for member in range(3):
        own = {name: value[member : member + 1] for name, value in params.items()}
        single, obs, path = make_learner(learner.robot, members=1), batch["obs"][None], []
        for t in range(4):
            obs = single.predict(own, obs, batch["action"][None, :, t])
            path.append(obs[0])
        predicted.append(torch.stack(path, dim=1))
    off = (torch.stack(predicted).mean(0) - batch["next_obs"]) / torch.tensor([0.1, 0.4])
    torch.testing.assert_close(found, off.square().mean((1, 2)))
    assert found.shape == (5,)


def test_members_that_agree_leave_no_doubt(learner):
    predicted = torch.randn(1, 5, 2).expand(3, 5, 2).clone()
    torch.testing.assert_close(learner.disagreement(predicted), torch.zeros(5))
    predicted[0, 2, 1] += 0.4  # one usual change
    doubt = learner.disagreement(predicted)
    assert doubt[2] == pytest.approx((4 / 9 + 1 / 9 + 1 / 9) / 3 / 2)
    assert doubt[[0, 1, 3, 4]].abs().max() < 1e-9


def test_a_fresh_model_predicts_almost_no_change_and_its_members_differ(learner, generator):
    moved = change(learner, learner.init(generator), [0.3, 0.7], [0.1, 0.2])
    assert (moved.abs() < 0.2 * torch.tensor([0.1, 0.4])).all()
    assert not torch.equal(moved[0], moved[1])


def test_the_normaliser_is_measured_on_what_the_model_sees(robot):
    rng = np.random.default_rng(0)
    obs = rng.normal([1.0, 5.0], [0.5, 2.0], (5000, 2)).astype(np.float32)
    action = np.stack([obs[:, 0] + rng.normal(0.2, 0.1, 5000), rng.normal(-1, 3, 5000)], axis=1)
    after = obs + rng.normal(0.7, [0.01, 0.3], (5000, 2))
    found = Normaliser.fit(robot, obs, action.astype(np.float32), after.astype(np.float32))
    np.testing.assert_allclose(found.obs_mean, [1.0, 5.0], atol=0.1)
    np.testing.assert_allclose(found.obs_std, [0.5, 2.0], rtol=0.05)
    np.testing.assert_allclose(found.action_mean, [0.2, -1.0], atol=0.15)
    np.testing.assert_allclose(found.action_std, [0.1, 3.0], rtol=0.05)
    np.testing.assert_allclose(found.delta_std, [0.01, 0.3], rtol=0.05)


def test_what_never_changes_is_not_divided_by_zero(robot):
    still = np.zeros((10, 2), np.float32)
    found = Normaliser.fit(robot, still, still, still)
    for std in (found.obs_std, found.action_std, found.delta_std):
        np.testing.assert_array_equal(std, 1.0)


def test_it_learns_a_linear_robot(robot, generator):
    # lift moves 30 % of the way to its command, wheel by 0.2 of its effort
    def after(obs, action):
        return torch.stack(
            [
                obs[..., 0] + 0.3 * (action[..., 0] - obs[..., 0]),
                obs[..., 1] + 0.2 * action[..., 1],
            ],
            dim=-1,
        )

    obs = torch.randn(400, 2, generator=generator)
    action = torch.randn(400, 2, 2, generator=generator)
    one = after(obs, action[:, 0])
    next_obs = torch.stack([one, after(one, action[:, 1])], dim=1)
    normaliser = Normaliser.fit(robot, obs.numpy(), action[:, 0].numpy(), one.numpy())
    learner = DynamicsLearner(robot, DynamicsConfig((32,), 2, 2), normaliser)
    batch = {"obs": obs, "action": action, "next_obs": next_obs, "weight": torch.ones(400)}
    train = {name: value[:300] for name, value in batch.items()}
    unseen = {name: value[300:] for name, value in batch.items()}
    params = {n: v.requires_grad_() for n, v in learner.init(generator).items()}
    before = learner.prediction_error(params, unseen).mean()
    optimizer = torch.optim.Adam(params.values(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        learner.loss(params, train).backward()
        optimizer.step()
    assert learner.prediction_error(params, unseen).mean() < 0.02 * before
