"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), without an inner loop.

On all tasks together it is joint training (domain randomization); with parameters of its own for
every task it is the oracle; with a recurrent policy it is RL2's outer loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from reptile_agent.meta.algorithms import Direction
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.policy_gradient import PolicyLearner


@torch.no_grad()
def direction(
    learner: PolicyLearner, params: Params, batch: TensorBatch, clip: float, *, own: bool = False
) -> Direction:
    """Gradient of the clipped objective (equation 7).

    Args:
        learner: of the policy.
        params: to be moved.
        batch: `[tasks, lanes, steps, ...]`.
        clip: how far a probability may move, as a ratio less 1.
        own: every task has parameters of its own, `[tasks, ...]`; theirs are the gradients.
    """

    def objective(one: Params, minibatch: TensorBatch) -> Tensor:
        return learner.clipped_loss(one, minibatch, clip)

    if own:
        grads, loss = vmap(grad_and_value(objective))(params, batch)
    else:
        together = {name: value.flatten(0, 1) for name, value in batch.items()}
        grads, loss = grad_and_value(objective)(params, together)
    return Direction(grads, {"loss": loss.mean()})
