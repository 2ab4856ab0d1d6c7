"""reptile_agent.meta.algorithms.promp: its terms against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reptile_agent.meta.algorithms import maml, promp
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learner import stack
from reptile_agent.meta.learners.policy_gradient import (
    OnPolicyNormaliser,
    PolicyConfig,
    PolicyGradientLearner,
)

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ALPHA, TASKS, STEPS = 0.2, 4, 12


@pytest.fixture
def learner(robot) -> PolicyGradientLearner:
    normaliser = OnPolicyNormaliser(
        np.zeros(2, np.float32), np.ones(2, np.float32), np.ones((), np.float32)
    )
    return PolicyGradientLearner(robot, PolicyConfig(hidden=(8,), value_weight=0.0), normaliser)


@pytest.fixture
def params(learner, generator):
    return learner.init(generator)


@pytest.fixture
def sampled(learner, generator):
    """Minibatches [tasks, 1, 1, steps, ...] that the policies of `params` [tasks, ...] sampled."""

    def make(params):
        shape = (TASKS, 1, 1, STEPS)
        batch = {
            "obs": torch.randn(*shape, 2, generator=generator),
            "reference": torch.zeros(*shape, 1),
        }
        batch["head"] = learner.evaluate(params, batch)[0].detach()
        noise = torch.randn(*shape, 2, generator=generator)
        batch["action"] = learner.actions.sample(batch["head"], noise)
        return batch | {
            "log_prob": learner.actions.log_prob(batch["head"], batch["action"]),
            "advantage": torch.randn(*shape, generator=generator),
            "value_target": torch.zeros(shape),
            "weight": torch.ones(shape),
        }

    return make


@pytest.fixture
def experience(learner, params, sampled):
    """Support of the start and query of the adapted policies."""
    support = sampled(params)
    adapted, _ = adapt_tasks(learner, SGD, params, support, step_sizes(params, ALPHA))
    return support, sampled(adapted)


def go(learner, params, support, query, clip=0.3, eta=(0.0,), alpha=ALPHA):
    lr = step_sizes(params, alpha)
    eta = torch.tensor(eta)
    return promp.direction(learner, SGD, params, support, query, lr, clip=clip, eta=eta)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "moves"),
    [
        (1.1, 2.0, 2.2, True),
        (1.5, 2.0, 2.4, False),  # far enough up: no more
        (1.5, -2.0, -3.0, True),  # the wrong way: back
        (0.5, 2.0, 1.0, True),
        (0.5, -2.0, -1.6, False),  # far enough down
    ],
)
def test_the_clipped_objective_of_one_step(learner, params, sampled, ratio, advantage, gain, moves):
    batch = {name: value[0, 0, :, :1] for name, value in sampled(params).items()}
    batch["log_prob"] = batch["log_prob"] - math.log(ratio)
    batch["advantage"] = torch.full((1, 1), advantage)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss = learner.clipped_loss(leaves, batch, clip=0.2)
    assert -loss.item() == pytest.approx(gain, rel=1e-5)
    loss.backward()
    assert bool(leaves["policy.b1"].grad.abs().max() > 1e-3) is moves
    # The inner objective never clips.
    assert -learner.loss(params, batch).item() == pytest.approx(ratio * advantage, rel=1e-5)


def test_where_nothing_has_moved_it_is_maml(learner, params, experience):
    support, query = experience
    found = go(learner, params, support, query)
    wanted = maml.direction(learner, SGD, params, support, query, step_sizes(params, ALPHA))
    for name in params:
        torch.testing.assert_close(found.towards[name], wanted.towards[name])
    torch.testing.assert_close(found.info["before"], wanted.info["before"])
    torch.testing.assert_close(found.info["after"], wanted.info["after"])
    torch.testing.assert_close(found.info["divergence"], torch.zeros(1), atol=1e-6, rtol=0)


def test_once_every_ratio_is_clipped_only_the_divergence_pulls(learner, params, experience):
    support, query = experience
    # As if the adapted policy had gone far where that pays.
    query = query | {"log_prob": query["log_prob"] - 5 * query["advantage"].sign()}
    still = go(learner, params, support, query)
    assert all((value == 0).all() for value in still.towards.values())
    moved = params | {"policy.log_std": params["policy.log_std"] + 0.1}
    leaves = {name: value.clone().requires_grad_() for name, value in moved.items()}
    flat = {name: value.flatten(0, 2) for name, value in support.items()}
    learner.divergence(leaves, flat).backward()
    support_only = go(learner, moved, support, query, eta=(0.7,), alpha=0.0)
    wanted = 0.7 * leaves["policy.log_std"].grad
    torch.testing.assert_close(support_only.towards["policy.log_std"], wanted)
    assert support_only.info["divergence"].item() == pytest.approx(
        2 * (0.1 + 0.5 * math.exp(-0.2) - 0.5), rel=1e-4
    )


def test_every_inner_step_has_a_divergence_of_its_own(learner, params, sampled):
    first = sampled(params)
    adapted, _ = adapt_tasks(learner, SGD, params, first, step_sizes(params, ALPHA))
    second, query = sampled(adapted), sampled(adapted)
    support = {name: torch.cat([first[name], second[name]], 1) for name in first}
    found = go(learner, params, support, query, eta=(0.1, 0.1))
    torch.testing.assert_close(found.info["divergence"], torch.zeros(2), atol=1e-6, rtol=0)
    shifted = params | {"policy.log_std": params["policy.log_std"] + 0.1}
    found = go(learner, shifted, support, query, eta=(0.1, 0.1))
    assert (found.info["divergence"] > 0.005).all()


def test_without_a_way_to_adapt_it_is_ppo_on_the_query(learner, params, sampled):
    support, query = sampled(params), sampled(params)
    found = go(learner, params, support, query, alpha=0.0)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    every = stack(leaves, TASKS)
    losses = [
        learner.clipped_loss(
            {name: value[task] for name, value in every.items()},
            {name: value[task, 0] for name, value in query.items()},
            0.3,
        )
        for task in range(TASKS)
    ]
    torch.stack(losses).mean().backward()
    for name, leaf in leaves.items():
        grad = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        torch.testing.assert_close(found.towards[name], grad)


def test_the_penalty_follows_the_divergence():
    found = promp.adapted_eta(np.full(4, 0.1), np.array([0.02, 0.012, 0.008, 0.005]), 0.01)
    np.testing.assert_allclose(found, [0.2, 0.1, 0.1, 0.05])
