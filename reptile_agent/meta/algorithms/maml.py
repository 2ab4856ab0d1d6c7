"""MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400), algorithm 1, and its first-order version.

The start is moved so that the query loss after the inner loop falls (equation 1): down the gradient
of `mean over tasks of loss(inner_loop(start, support), query)`. The second-order version
differentiates through the inner loop, so its memory grows with k. The first-order version
(FOMAML, section 5.2: "the second derivatives are omitted") takes the adapted parameters'
own gradient instead.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, vmap

from reptile_agent.meta.algorithms import Direction, step_sizes
from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Learner, Params, TensorBatch


@torch.no_grad()  # of an outer autograd; torch.func's own gradients are not concerned
def direction(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    support: TensorBatch,
    query: TensorBatch,
    lr: Params,
    *,
    learn_lr: bool = False,
    order: Literal[1, 2] = 2,
    adapt: Adapt = adapt_tasks,
) -> Direction:
    """Gradient of the start, of a meta-batch.

    Args:
        learner: whose loss falls.
        optimizer: of the inner loop.
        params: the start.
        support: what the inner loop learns from, `[tasks, k, batch, ...]`.
        query: what judges the adapted parameters, `[tasks, q, batch, ...]`.
        lr: inner step size of each parameter.
        learn_lr: return the gradient of the log step sizes as well.
        order: 2 differentiates through the inner loop, 1 does not (FOMAML).
        adapt: runs the inner loops of order 1.

    Returns:
        The gradients, and the inner loss `before` the first step and the query loss `after` the
        last.

    Raises:
        ValueError: there is no query minibatch.
    """
    if order == 1:
        towards, log_lr, info = step_sizes.at_adapted(
            learner, optimizer, params, support, query, lr, adapt
        )
        return Direction(towards, info, log_lr if learn_lr else None)

    def objective(start: Params, sizes: Params) -> tuple[Tensor, dict[str, Tensor]]:
        adapted, inner = adapt_tasks(learner, optimizer, start, support, sizes)

        def judge(one: Params, task_query: TensorBatch) -> Tensor:
            return step_sizes.query_loss(learner, one, task_query)

        loss = vmap(judge)(adapted, query).mean()
        return loss, {"before": inner["loss"][:, 0].mean(), "after": loss}

    if not learn_lr:
        towards, info = grad(objective, has_aux=True)(params, lr)
        return Direction(towards, info)
    (towards, by_lr), info = grad(objective, argnums=(0, 1), has_aux=True)(params, lr)
    return Direction(towards, info, {name: lr[name] * g for name, g in by_lr.items()})
