"""reptile_agent.meta.learners.policy_features: what a policy sees, and how it says what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reptile_agent.meta.learners.policy_features import PolicyFeatures, PolicyNormaliser
from reptile_agent.spec import RobotSpec


@pytest.fixture(scope="module")
def turning(robot) -> RobotSpec:
    """The toy robot, but what it follows is the wheel, which turns without end."""
    return robot.model_copy(update={"references": robot.observations[1:]})


def normaliser(**changes) -> PolicyNormaliser:
    values = {
        "obs_mean": [0.1, 0.2],
        "obs_std": [0.5, 2.0],
        "distance": [0.4],
        "action_mean": [0.05, -0.1],
        "action_std": [0.3, 1.5],
        "offset_std": [0.2, 6.0],
        "reward_mean": [-1.0],
        "reward_scale": [2.0],
    }
    return PolicyNormaliser(**{n: np.float32(v) for n, v in (values | changes).items()})


@pytest.fixture
def features(robot) -> PolicyFeatures:
    return PolicyFeatures(robot, normaliser())


def test_a_policy_sees_where_it_is_and_how_far_from_its_reference(features):
    # plain lift, distance of lift, sine and cosine of wheel
    found = features.state(torch.tensor([0.6, 0.5, 1.0]))
    wanted = [(0.6 - 0.1) / 0.5, (1.0 - 0.6) / 0.4, math.sin(0.5), math.cos(0.5)]
    assert found.tolist() == pytest.approx(wanted)
    assert features.size == 4


def test_a_distance_between_angles_without_end_stops_is_an_angle(turning):
    features = PolicyFeatures(turning, normaliser())
    found = features.state(torch.tensor([0.6, 0.5, 0.7 + 4 * math.pi]))
    wanted = [1.0, math.sin(0.5), math.sin(0.2), math.cos(0.5), math.cos(0.2)]
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    assert features.size == 5


def test_a_critic_sees_a_servos_command_relative_to_where_it_stands(features):
    found = features.action(torch.tensor([0.6, 0.5, 1.0]), torch.tensor([0.7, 1.4]))
    assert found.tolist() == pytest.approx([(0.7 - 0.6 - 0.05) / 0.3, (1.4 + 0.1) / 1.5])


def test_an_output_of_zero_commands_the_reference_and_else_the_middle(features):
    seen = torch.tensor([[0.6, 0.5, 0.8], [0.0, 0.0, -0.3]])
    found = features.command(seen, torch.zeros(2, 2))
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.0], [-0.3, 0.0]]))


def test_an_output_moves_the_command_by_usual_offsets_and_never_past_a_limit(features):
    seen = torch.tensor([0.0, 0.0, 0.0])
    # Gain of lift: two offsets of 0.2 in a half range of 1; of wheel: the whole range.
    found = features.command(seen, torch.tensor([0.5, 0.5]))
    assert found.tolist() == pytest.approx([math.tanh(0.2), 3 * math.tanh(0.5)])
    far = features.command(torch.tensor([0.0, 0.0, 1.9]), torch.tensor([50.0, -50.0]))
    assert far.tolist() == pytest.approx([1.0, -3.0])


def test_the_command_can_be_learned_even_where_the_reference_is_out_of_reach(features):
    def command(output):
        return features.command(torch.tensor([0.0, 0.0, 1.9]), output)[0]

    slope = torch.func.grad(command)(torch.zeros(2))
    assert torch.isfinite(slope).all()
    assert slope[0] > 1e-3


def test_noise_is_counted_in_usual_offsets_and_kept_within_limits(features):
    found = features.vary(torch.tensor([0.5, 2.0]), torch.tensor([-0.5, 0.5]))
    assert found.tolist() == pytest.approx([0.5 - 0.5 * 0.2, 3.0])
    off = features.usual_offsets(torch.tensor([0.1, -3.0]))
    assert off.tolist() == pytest.approx([0.5, -0.5])


def test_the_normaliser_is_measured_on_what_is_seen(robot):
    rng, n = np.random.default_rng(0), 20_000
    obs = rng.normal([0.3, 5.0], [0.5, 2.0], (n, 2)).astype(np.float32)
    reference = obs[:, :1] + rng.normal(0.1, 0.2, (n, 1)).astype(np.float32)
    action = np.stack([reference[:, 0] + rng.normal(0, 0.3, n), rng.normal(-1, 3, n)], axis=1)
    found = PolicyNormaliser.fit(robot, obs, reference, action, rng.normal(-2.0, 0.5, n))
    np.testing.assert_allclose(found.obs_mean, [0.3, 5.0], atol=0.05)
    np.testing.assert_allclose(found.obs_std, [0.5, 2.0], rtol=0.03)
    np.testing.assert_allclose(found.distance, [math.hypot(0.1, 0.2)], rtol=0.03)
    np.testing.assert_allclose(found.action_mean, [0.1, -1.0], atol=0.07)
    np.testing.assert_allclose(found.action_std, [math.hypot(0.2, 0.3), 3.0], rtol=0.03)
    np.testing.assert_allclose(found.offset_std, [0.3, 3.0], rtol=0.03)
    np.testing.assert_allclose(found.reward_mean, [-2.0], atol=0.02)
    np.testing.assert_allclose(found.reward_scale, [0.5], rtol=0.03)
    assert all(value.dtype == np.float32 for value in vars(found).values())


@pytest.mark.parametrize(("reward", "scale"), [(0.0, 1.0), (50.0, 5.0), (-50.0, 5.0)])
def test_what_never_changes_is_not_divided_by_zero(robot, reward, scale):
    still = np.zeros((10, 2), np.float32)
    found = PolicyNormaliser.fit(robot, still, still[:, :1], still, np.full(10, reward))
    for value in (found.obs_std, found.distance, found.action_std, found.offset_std):
        np.testing.assert_array_equal(value, 1.0)
    np.testing.assert_allclose(found.reward_scale, scale)
