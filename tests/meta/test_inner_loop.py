"""reptile_agent.meta.inner_loop: k steps are the k steps that torch's own optimizers take."""

from __future__ import annotations

import pytest
import torch

from reptile_agent.meta.inner_loop import (
    InnerOptimizer,
    adapt_tasks,
    inner_loop,
    inner_step,
    step_sizes,
)
from reptile_agent.meta.learner import Learner, stack

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
ADAM = InnerOptimizer(kind="adam", clip_norm=0.0, beta2=0.99, eps=1e-6)


def by_torch(learner, make_optimizer, params, batches, clip: float = 0.0):
    """The same loop by autograd and a torch.optim optimizer."""
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimizer = make_optimizer(list(params.values()))
    losses, norms = [], []
    for step in range(batches["x"].shape[0]):
        optimizer.zero_grad()
        loss = learner.loss(params, {name: value[step] for name, value in batches.items()})
        loss.backward()
        norms.append(torch.cat([p.grad.flatten() for p in params.values()]).norm())
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
        losses.append(loss.detach())
    return {n: p.detach() for n, p in params.items()}, torch.stack(losses), torch.stack(norms)


def run(learner, optimizer, params, batches, lr):
    adapted, _, info = inner_loop(
        learner, optimizer, params, optimizer.init(params), batches, step_sizes(params, lr)
    )
    return adapted, info


def first(batches):
    return {name: value[0] for name, value in batches.items()}


@pytest.mark.parametrize("k", [1, 2, 7])
def test_sgd_is_torchs_sgd(quadratic, generator, minibatches, k):
    params, batches = quadratic.init(generator), first(minibatches(1, k))
    adapted, info = run(quadratic, SGD, params, batches, 0.05)
    wanted, losses, norms = by_torch(
        quadratic, lambda p: torch.optim.SGD(p, lr=0.05), params, batches
    )
    torch.testing.assert_close(adapted, wanted)
    torch.testing.assert_close(info["loss"], losses)
    torch.testing.assert_close(info["grad_norm"], norms)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_adam_is_torchs_adam_without_momentum(quadratic, generator, minibatches, k):
    params, batches = quadratic.init(generator), first(minibatches(1, k))
    adapted, _ = run(quadratic, ADAM, params, batches, 0.05)

    def adam(p):
        return torch.optim.Adam(p, lr=0.05, betas=(0.0, 0.99), eps=1e-6)

    wanted, *_ = by_torch(quadratic, adam, params, batches)
    torch.testing.assert_close(adapted, wanted)


def test_adams_epsilon_counts_where_gradients_are_tiny(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), first(minibatches(1, 3))

    class Faint(Learner):
        def loss(self, params, batch):
            return 1e-7 * quadratic.loss(params, batch)

    def adam(p):
        return torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.99), eps=1e-6)

    adapted, _ = run(Faint(), ADAM, params, batches, 0.1)
    wanted, *_ = by_torch(Faint(), adam, params, batches)
    torch.testing.assert_close(adapted, wanted)
    assert (adapted["w"] - params["w"]).abs().max() < 0.15  # without it: 0.3, signs only


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_long_gradients_are_scaled_to_the_clip_and_short_ones_left(
    quadratic, generator, minibatches, clip
):
    params, batches = quadratic.init(generator), first(minibatches(1, 5))
    adapted, info = run(
        quadratic, InnerOptimizer(kind="sgd", clip_norm=clip), params, batches, 0.05
    )
    wanted, _, norms = by_torch(
        quadratic, lambda p: torch.optim.SGD(p, lr=0.05), params, batches, clip
    )
    torch.testing.assert_close(adapted, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(info["grad_norm"], norms)  # before the clip


def test_a_clipped_step_is_as_long_as_the_clip_says(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), first(minibatches(1, 1))
    adapted, info = run(quadratic, InnerOptimizer(clip_norm=0.1), params, batches, 0.5)
    moved = torch.cat([(adapted[n] - params[n]).flatten() for n in params]).norm()
    assert info["grad_norm"] > 0.1
    assert moved == pytest.approx(0.5 * 0.1, rel=1e-4)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, InnerOptimizer()], ids=["sgd", "adam", "clip"])
