"""reptile_agent.onboard.policy: the planner as it was trained, without torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reptile_agent.export.remade import learner_of
from reptile_agent.meta.planner import Planner, PlannerConfig
from reptile_agent.onboard import parameters
from reptile_agent.onboard.policy import Policy

REST = np.zeros(10, np.float32)


@pytest.fixture
def reference(bundle) -> np.ndarray:
    return np.full((bundle.manifest.plan.horizon, 5), 0.3, np.float32)


def as_torch(bundle, flat: np.ndarray) -> dict[str, torch.Tensor]:
    tensors = parameters.views(flat, bundle.manifest.parameters)
    return {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}


@pytest.mark.parametrize("adapted", [False, True])
def test_it_acts_as_the_planner_in_torch_does_period_after_period(bundle, short_arm, adapted):
    settings = dict(bundle.manifest.hyperparameters["planner"])
    settings["noise"] = tuple(settings["noise"])
    planner = Planner(learner_of(bundle), PlannerConfig(**settings), short_arm.reward)
    policy, flat = Policy(bundle, seed=7), bundle.start.copy()
    if adapted:
        flat += 0.05 * np.random.default_rng(0).standard_normal(flat.size, np.float32)
        policy.set_parameters(flat)
    noise_rng, rng = np.random.default_rng(7), np.random.default_rng(1)
    plan = torch.zeros(3, 5)
    for _ in range(6):
        obs = rng.normal(0, 0.3, 10).astype(np.float32)
        aim = rng.normal(0, 0.3, (3, 5)).astype(np.float32)
        noise = torch.from_numpy(noise_rng.standard_normal(planner.noise_shape, np.float32))
        arrays = (torch.from_numpy(obs), torch.from_numpy(aim), plan, noise)
        wanted, plan, expected = planner(as_torch(bundle, flat), *arrays)
        np.testing.assert_allclose(policy.act(obs, aim), wanted, atol=2e-4)
        np.testing.assert_allclose(policy.expected, expected, atol=1e-3)


def test_the_seed_repeats_it(bundle, reference):
    acts = [Policy(bundle, seed).act(REST, reference).copy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(acts[0], acts[1])
    assert not np.array_equal(acts[0], acts[2])


def test_actions_keep_to_the_robots_limits(bundle, reference):
    policy = Policy(bundle)
    action = policy.act(REST, 100 * reference)
    highest = [signal.high for signal in bundle.manifest.robot.actions]
    np.testing.assert_allclose(action, highest, rtol=1e-6)


def test_reset_forgets_the_plan_only(bundle, reference):
    policy = Policy(bundle)
    changed = bundle.start + np.float32(0.01)
    policy.set_parameters(changed)
    policy.act(REST, reference)
    assert np.abs(policy._plan).max() > 0
    policy.reset()
    np.testing.assert_array_equal(policy._plan, 0.0)
    np.testing.assert_array_equal(policy.parameters, changed)


def test_other_parameters_act_from_the_next_period_on(bundle, reference):
    one, two = Policy(bundle, seed=3), Policy(bundle, seed=3)
    rng = np.random.default_rng(0)
    two.set_parameters(bundle.start + 0.3 * rng.standard_normal(bundle.start.size, np.float32))
    one.act(REST, reference)
    two.act(REST, reference)
    assert not np.array_equal(one.expected, two.expected)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda flat: flat[:-1], "parameters, the bundle has"),
        (lambda flat: np.append(flat, np.float32(0)), "parameters, the bundle has"),
        (
            lambda flat: np.where(np.arange(flat.size) == 5, np.nan, flat),
            "not finite; the old ones",
        ),
        (
            lambda flat: np.where(np.arange(flat.size) == 5, np.inf, flat),
            "not finite; the old ones",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused_and_the_old_ones_stay(
    bundle, reference, spoil, words
):
    policy, untouched = Policy(bundle, seed=3), Policy(bundle, seed=3)
    with pytest.raises(ValueError, match=words):
        policy.set_parameters(spoil(bundle.start + np.float32(1.0)))
    np.testing.assert_array_equal(policy.parameters, bundle.start)
    for _ in range(2):
        np.testing.assert_array_equal(policy.act(REST, reference), untouched.act(REST, reference))


def test_two_policies_of_one_bundle_do_not_share_parameters(bundle):
    one, two = Policy(bundle), Policy(bundle)
    one.set_parameters(bundle.start + np.float32(0.1))
    np.testing.assert_array_equal(two.parameters, bundle.start)
    copy = one.parameters
    copy[:] = 0
    assert one.parameters.any()
