"""Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999), algorithms 1 and 2.

`params <- params + epsilon * mean(adapted - params)`. With one task per meta-batch this is the
serial version of the paper, with several the batched one. `params - mean(adapted)` is handed to
an outer optimizer as if it were a gradient: SGD gives the line above, Adam is the paper's
suggestion in section 2.
"""

from __future__ import annotations

from torch import Tensor

from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Learner, Params, TensorBatch


def direction(
    learner: Learner, optimizer: InnerOptimizer, params: Params, batches: TensorBatch, lr: Params
) -> tuple[Params, dict[str, Tensor]]:
    """Pseudo-gradient of the start from the inner loops of a meta-batch.

    Args:
        learner: whose inner loss falls.
        optimizer: of the inner loop.
        params: the start.
        batches: `[tasks, k, batch, ...]`.
        lr: inner step size of each parameter.

    Returns:
        `params - mean(adapted)`, and the inner loss `before` the first step and `after` all but
        the last, means over tasks.
    """
    adapted, info = adapt_tasks(learner, optimizer, params, batches, lr)
    towards = {name: params[name] - adapted[name].mean(0) for name in params}
    return towards, {"before": info["loss"][:, 0].mean(), "after": info["loss"][:, -1].mean()}
