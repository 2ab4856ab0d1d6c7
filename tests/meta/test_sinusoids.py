"""The ground truth: meta-algorithms learn the sinusoids of their papers, joint training does not.

Reptile (arXiv 1803.02999), figure 2: after 32 gradient steps on 10 points a meta-trained network
follows the sinusoid, away from the points too. MAML (arXiv 1703.03400), figures 2 and 3: it nearly
does after the first few steps, and taking more than it was trained for does no harm.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from reptile_agent.meta.algorithms import joint, maml, reptile
from reptile_agent.meta.epsilon import schedule
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learners.regression import RegressionLearner, Sinusoids

LEARNER = RegressionLearner(hidden=(64, 64))
SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ALPHA = 0.02
POINTS = 10
TASKS = 10
"""Per outer step."""


def meta_train(
    direction, iterations: int, k: int, q: int, outer: type[torch.optim.Optimizer], lr: float
) -> dict[str, torch.Tensor]:
    """Support and query are minibatches of 5 out of 10 points each; the step size falls to zero."""
    fresh = LEARNER.init(torch.Generator().manual_seed(0))
    params = {name: value.requires_grad_() for name, value in fresh.items()}
    optimizer = outer(params.values(), lr=lr)
    rng = np.random.default_rng(1)
    inner_lr = step_sizes(params, ALPHA)
    for iteration in range(iterations):
        curves = Sinusoids.draw(rng, TASKS)
        support, query = (curves.minibatches(rng, POINTS, steps, 5) for steps in (k, q))
        found = direction(LEARNER, SGD, params, support, query, inner_lr)
        for name, value in params.items():
            value.grad = found.towards[name]
        optimizer.param_groups[0]["lr"] = lr * schedule("linear", iteration / iterations)
        optimizer.step()
    return {name: value.detach() for name, value in params.items()}


def errors(params: dict[str, torch.Tensor], *steps: int) -> list[float]:
    """Mean squared error all over the curves before, and after so many steps on 10 points."""
    rng = np.random.default_rng(2)
    tasks = Sinusoids.draw(rng, 100)
    support = tasks.minibatches(rng, POINTS, max(steps), POINTS)
    x = np.broadcast_to(np.linspace(-5, 5, 51)[None, :, None], (100, 51, 1))
    query = {"x": torch.tensor(x, dtype=torch.float32)}
    query["y"] = torch.tensor(tasks.at(x), dtype=torch.float32)
    found = [torch.func.vmap(LEARNER.loss, in_dims=(None, 0))(params, query)]
    for k in steps:
        few = {name: value[:, :k] for name, value in support.items()}
        adapted, _ = adapt_tasks(LEARNER, SGD, params, few, step_sizes(params, ALPHA))
        found.append(torch.func.vmap(LEARNER.loss)(adapted, query))
    return [float(losses.mean()) for losses in found]


@pytest.mark.slow
def test_reptile_learns_to_learn_sinusoids():
    before, after = errors(meta_train(reptile.direction, 300, 5, 5, torch.optim.SGD, 1.0), 32)
    assert after < 0.2 * before  # found: 0.12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "k", "iterations"), [(1, 5, 300), (2, 2, 250)], ids=["fomaml", "maml"]
)
def test_maml_of_either_order_learns_to_learn_them_in_few_steps(order, k, iterations):
    direction = partial(maml.direction, order=order)
    before, few, many = errors(
        meta_train(direction, iterations, k, 1, torch.optim.Adam, 5e-3), 5, 32
    )
    assert few < 0.2 * before  # found: 0.14 (fomaml) and 0.11 (maml)
    assert many < 1.2 * few  # found: 0.83 and 0.98


@pytest.mark.slow
def test_joint_training_does_not():
    """It ends at the mean of all curves, zero, from where 32 steps do not lead to the curve."""
    before, few, many = errors(
        meta_train(joint.direction, 500, 5, 1, torch.optim.Adam, 3e-3), 5, 32
    )
    assert few > 0.9 * before  # found: 1.06
    assert many > 0.5 * before  # found: 0.76


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
