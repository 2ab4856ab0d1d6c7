"""reptile_agent.meta.algorithms.reptile against the lines of its paper (arXiv 1803.02999)."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, hessian
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from reptile_agent.meta.algorithms import joint, maml, reptile
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes
from reptile_agent.meta.learners.regression import RegressionLearner

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ADAM = InnerOptimizer(kind="adam", clip_norm=0.0)


def split(batches, k):
    """The first k minibatches of every task, and the others."""
    return {n: v[:, :k] for n, v in batches.items()}, {n: v[:, k:] for n, v in batches.items()}


def of_task(batches, task):
    return {name: value[task : task + 1] for name, value in batches.items()}


def test_with_one_unclipped_step_it_is_joint_training(quadratic, generator, minibatches):
    params, (support, none) = quadratic.init(generator), split(minibatches(5, 1), 1)
    lr = step_sizes(params, 0.03)
    found = reptile.direction(quadratic, SGD, params, support, none, lr)
    gradient = joint.direction(quadratic, SGD, params, support, none, lr)
    for name in params:
        torch.testing.assert_close(found.towards[name], 0.03 * gradient.towards[name])
    torch.testing.assert_close(found.info["before"], gradient.info["before"])


def test_with_more_steps_it_is_not(quadratic, generator, minibatches):
    params, (support, none) = quadratic.init(generator), split(minibatches(5, 10), 10)
    lr = step_sizes(params, 0.3)
    found = reptile.direction(quadratic, SGD, params, support, none, lr).towards["w"]
    gradient = joint.direction(quadratic, SGD, params, support, none, lr).towards["w"]
    assert torch.cosine_similarity(found.flatten(), gradient.flatten(), dim=0) < 0.999


def test_to_leading_order_it_is_the_papers_expansion(quadratic, generator, minibatches):
    """Section 5.1: step i's gradient is `g_i - alpha H_i sum_{j<i} g_j + O(alpha^2)`."""
    params = {name: value.double() for name, value in quadratic.init(generator).items()}
    batches = {name: value.double() for name, value in minibatches(1, 4).items()}
    steps = [{name: value[0, i] for name, value in batches.items()} for i in range(4)]

    def loss(theta, batch):
        return quadratic.loss({"w": theta[:6].view(3, 2), "b": theta[6:]}, batch)

    theta = torch.cat([params["w"].flatten(), params["b"]])
    grads = [grad(loss)(theta, batch) for batch in steps]
    second = [hessian(loss)(theta, b) @ sum(grads[:i]) for i, b in enumerate(steps) if i > 0]

    def rest(alpha):
        found = reptile.direction(
            quadratic, SGD, params, *split(batches, 4), step_sizes(params, alpha)
        ).towards
        mean = torch.cat([found["w"].flatten(), found["b"]]) / alpha
        return (mean - sum(grads) + alpha * sum(second)).norm()

    assert rest(1e-3) < 1e-3 * sum(second).norm()
    assert rest(1e-4) == pytest.approx(1e-2 * float(rest(1e-3)), rel=0.05)


def test_serial_with_sgd_outside_moves_the_start_by_epsilon_towards_the_adapted(
    quadratic, generator, minibatches
):
    epsilon, (support, query) = 0.25, split(minibatches(1, 5), 5)
    params = {n: v.requires_grad_() for n, v in quadratic.init(generator).items()}
    old = {name: value.detach().clone() for name, value in params.items()}
    outer = torch.optim.SGD(params.values(), lr=epsilon)
    lr = step_sizes(old, 0.05)
    towards = reptile.direction(quadratic, SGD, params, support, query, lr).towards
    for name, value in params.items():
        value.grad = towards[name]
    outer.step()
    adapted, *_ = inner_loop(quadratic, SGD, old, {}, {n: v[0] for n, v in support.items()}, lr)
    for name, value in params.items():
        torch.testing.assert_close(
            value.detach(), old[name] + epsilon * (adapted[name] - old[name])
        )


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_batched_is_the_mean_of_the_serial_ones_from_one_start(
    quadratic, generator, minibatches, optimizer
):
    params, (support, query) = quadratic.init(generator), split(minibatches(4, 5), 3)
    lr = step_sizes(params, 0.05)
    batched = reptile.direction(quadratic, optimizer, params, support, query, lr).towards
    serial = [
        reptile.direction(
            quadratic, optimizer, params, of_task(support, i), of_task(query, i), lr
        ).towards
        for i in range(4)
    ]
    for name in params:
        torch.testing.assert_close(batched[name], torch.stack([s[name] for s in serial]).mean(0))


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_query_minibatches_are_further_steps(quadratic, generator, minibatches, optimizer):
    params, batches = quadratic.init(generator), minibatches(3, 6)
    lr = step_sizes(params, 0.05)
    whole, cut = (
        reptile.direction(quadratic, optimizer, params, *split(batches, k), lr) for k in (6, 4)
    )
    torch.testing.assert_close(whole.towards, cut.towards)
    torch.testing.assert_close(whole.info, cut.info)


def test_it_reports_the_inner_loss_before_the_first_and_the_last_step(
    quadratic, generator, minibatches
):
    params, batches = quadratic.init(generator), minibatches(3, 6)
    lr = step_sizes(params, 0.05)
    info = reptile.direction(quadratic, SGD, params, *split(batches, 4), lr).info
    _, inner = adapt_tasks(quadratic, SGD, params, batches, lr)
    torch.testing.assert_close(info["before"], inner["loss"][:, 0].mean())
    torch.testing.assert_close(info["after"], inner["loss"][:, -1].mean())
    assert info["after"] < info["before"]


class _Alive(TorchDispatchMode):
    """The most bytes that the tensors made inside held at once."""

    def __init__(self):
        super().__init__()
        self.peak, self._seen = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._seen[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        self._seen = {p: s for p, s in self._seen.items() if not s[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._seen.values()))
        return out


def test_memory_does_not_grow_with_the_steps(generator):
    learner = RegressionLearner(hidden=(64, 64))
    # Leaves of an outer autograd, which must not record the inner loop either.
    params = {n: v.requires_grad_() for n, v in learner.init(generator).items()}
    lr = step_sizes(params, 0.01)

    def peak(direction, k):
        x = torch.randn(4, k + 1, 2, 1, generator=generator)
        with _Alive() as alive:
            direction(learner, SGD, params, *split({"x": x, "y": x.sin()}, k), lr)
        return alive.peak

    assert peak(reptile.direction, 12) < 1.05 * peak(reptile.direction, 4)
    assert peak(maml.direction, 12) > 2 * peak(maml.direction, 4)  # so this test can see growth
