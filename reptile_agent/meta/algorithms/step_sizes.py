"""Learned inner step sizes, one a parameter tensor (after Meta-SGD, arXiv 1707.09835, section 3).

Meta-SGD learns one a weight; one a tensor changes nothing in the update that the robot runs. Their
logarithms are learned, so that they stay positive and doubling is as easy as halving. A step size
of zero (a frozen layer) stays zero.
"""

from __future__ import annotations

from torch import Tensor
from torch.func import grad_and_value, vmap

from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Learner, Params, TensorBatch


def to_log(lr: Params) -> Params:
    """What is learned, from step sizes."""
    return {name: value.log() for name, value in lr.items()}


def from_log(log_lr: Params) -> Params:
    """Step sizes, from what is learned."""
    return {name: value.exp() for name, value in log_lr.items()}


def query_loss(learner: Learner, params: Params, query: TensorBatch) -> Tensor:
    """Mean loss of one task's query minibatches `[q, batch, ...]`.

    Raises:
        ValueError: there is none.
    """
    if next(iter(query.values())).shape[0] == 0:
        raise ValueError("no query minibatch judges the adapted parameters: q must be at least 1")
    return vmap(learner.loss, in_dims=(None, 0))(params, query).mean()


def at_adapted(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    support: TensorBatch,
    query: TensorBatch,
    lr: Params,
    adapt: Adapt = adapt_tasks,
) -> tuple[Params, Params, dict[str, Tensor]]:
    """Gradients of the query loss at the adapted parameters, the way there held constant.

    Of the step sizes: an adapted parameter is `start - lr * (sum of moves)`, so with the moves
    held constant `d loss / d log(lr) = <query gradient, adapted - start>`, summed over the tensor:
    exact for one step without a clip (the hypergradient of arXiv 1703.04782, section 2), and for
    more steps without the second-order terms, as FOMAML is.

    Returns:
        Gradient of the adapted parameters and of the log step sizes, means over tasks, and the
        inner loss `before` the first step and the query loss `after` the last.
    """
    adapted, inner = adapt(learner, optimizer, params, support, lr)

    def judge(one: Params, task_query: TensorBatch) -> Tensor:
        return query_loss(learner, one, task_query)

    grads, loss = vmap(grad_and_value(judge))(adapted, query)
    tasks = loss.shape[0]
    log_lr = {n: (g * (adapted[n] - params[n])).sum() / tasks for n, g in grads.items()}
    info = {"before": inner["loss"][:, 0].mean(), "after": loss.mean()}
    return {name: g.mean(0) for name, g in grads.items()}, log_lr, info
