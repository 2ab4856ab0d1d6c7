"""reptile_agent.meta.algorithms.joint: one gradient, every point alike."""

from __future__ import annotations

import torch

from reptile_agent.meta.algorithms import joint
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)


def test_it_weighs_every_point_of_every_task_of_support_and_query_alike(
    quadratic, generator, minibatches
):
    params, batches = quadratic.init(generator), minibatches(3, 4)
    support = {name: value[:, :3] for name, value in batches.items()}
    query = {name: value[:, 3:] for name, value in batches.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss = quadratic.loss(leaves, {n: v.reshape(-1, v.shape[-1]) for n, v in batches.items()})
    loss.backward()
    found = joint.direction(quadratic, SGD, params, support, query, {})
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.towards[name], leaf.grad)
    torch.testing.assert_close(found.info, {"before": loss.detach(), "after": loss.detach()})
    assert found.log_lr is None


def test_learning_step_sizes_leaves_its_gradient_as_it_is(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), minibatches(3, 2)
    lr = step_sizes(params, 0.05)
    plain = joint.direction(quadratic, SGD, params, batches, batches, lr)
    learning = joint.direction(quadratic, SGD, params, batches, batches, lr, learn_lr=True)
    torch.testing.assert_close(plain.towards, learning.towards)
    assert learning.log_lr is not None
