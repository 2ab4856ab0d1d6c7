"""ProMP: proximal meta-policy search (Rothfuss et al. 2018, arXiv 1810.06784), section 6.

The inner loop climbs J^LR, whose second derivative has little variance (section 5: the learner's
own loss); the outer loop climbs J^ProMP, which is PPO's clipped objective after the inner loop
less `eta` times the divergence of the policy that every inner step starts from from the one that
sampled for it. Both let several outer steps be taken on the same episodes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from reptile_agent.meta.algorithms import Direction
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.policy_gradient import PolicyLearner


@torch.no_grad()  # of an outer autograd; torch.func's own gradients are not concerned
def direction(
    learner: PolicyLearner,
    optimizer: InnerOptimizer,
    params: Params,
    support: TensorBatch,
    query: TensorBatch,
    lr: Params,
    *,
    clip: float,
    eta: Tensor,
    learn_lr: bool = False,
) -> Direction:
    """Gradient of minus J^ProMP, second order.

    Args:
        learner: of the policy.
        optimizer: of the inner loop.
        params: the start.
        support: what the inner loop learns from, `[tasks, k, lanes, steps, ...]`.
        query: sampled by the adapted policies, `[tasks, 1, lanes, steps, ...]`.
        lr: inner step size of each parameter.
        clip: how far a probability may move, as a ratio less 1.
        eta: weight of the divergence at each inner step, `[k]`.
        learn_lr: return the gradient of the log step sizes as well.

    Returns:
        The gradients; the inner loss `before` the first step, the clipped query loss `after` the
        last, and the mean `divergence` at each inner step, `[k]`.
    """

    def task(
        start: Params, sizes: Params, task_support: TensorBatch, task_query: TensorBatch
    ) -> dict[str, Tensor]:
        state, adapted = optimizer.init(start), start
        divergences, losses = [], []
        for step in range(len(eta)):
            one = {name: value[step : step + 1] for name, value in task_support.items()}
            last = {name: value[0] for name, value in one.items()}
            divergences.append(learner.divergence(adapted, last))
            adapted, state, info = inner_loop(learner, optimizer, adapted, state, one, sizes)
            losses.append(info["loss"][0])
        judged = {name: value[0] for name, value in task_query.items()}
        return {
            "before": losses[0],
            "after": learner.clipped_loss(adapted, judged, clip),
            "divergence": torch.stack(divergences),
        }

    def objective(start: Params, sizes: Params) -> tuple[Tensor, dict[str, Tensor]]:
        found = vmap(task, in_dims=(None, None, 0, 0))(start, sizes, support, query)
        info = {name: value.mean(0) for name, value in found.items()}
        return info["after"] + (eta * info["divergence"]).mean(), info

    if not learn_lr:
        towards, info = grad(objective, has_aux=True)(params, lr)
        return Direction(towards, info)
    (towards, by_lr), info = grad(objective, argnums=(0, 1), has_aux=True)(params, lr)
    return Direction(towards, info, {name: lr[name] * g for name, g in by_lr.items()})


def adapted_eta(eta: np.ndarray, divergence: np.ndarray, target: float) -> np.ndarray:
    """Weights for the next iteration: halved where policies moved little, doubled where far.

    Little and far are 1.5 times less and more than `target`, as in PPO (section 4).
    """
    factor = np.where(divergence > 1.5 * target, 2.0, np.where(divergence < target / 1.5, 0.5, 1.0))
    return eta * factor
