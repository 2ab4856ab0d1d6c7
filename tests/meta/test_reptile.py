"""reptile_agent.meta.algorithms: what the start is moved by."""

from __future__ import annotations

import pytest
import torch

from reptile_agent.meta.algorithms import joint, reptile
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)


def test_with_one_unclipped_step_it_is_joint_training(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), minibatches(5, 1)
    alpha = 0.03
    towards, info = reptile.direction(quadratic, SGD, params, batches, step_sizes(params, alpha))
    gradient, joint_info = joint.direction(quadratic, SGD, params, batches, {})
    for name in params:
        torch.testing.assert_close(towards[name], alpha * gradient[name])
    torch.testing.assert_close(info["before"], joint_info["before"])


def test_with_more_steps_it_is_not(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), minibatches(5, 10)
    towards, _ = reptile.direction(quadratic, SGD, params, batches, step_sizes(params, 0.3))
    gradient, _ = joint.direction(quadratic, SGD, params, batches, {})
    cosine = torch.cosine_similarity(towards["w"].flatten(), gradient["w"].flatten(), dim=0)
    assert cosine < 0.999


@pytest.mark.parametrize("tasks", [1, 4], ids=["serial", "batched"])
def test_outer_sgd_moves_the_start_by_epsilon_towards_the_mean_of_the_adapted(
    quadratic, generator, minibatches, tasks
):
    epsilon, batches = 0.3, minibatches(tasks, 5)
    params = {n: v.requires_grad_() for n, v in quadratic.init(generator).items()}
    old = {name: value.detach().clone() for name, value in params.items()}
    outer = torch.optim.SGD(params.values(), lr=epsilon)
    lr = step_sizes(old, 0.05)
    towards, _ = reptile.direction(quadratic, SGD, old, batches, lr)
    for name, value in params.items():
        value.grad = towards[name]
    outer.step()
    alone = [
        inner_loop(quadratic, SGD, old, {}, {n: v[i] for n, v in batches.items()}, lr)[0]
        for i in range(tasks)
    ]
    for name, value in params.items():
        mean = torch.stack([a[name] - old[name] for a in alone]).mean(0)
        torch.testing.assert_close(value.detach(), old[name] + epsilon * mean)


def test_it_reports_the_inner_loss_before_the_first_and_the_last_step(
    quadratic, generator, minibatches
):
    params, batches = quadratic.init(generator), minibatches(3, 6)
    lr = step_sizes(params, 0.05)
    _, info = reptile.direction(quadratic, SGD, params, batches, lr)
    _, inner = adapt_tasks(quadratic, SGD, params, batches, lr)
    torch.testing.assert_close(info["before"], inner["loss"][:, 0].mean())
    torch.testing.assert_close(info["after"], inner["loss"][:, -1].mean())
    assert info["after"] < info["before"]


def test_joint_training_weighs_every_point_of_every_task_alike(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), minibatches(3, 2)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    flat = {name: value.reshape(-1, value.shape[-1]) for name, value in batches.items()}
    quadratic.loss(leaves, flat).backward()
    gradient, _ = joint.direction(quadratic, SGD, params, batches, {})
    for name, leaf in leaves.items():
        torch.testing.assert_close(gradient[name], leaf.grad)
