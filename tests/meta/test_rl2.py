"""reptile_agent.meta.algorithms.rl2: what a recurrent policy remembers, and until when."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from targets import Targets

from reptile_agent.meta.algorithms import rl2
from reptile_agent.meta.learners.policy_gradient import OnPolicyNormaliser, PolicyConfig
from reptile_agent.meta.learners.recurrent import RecurrentLearner
from reptile_agent.meta.on_policy import Sampling, minibatch, sample

STEPS, EPISODES = 4, 3
ONE = np.ones(1, np.float32)


@pytest.fixture
def family() -> Targets:
    return Targets()


@pytest.fixture
def learner(family) -> RecurrentLearner:
    normaliser = OnPolicyNormaliser(0 * ONE, ONE, ONE[0])
    return RecurrentLearner(family.robot, PolicyConfig(hidden=(16,)), normaliser)


@pytest.fixture
def params(learner, generator):
    fresh = learner.init(generator)
    return fresh | {"policy.w0": 30 * fresh["policy.w0"]}  # so that what it remembers shows


def trial(family, learner, params, targets, seed=0, **task):
    sim = family.make_sim([{"target": target, **task} for target in targets])
    rng = np.random.default_rng(seed)
    return sample(sim, learner, params, len(targets), STEPS, rng, EPISODES)


def means(found, task, episode):
    """What the policy chose around, [steps]; the task's only lane."""
    return found.head[task, 0, :, 0].unflatten(0, (EPISODES, STEPS))[episode]


def test_what_one_episode_paid_changes_the_next(family, learner, params):
    one = trial(family, learner, params, [0.8, 0.3])
    two = trial(family, learner, params, [-0.8, 0.3])
    # The same start, noise and measurements: before the first reward nothing can differ.
    assert means(one, 0, 0)[0] == means(two, 0, 0)[0]
    assert not torch.allclose(means(one, 0, 1)[0], means(two, 0, 1)[0], atol=1e-4)
    assert not torch.allclose(means(one, 0, 2)[0], means(two, 0, 2)[0], atol=1e-4)


def test_what_one_task_paid_changes_no_other(family, learner, params):
    one = trial(family, learner, params, [0.8, 0.3])
    two = trial(family, learner, params, [-0.8, 0.3])
    torch.testing.assert_close(one.head[1], two.head[1], rtol=0, atol=0)


def test_tasks_that_are_exchanged_exchange_what_is_done_in_them(family, learner, params):
    """With one noise for all lanes, each does what its own task taught, wherever it stands."""

    class OneNoise:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def integers(self, high):
            return self.rng.integers(high)

        def standard_normal(self, size, dtype):
            steps, _, outputs = size
            drawn = self.rng.standard_normal((steps, 1, outputs), dtype=dtype)
            return np.broadcast_to(drawn, size).copy()

    def run(targets):
        sim = family.make_sim([{"target": target, "noisy": 0.0} for target in targets])
        return sample(sim, learner, params, 3, STEPS, OneNoise(), EPISODES).head

    order = [2, 0, 1]
    targets = [0.8, -0.8, 0.1]
    exchanged = run([targets[i] for i in order])
    torch.testing.assert_close(exchanged, run(targets)[order])
    assert not torch.allclose(exchanged[0], exchanged[1])


def test_a_new_trial_begins_with_nothing_remembered(family, learner, params):
    sim = family.make_sim([{"target": 0.8}])
    first = sample(sim, learner, params, 1, STEPS, np.random.default_rng(0), EPISODES)
    again = sample(sim, learner, params, 1, STEPS, np.random.default_rng(0), EPISODES)
    torch.testing.assert_close(first.head, again.head, rtol=0, atol=0)


def test_the_policy_is_told_what_it_did_what_that_brought_and_when_it_was_over(
    family, learner, params
):
    found = trial(family, learner, params, [0.8])
    seen = {name: value[0, 0] for name, value in found.inputs.items()}
    assert seen["last_action"][0] == seen["last_reward"][0] == seen["last_over"][0] == 0
    torch.testing.assert_close(seen["last_action"][1:], found.action[0, 0])
    torch.testing.assert_close(seen["last_reward"][1:], found.reward[0, 0])
    assert seen["last_over"].nonzero().flatten().tolist() == [STEPS, 2 * STEPS, 3 * STEPS]


def test_a_lane_that_fell_waits_for_the_next_episode(family, learner, params):
    found = trial(family, learner, params, [0.8], lasts=2)
    assert found.weight[0, 0].tolist() == [1, 1, 0, 0] * EPISODES
    assert found.steps[0, 0].tolist() == [2] * EPISODES
    assert (found.reward[found.weight == 0] == 0).all()
    over = found.inputs["last_over"][0, 0].tolist()
    assert over == [0, *[0, 1, 1, 1] * EPISODES]
    # Only with the last episode is the trial over.
    assert found.terminal[0, 0].nonzero().flatten().tolist() == [2 * STEPS + 1]


def test_along_a_trial_the_network_is_what_it_was_step_by_step(family, learner, params):
    found = trial(family, learner, params, [0.8, -0.8], lasts=3)
    head, value = learner.evaluate(params, found.inputs)
    torch.testing.assert_close(head[:, :, :-1], found.head)
    assert value.shape == (2, 1, EPISODES * STEPS + 1)


def test_what_comes_in_the_next_episode_is_an_advantage_in_this_one(family, learner, params):
    found = trial(family, learner, params, [0.8, -0.8])
    richer = found.reward.clone()
    richer[0, 0, STEPS + 1] += 50.0  # in the second episode
    sampling = Sampling(episode_steps=STEPS, gae_lambda=1.0, fit_baseline=False)
    plain, paid = (
        minibatch(learner, params, one, sampling)["value_target"][0, 0]
        for one in (found, dataclasses.replace(found, reward=richer))
    )
    assert (paid[: STEPS + 2] > plain[: STEPS + 2] + 0.1).all()
    torch.testing.assert_close(paid[STEPS + 2 :], plain[STEPS + 2 :])


def test_its_direction_is_ppos_over_all_trials(family, learner, params):
    found = trial(family, learner, params, [0.8, -0.8])
    batch = minibatch(learner, params, found, Sampling(episode_steps=STEPS))
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    learner.clipped_loss(leaves, batch, 0.2).backward()
    towards = rl2.direction(learner, params, batch, 0.2).towards
    for name, leaf in leaves.items():
        torch.testing.assert_close(towards[name], leaf.grad)
        assert leaf.grad.abs().max() > 0
