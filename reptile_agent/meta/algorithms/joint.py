"""Joint training, or domain randomization: one gradient on all tasks' data, no inner loop.

`params <- params - epsilon * gradient of mean over tasks of loss(params, minibatch)`. The baseline
that meta-learning has to beat: Reptile with k = 1 is the same thing (arXiv
1803.02999, section 5.1).
"""

from __future__ import annotations

import torch
from torch.func import grad_and_value

from reptile_agent.meta.algorithms import Direction, step_sizes
from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Learner, Params, TensorBatch


@torch.no_grad()
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
    """Gradient of the loss on all minibatches `[tasks, k or q, batch, ...]` together.

    `optimizer` and `lr` count only where `learn_lr` asks for the gradient of the log step sizes:
    the jointly trained start is adapted too, and may have learned step sizes like the others.
    """
    together = {
        name: torch.cat([value, query[name]], dim=1).flatten(0, 2)
        for name, value in support.items()
    }
    grads, loss = grad_and_value(learner.loss)(params, together)
    log_lr = None
    if learn_lr:
        _, log_lr, _ = step_sizes.at_adapted(learner, optimizer, params, support, query, lr, adapt)
    return Direction(grads, {"before": loss, "after": loss}, log_lr)
