"""The proximal term of reptile_agent.meta.inner_loop: holding on to where the loop began."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from reptile_agent.meta.algorithms import reptile
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes
from reptile_agent.meta.learner import Learner, stack


@dataclass(frozen=True)
class Bowl(Learner):
    """Half of `curvature (theta - centre)^2`."""

    curvature: float = 2.0

    def loss(self, params, batch):
        return 0.5 * self.curvature * (params["theta"] - batch["centre"].mean()).square().sum()


LR, WEIGHT = 0.1, 3.0
START = {"theta": torch.tensor([0.5, -1.0])}


def to(centre, k):
    return {"centre": torch.full((k, 1), centre)}


def run(optimizer, batches, params=START, state=None, lr=LR):
    state = optimizer.init(params) if state is None else state
    return inner_loop(Bowl(), optimizer, params, state, batches, step_sizes(params, lr))


@pytest.mark.parametrize("k", [1, 2, 5, 200])
def test_on_a_quadratic_it_is_the_closed_form(k):
    """Down curvature + weight to their weighted mean, by (1 - lr (curvature + weight)) a step."""
    sgd = InnerOptimizer(kind="sgd", clip_norm=0.0, proximal=WEIGHT)
    adapted, *_ = run(sgd, to(4.0, k))
    start = START["theta"]
    rest = (2.0 * 4.0 + WEIGHT * start) / (2.0 + WEIGHT)
    wanted = rest + (1 - LR * (2.0 + WEIGHT)) ** k * (start - rest)
    torch.testing.assert_close(adapted["theta"], wanted)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_heavier_the_nearer_to_the_start(kind):
    ends = [
        run(InnerOptimizer(kind=kind, clip_norm=0.0, proximal=weight), to(4.0, 100))[0]["theta"]
        for weight in (0.0, 1.0, 10.0)
    ]
    far = [float((end - START["theta"]).norm()) for end in ends]
    assert far[0] > 1.3 * far[1] > 1.3 * 2 * far[2] > 0


def test_adam_sees_the_sum_of_both_gradients():
    """The same as torch's Adam on the loss with the term written out."""
    ours, *_ = run(InnerOptimizer(kind="adam", clip_norm=0.0, proximal=WEIGHT), to(4.0, 7))
    theta = START["theta"].clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=LR, betas=(0.0, 0.999))
    for _ in range(7):
        optimizer.zero_grad()
        pull = 0.5 * WEIGHT * (theta - START["theta"]).square().sum()
        (Bowl().loss({"theta": theta}, {"centre": torch.tensor([4.0])}) + pull).backward()
        optimizer.step()
    torch.testing.assert_close(ours["theta"], theta.detach())


def test_the_clip_is_on_the_sum_of_both_gradients():
    pulled, clipped = (InnerOptimizer(clip_norm=clip, proximal=WEIGHT) for clip in (0.0, 0.5))
    far = {"theta": START["theta"] + 1.0}
    state = clipped.init(START)
    moves = [run(o, to(4.0, 1), far, state)[0]["theta"] - far["theta"] for o in (pulled, clipped)]
    torch.testing.assert_close(moves[1].norm(), torch.tensor(LR * 0.5))
    assert torch.cosine_similarity(moves[0], moves[1], dim=0) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_loop_that_is_cut_in_two_holds_on_to_where_the_first_half_began(kind):
    optimizer = InnerOptimizer(kind=kind, clip_norm=0.0, proximal=WEIGHT)
    whole, state, _ = run(optimizer, to(4.0, 6))
    half, half_state, _ = run(optimizer, to(4.0, 3))
    rest, rest_state, _ = run(optimizer, to(4.0, 3), half, half_state)
    torch.testing.assert_close(rest, whole)
    torch.testing.assert_close(rest_state, state)
    torch.testing.assert_close(rest_state["start.theta"], START["theta"], rtol=0, atol=0)
    anew, *_ = run(optimizer, to(4.0, 3), half)
    assert (anew["theta"] - whole["theta"]).norm() > 0.02


def test_every_task_holds_on_to_its_own_start():
    optimizer = InnerOptimizer(clip_norm=0.0, proximal=WEIGHT)
    starts = {"theta": torch.tensor([[0.0, 0.0], [10.0, 10.0]])}
    batches = {"centre": torch.full((2, 200, 1), 5.0)}
    lr = step_sizes(START, LR)
    adapted, _ = adapt_tasks(Bowl(), optimizer, starts, batches, lr, stacked=True)
    torch.testing.assert_close(adapted["theta"], torch.tensor([[2.0, 2.0], [8.0, 8.0]]))
    shared, _ = adapt_tasks(Bowl(), optimizer, START, batches, lr)
    alike, _ = adapt_tasks(Bowl(), optimizer, stack(START, 2), batches, lr, stacked=True)
    torch.testing.assert_close(shared, alike)


def test_without_a_weight_nothing_is_carried():
    assert InnerOptimizer(kind="sgd").init(START) == {}
    assert set(InnerOptimizer(kind="sgd", proximal=1.0).init(START)) == {"start.theta"}
    assert set(InnerOptimizer(kind="adam").init(START)) == {"v.theta", "t"}


def test_reptile_with_a_heavy_weight_moves_its_start_little():
    batches = {"centre": torch.full((1, 20, 1), 4.0)}
    none = {"centre": batches["centre"][:, :0]}
    lr = step_sizes(START, LR)
    far = [
        reptile.direction(
            Bowl(), InnerOptimizer(clip_norm=0.0, proximal=weight), START, batches, none, lr
        ).towards["theta"]
        for weight in (0.0, 8.0)
    ]
    # In the end the pulled one has gone curvature / (curvature + weight) of the way.
    torch.testing.assert_close(far[1], 0.2 * (START["theta"] - 4.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(far[0], START["theta"] - 4.0, rtol=0.02, atol=0.02)
