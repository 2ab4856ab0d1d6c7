"""The ground truth: Reptile learns the sinusoids of its paper, and joint training does not.

Reptile paper (arXiv 1803.02999), figure 2: after 32 gradient steps on 10 points a network that
was meta-trained follows the sinusoid, elsewhere too.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reptile_agent.meta.algorithms import joint, reptile
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learners.regression import RegressionLearner, Sinusoids

LEARNER = RegressionLearner(hidden=(64, 64))
SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ALPHA = 0.02
POINTS, STEPS = 10, 32
TASKS = 10
"""Per outer step."""


def meta_train(algorithm, iterations: int, lr: float) -> dict[str, torch.Tensor]:
    """The paper's loop, its step size falling to zero: SGD outside for Reptile, Adam for joint."""
    fresh = LEARNER.init(torch.Generator().manual_seed(0))
    params = {name: value.requires_grad_() for name, value in fresh.items()}
    kind = torch.optim.SGD if algorithm is reptile else torch.optim.Adam
    optimizer = kind(params.values(), lr=lr)
    rng = np.random.default_rng(1)
    inner_lr = step_sizes(params, ALPHA)
    for iteration in range(iterations):
        batches = Sinusoids.draw(rng, TASKS).minibatches(rng, POINTS, 10, 5)
        start = {name: value.detach() for name, value in params.items()}
        towards, _ = algorithm.direction(LEARNER, SGD, start, batches, inner_lr)
        for name, value in params.items():
            value.grad = towards[name]
        optimizer.param_groups[0]["lr"] = lr * (1 - iteration / iterations)
        optimizer.step()
    return {name: value.detach() for name, value in params.items()}


def errors(params: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Mean squared error on points not trained on, before and after 32 steps on 10 points."""
    rng = np.random.default_rng(2)
    tasks = Sinusoids.draw(rng, 100)
    support = tasks.minibatches(rng, POINTS, STEPS, POINTS)
    x = np.broadcast_to(np.linspace(-5, 5, 51)[None, :, None], (100, 51, 1))
    query = {"x": torch.tensor(x, dtype=torch.float32)}
    query["y"] = torch.tensor(tasks.at(x), dtype=torch.float32)
    adapted, _ = adapt_tasks(LEARNER, SGD, params, support, step_sizes(params, ALPHA))
    after = torch.func.vmap(LEARNER.loss)(adapted, query).mean()
    before = torch.func.vmap(LEARNER.loss, in_dims=(None, 0))(params, query).mean()
    return float(before), float(after)


@pytest.mark.slow
def test_reptile_learns_to_learn_sinusoids_and_joint_training_does_not():
    before, after = errors(meta_train(reptile, iterations=400, lr=1.0))
    assert after < 0.2 * before  # found: 0.11
    # Joint training gets three times as much data, and ends at the mean of all curves: zero.
    before, joint_after = errors(meta_train(joint, iterations=1500, lr=1e-3))
    assert joint_after > 0.5 * before  # found: 0.72
    assert after < 0.25 * joint_after


def test_curves_are_those_of_the_paper():
    tasks = Sinusoids.draw(np.random.default_rng(0), 2000)
    assert tasks.amplitude.min() >= 0.1
    assert tasks.amplitude.max() <= 5.0
    assert tasks.phase.max() <= 2 * np.pi
    x = np.linspace(-5, 5, 7)[None].repeat(2000, axis=0)
    wanted = tasks.amplitude[:, None] * np.sin(x + tasks.phase[:, None])
    np.testing.assert_allclose(tasks.at(x), wanted)


def test_all_minibatches_of_a_task_come_from_its_few_points():
    rng = np.random.default_rng(0)
    tasks = Sinusoids.draw(rng, 3)
    batches = tasks.minibatches(rng, points=10, steps=8, batch=5)
    assert batches["x"].shape == (3, 8, 5, 1)
    assert batches["x"].abs().max() <= 5
    for task in range(3):
        assert batches["x"][task].unique().numel() == 10
        # Two minibatches of 5 go once through all 10.
        assert batches["x"][task, :2].unique().numel() == 10
    wanted = tasks.at(batches["x"].double().numpy())
    np.testing.assert_allclose(batches["y"], wanted, atol=1e-5)
