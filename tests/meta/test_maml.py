"""reptile_agent.meta.algorithms.maml: closed forms on quadratics, and finite differences."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from reptile_agent.meta.algorithms import maml
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learner import Learner

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ADAM = InnerOptimizer(kind="adam", clip_norm=0.0)
CLIPPED = InnerOptimizer(kind="sgd", clip_norm=1.0)
PULLED = InnerOptimizer(kind="sgd", clip_norm=0.0, proximal=0.5)
ALPHA, TASKS, K, Q = 0.1, 3, 3, 2


@pytest.fixture
def problem(quadratic, generator, minibatches):
    """Learner, start, support and query in float64."""
    batches = {name: value.double() for name, value in minibatches(TASKS, K + Q).items()}
    params = {name: value.double() for name, value in quadratic.init(generator).items()}
    support = {name: value[:, :K] for name, value in batches.items()}
    return quadratic, params, support, {name: value[:, K:] for name, value in batches.items()}


def by_hand(params, support, query) -> tuple[Tensor, Tensor]:
    """FOMAML's and MAML's direction for `mean((A theta - y)^2)`, theta = [w; b], A = [x, 1].

    A step is `theta - alpha H theta + ...` with `H = A'A / 6` (2 / (6 points * 2 outputs)), so
    MAML's gradient is FOMAML's, `g = mean_q A'(A theta_k - y) / 6`, times every step's
    `(I - alpha H)`.
    """
    first, second = [], []
    for task in range(TASKS):
        theta = torch.cat([params["w"], params["b"][None]])
        jacobian = torch.eye(4, dtype=theta.dtype)

        def matrices(batch, i, task=task):
            x, y = batch["x"][task, i], batch["y"][task, i]
            return torch.cat([x, torch.ones_like(x[:, :1])], dim=1), y

        for i in range(K):
            a, y = matrices(support, i)
            theta = theta - ALPHA * a.T @ (a @ theta - y) / 6
            jacobian = (torch.eye(4, dtype=theta.dtype) - ALPHA * a.T @ a / 6) @ jacobian
        pairs = [matrices(query, i) for i in range(Q)]
        g = torch.stack([a.T @ (a @ theta - y) / 6 for a, y in pairs]).mean(0)
        first.append(g)
        second.append(jacobian.T @ g)
    return torch.stack(first).mean(0), torch.stack(second).mean(0)


@pytest.mark.parametrize("order", [1, 2])
def test_on_a_quadratic_it_is_the_closed_form_and_fomaml_lacks_the_second_order_term(
    problem, order
):
    learner, params, support, query = problem
    lr = step_sizes(params, ALPHA)
    found = maml.direction(learner, SGD, params, support, query, lr, order=order).towards
    wanted = by_hand(params, support, query)
    assert (wanted[0] - wanted[1]).norm() > 0.05 * wanted[1].norm()
    torch.testing.assert_close(torch.cat([found["w"], found["b"][None]]), wanted[order - 1])


def outer_loss(learner, optimizer, params, support, query, lr) -> float:
    """What MAML minimises: the mean query loss of the adapted."""
    adapted, _ = adapt_tasks(learner, optimizer, params, support, lr)
    losses = [
        learner.loss(
            {name: value[task] for name, value in adapted.items()},
            {name: value[task, i] for name, value in query.items()},
        )
        for task in range(TASKS)
        for i in range(Q)
    ]
    return float(torch.stack(losses).mean())


def nudged(params, name, index, by):
    value = params[name].clone()
    value.view(-1)[index] += by
    return params | {name: value}


@pytest.mark.parametrize(
    "optimizer", [SGD, ADAM, CLIPPED, PULLED], ids=["sgd", "adam", "clipped", "proximal"]
)
def test_its_gradients_are_finite_differences_of_the_outer_loss(problem, optimizer):
    learner, params, support, query = problem
    lr = step_sizes(params, ALPHA) | {"b": torch.tensor(0.03, dtype=torch.float64)}
    found = maml.direction(learner, optimizer, params, support, query, lr, learn_lr=True)
    torch.testing.assert_close(
        float(found.info["after"]), outer_loss(learner, optimizer, params, support, query, lr)
    )

    h = 1e-6
    for name, index in [("w", 0), ("w", 3), ("b", 1)]:
        up, down = (
            outer_loss(learner, optimizer, nudged(params, name, index, by), support, query, lr)
            for by in (h, -h)
        )
        gradient = float(found.towards[name].flatten()[index])
        assert gradient == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-8)
    assert found.log_lr is not None
    for name in params:
        up, down = (
            outer_loss(learner, optimizer, params, support, query, lr | {name: lr[name] * factor})
            for factor in (1 + h, 1 - h)
        )
        gradient = float(found.log_lr[name])
        assert gradient == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("order", [1, 2])
def test_a_meta_batch_is_the_mean_of_its_tasks(problem, order):
    learner, params, support, query = problem
    lr = step_sizes(params, ALPHA)

    def of(task):
        one = slice(task, task + 1)
        parts = ({name: value[one] for name, value in part.items()} for part in (support, query))
        return maml.direction(learner, SGD, params, *parts, lr, order=order)

    together = maml.direction(learner, SGD, params, support, query, lr, order=order)
    alone = [of(task) for task in range(TASKS)]
    for name in params:
        mean = torch.stack([a.towards[name] for a in alone]).mean(0)
        torch.testing.assert_close(together.towards[name], mean)
    for name in ("before", "after"):
        mean = torch.stack([a.info[name] for a in alone]).mean()
        torch.testing.assert_close(together.info[name], mean)
    first = {name: value[:, 0].flatten(0, 1) for name, value in support.items()}
    torch.testing.assert_close(together.info["before"], learner.loss(params, first))


@dataclass(frozen=True)
class Bootstrapped(Learner):
    """TD in small: the loss looks at a detached target that follows the weight after a step."""

    detach: bool = True

    def loss(self, params, batch):
        target = params["target"].detach() if self.detach else params["target"]
        return (params["w"] - 0.5 * target - batch["y"]).square().mean()

    def after_step(self, params):
        return params | {"target": 0.9 * params["target"] + 0.1 * params["w"]}


@pytest.mark.parametrize("optimizer", [SGD, PULLED], ids=["sgd", "proximal"])
@pytest.mark.parametrize("order", [1, 2])
def test_target_networks_get_no_gradient_and_the_others_a_finite_one(order, optimizer):
    params = {"w": torch.tensor(1.0), "target": torch.tensor(2.0)}
    batches = {"y": torch.randn(TASKS, K, 4)}
    found = maml.direction(
        Bootstrapped(), optimizer, params, batches, batches, step_sizes(params, ALPHA), order=order
    )
    assert found.towards["w"].isfinite()
    assert found.towards["w"] != 0
    assert found.towards["target"] == 0


def test_the_second_order_sees_how_a_target_follows():
    """One step: w' = w - 2 a (w - t/2), t' = 0.9 t + 0.1 w'; the query is (w' - t'/2)^2."""
    w, t, a = 1.0, 2.0, ALPHA
    params = {"w": torch.tensor(w), "target": torch.tensor(t)}
    batch = {"y": torch.zeros(1, 1, 1)}
    learner, lr = Bootstrapped(detach=False), step_sizes(params, a) | {"target": torch.tensor(0.0)}
    found = maml.direction(learner, SGD, params, batch, batch, lr).towards
    moved = w - 2 * a * (w - t / 2)
    error = moved - (0.9 * t + 0.1 * moved) / 2
    torch.testing.assert_close(found["w"], torch.tensor(2 * error * 0.95 * (1 - 2 * a)))
    torch.testing.assert_close(found["target"], torch.tensor(2 * error * (0.95 * a - 0.45)))


@pytest.mark.parametrize("order", [1, 2])
def test_without_a_query_minibatch_it_says_so(problem, order):
    learner, params, support, query = problem
    none = {name: value[:, :0] for name, value in query.items()}
    with pytest.raises(ValueError, match="q must be at least 1"):
        maml.direction(learner, SGD, params, support, none, step_sizes(params, ALPHA), order=order)


@pytest.mark.parametrize("optimizer", [ADAM, CLIPPED], ids=["adam", "clipped"])
def test_where_the_inner_gradient_is_exactly_zero_the_outer_one_is_finite(problem, optimizer):
    learner, params, support, query = problem
    fitted = {"x": 0 * support["x"], "y": 0 * support["y"] + params["b"]}
    lr = step_sizes(params, ALPHA)
    found = maml.direction(learner, optimizer, params, fitted, query, lr, learn_lr=True)
    assert found.log_lr is not None
    assert found.info["before"] == 0
    for gradient in (*found.towards.values(), *found.log_lr.values()):
        assert gradient.isfinite().all()
