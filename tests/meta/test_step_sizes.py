"""reptile_agent.meta.algorithms.step_sizes: learned step sizes go where the best ones are known."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from reptile_agent.meta.algorithms import joint, maml, reptile
from reptile_agent.meta.algorithms.step_sizes import from_log, to_log
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
METHODS = {
    "reptile": reptile.direction,
    "joint": joint.direction,
    "fomaml": partial(maml.direction, order=1),
    "maml": maml.direction,
}
every_method = pytest.mark.parametrize("direction", METHODS.values(), ids=METHODS.keys())


def split(batches, k):
    """The first k minibatches of every task, and the others."""
    return {n: v[:, :k] for n, v in batches.items()}, {n: v[:, k:] for n, v in batches.items()}


@every_method
def test_they_go_to_the_inverse_of_each_tensors_curvature(quadratic, generator, direction):
    """On orthogonal inputs of length 2 the curvature is 4 for w and 1 for b: one step fits all."""
    signs = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float32)
    x = (2 * signs).expand(8, 2, 4, 3)
    true = [torch.randn(8, 1, *shape, generator=generator) for shape in ((3, 2), (1, 2))]
    support, query = split({"x": x, "y": x @ true[0] + true[1]}, 1)
    params = quadratic.init(generator)
    log_lr = to_log(step_sizes(params, 0.05))
    outer = torch.optim.Adam([v.requires_grad_() for v in log_lr.values()], lr=0.1)
    for _ in range(120):
        lr = {name: value.detach() for name, value in from_log(log_lr).items()}
        found = direction(quadratic, SGD, params, support, query, lr, learn_lr=True).log_lr
        for name, value in log_lr.items():
            value.grad = found[name]
        outer.step()
    lr = {name: value.detach() for name, value in from_log(log_lr).items()}
    assert {name: float(value) for name, value in lr.items()} == pytest.approx(
        {"w": 0.25, "b": 1.0}, rel=0.02
    )
    adapted, _ = adapt_tasks(quadratic, SGD, params, support, lr)
    torch.testing.assert_close(adapted["w"], true[0][:, 0], rtol=0, atol=0.05)


def of_methods(learner, optimizer, params, batches, k, lr):
    arguments = (learner, optimizer, params, *split(batches, k), lr)
    return {name: f(*arguments, learn_lr=True).log_lr for name, f in METHODS.items()}


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_for_one_step_the_first_order_is_exact(quadratic, generator, minibatches, kind):
    params, batches = quadratic.init(generator), minibatches(3, 3)
    optimizer = InnerOptimizer(kind=kind, clip_norm=0.0)
    found = of_methods(quadratic, optimizer, params, batches, 1, step_sizes(params, 0.1))
    for name in ("reptile", "joint", "fomaml"):
        torch.testing.assert_close(found[name], found["maml"])


def test_for_more_steps_it_lacks_terms_of_the_order_of_the_step_size(
    quadratic, generator, minibatches
):
    params, batches = quadratic.init(generator), minibatches(3, 6)

    def miss(lr):
        found = of_methods(quadratic, SGD, params, batches, 4, step_sizes(params, lr))
        return float((found["reptile"]["w"] / found["maml"]["w"] - 1).abs())

    assert 0.01 < miss(0.1) < 0.5
    assert miss(0.001) < 0.02 * miss(0.1)


@every_method
def test_a_frozen_tensor_stays_frozen(quadratic, generator, minibatches, direction):
    params, batches = quadratic.init(generator), minibatches(3, 4)
    lr = from_log(to_log(step_sizes(params, 0.1, {"w": 0.0})))
    assert lr["w"] == 0
    found = direction(quadratic, SGD, params, *split(batches, 2), lr, learn_lr=True).log_lr
    assert found["w"] == 0
    assert found["b"] != 0


@every_method
def test_they_are_only_computed_when_asked_for(quadratic, generator, minibatches, direction):
    params, batches = quadratic.init(generator), minibatches(3, 4)
    arguments = (quadratic, SGD, params, *split(batches, 2), step_sizes(params, 0.1))
    plain, learning = direction(*arguments), direction(*arguments, learn_lr=True)
    assert plain.log_lr is None
    assert set(learning.log_lr) == set(params)
    torch.testing.assert_close(plain.towards, learning.towards)


@every_method
def test_they_need_query_minibatches(quadratic, generator, minibatches, direction):
    params, batches = quadratic.init(generator), minibatches(3, 4)
    with pytest.raises(ValueError, match="q must be at least 1"):
        direction(
            quadratic, SGD, params, *split(batches, 4), step_sizes(params, 0.1), learn_lr=True
        )
