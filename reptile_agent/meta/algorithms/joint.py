"""Joint training, or domain randomization: one gradient on all tasks' data, no inner loop.

The baseline that meta-learning has to beat: Reptile with k = 1 is the same thing (arXiv
1803.02999, section 5.1).
"""

from __future__ import annotations

from torch import Tensor
from torch.func import grad_and_value

from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.learner import Learner, Params, TensorBatch


def direction(
    learner: Learner, optimizer: InnerOptimizer, params: Params, batches: TensorBatch, lr: Params
) -> tuple[Params, dict[str, Tensor]]:
    """Gradient of the loss on all minibatches `[tasks, k, batch, ...]` together.

    `optimizer` and `lr` are not used: they are there so that algorithms can be exchanged.
    """
    del optimizer, lr
    together = {name: value.flatten(0, 2) for name, value in batches.items()}
    grads, loss = grad_and_value(learner.loss)(params, together)
    return grads, {"before": loss, "after": loss}