def test_many_tasks_at_once_are_a_loop_over_tasks(quadratic, generator, minibatches, optimizer):
    params, batches = quadratic.init(generator), minibatches(4, 3)
    lr = step_sizes(params, 0.05)
    adapted, info = adapt_tasks(quadratic, optimizer, params, batches, lr)
    for task in range(4):
        one = {name: value[task] for name, value in batches.items()}
        alone, alone_info = run(quadratic, optimizer, params, one, 0.05)
        for name in params:
            torch.testing.assert_close(adapted[name][task], alone[name])
        torch.testing.assert_close(info["loss"][task], alone_info["loss"])
    assert info["loss"].shape == (4, 3)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_every_task_may_have_a_start_of_its_own(quadratic, generator, minibatches, optimizer):
    starts = [quadratic.init(generator) for _ in range(3)]
    stacked = {name: torch.stack([s[name] for s in starts]) for name in starts[0]}
    batches, lr = minibatches(3, 2), step_sizes(starts[0], 0.05)
    adapted, _ = adapt_tasks(quadratic, optimizer, stacked, batches, lr, stacked=True)
    for task, start in enumerate(starts):
        one = {name: value[task] for name, value in batches.items()}
        alone, _ = run(quadratic, optimizer, start, one, 0.05)
        for name in start:
            torch.testing.assert_close(adapted[name][task], alone[name])


def test_stacking_one_start_is_the_same_as_sharing_it(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), minibatches(3, 2)
    lr = step_sizes(params, 0.05)
    shared, _ = adapt_tasks(quadratic, SGD, params, batches, lr)
    stacked, _ = adapt_tasks(quadratic, SGD, stack(params, 3), batches, lr, stacked=True)
    torch.testing.assert_close(shared, stacked)


def test_every_parameter_has_a_step_size_of_its_own(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), first(minibatches(1, 4))
    lr = step_sizes(params, 0.1, {"w": 0.0, "b": 0.5})
    adapted, *_ = inner_loop(quadratic, SGD, params, {}, batches, lr)
    torch.testing.assert_close(adapted["w"], params["w"], rtol=0, atol=0)

    def only_biases(p):
        return torch.optim.SGD([p[1]], lr=0.05)

    wanted, *_ = by_torch(quadratic, only_biases, params, batches)
    torch.testing.assert_close(adapted["b"], wanted["b"])


def test_moments_go_on_from_step_to_step(quadratic, generator, minibatches):
    params, batches = quadratic.init(generator), first(minibatches(1, 2))
    lr, state = step_sizes(params, 0.1), ADAM.init(params)
    whole, whole_state, _ = inner_loop(quadratic, ADAM, params, state, batches, lr)
    for step in range(2):
        one = {name: value[step] for name, value in batches.items()}
        params, state, _ = inner_step(quadratic, ADAM, params, state, one, lr)
    torch.testing.assert_close(params, whole)
    torch.testing.assert_close(state, whole_state)
    assert state["t"] == 2


def test_the_start_is_left_alone(quadratic, generator, minibatches):
    params = quadratic.init(generator)
    kept = {name: value.clone() for name, value in params.items()}
    run(quadratic, ADAM, params, first(minibatches(1, 3)), 0.1)
    torch.testing.assert_close(params, kept, rtol=0, atol=0)


def test_no_minibatch_is_refused(quadratic, generator, minibatches):
    params = quadratic.init(generator)
    with pytest.raises(ValueError, match="k must be at least 1"):
        run(quadratic, SGD, params, {n: v[:0] for n, v in first(minibatches(1, 1)).items()}, 0.1)


def test_the_first_prefix_that_fits_gives_the_factor():
    params = {name: torch.zeros(2) for name in ("w0", "w1", "b0")}
    lr = step_sizes(params, 0.5, {"w1": 0.0, "w": 2.0})
    assert {name: float(value) for name, value in lr.items()} == {"w0": 1.0, "w1": 0.0, "b0": 0.5}


def test_a_prefix_that_fits_nothing_is_named():
    with pytest.raises(ValueError, match=r"\['v'\] fit no parameter of \['w0'\]"):
        step_sizes({"w0": torch.zeros(1)}, 0.1, {"w": 1.0, "v": 1.0})
