"""Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999), algorithms 1 and 2.

`params <- params + epsilon * mean(adapted - params)`. With one task per meta-batch this is the
serial version of the paper, with several the batched one. `params - mean(adapted)` is handed to
an outer optimizer as if it were a gradient: SGD gives the line above, Adam is the paper's
suggestion in section 2.
"""

from __future__ import annotations

import torch

from reptile_agent.meta.algorithms import Direction, step_sizes
from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Learner, Params, TensorBatch


@torch.no_grad()  # no step's graph outlives it, so memory does not grow with k
def direction(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    support: TensorBatch,
    query: TensorBatch,
    lr: Params,
    *,
    learn_lr: bool = False,
    adapt: Adapt = adapt_tasks,
) -> Direction:
    """Pseudo-gradient of the start from the inner loops of a meta-batch.

    Reptile needs no split (section 1): the query minibatches are further inner steps, so that it
    sees the data that the other algorithms see.

    Args:
        learner: whose inner loss falls.
        optimizer: of the inner loop.
        params: the start.
        support: the first minibatches, `[tasks, k, batch, ...]`.
        query: those that follow, `[tasks, q, batch, ...]`; q may be 0.
        lr: inner step size of each parameter.
        learn_lr: return the gradient of the log step sizes as well; they are judged by the query
            loss after the support steps alone, which costs k + 1 gradients more.
        adapt: runs the inner loops.

    Returns:
        `params - mean(adapted)`, and the inner loss `before` the first step and `after` all but
        the last.

    Raises:
        ValueError: step sizes are to be learned and there is no query minibatch.
    """
    batches = {name: torch.cat([value, query[name]], dim=1) for name, value in support.items()}
    adapted, inner = adapt(learner, optimizer, params, batches, lr)
    towards = {name: params[name] - adapted[name].mean(0) for name in params}
    info = {"before": inner["loss"][:, 0].mean(), "after": inner["loss"][:, -1].mean()}
    log_lr = None
    if learn_lr:
        _, log_lr, _ = step_sizes.at_adapted(learner, optimizer, params, support, query, lr, adapt)
    return Direction(towards, info, log_lr)
