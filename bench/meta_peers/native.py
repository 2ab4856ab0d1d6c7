"""Ours, and the same in a Python loop over tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.meta_peers.workload import LR, Method, Work
from reptile_agent.meta.algorithms import maml
from reptile_agent.meta.compiled import CompiledAdaptation
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes
from reptile_agent.meta.learner import Params

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)

ADAPT = CompiledAdaptation()


def ours(method: Method, work: Work) -> Params:
    """The compiled inner loop for Reptile; MAML differentiates the vmapped one, uncompiled.

    Raises:
        RuntimeError: compiling failed, so that what is timed would not be what the row says.
    """
    lr = step_sizes(work.params, LR)
    if method == "maml":
        made = maml.direction(work.learner, SGD, work.params, work.support, work.query, lr)
        return made.towards
    adapted, _ = ADAPT(work.learner, SGD, work.params, work.support, lr)
    if ADAPT.failure:
        raise RuntimeError(ADAPT.failure)
    return {name: value - adapted[name].mean(0) for name, value in work.params.items()}


def python_loop(method: Method, work: Work) -> Params:
    """Plain autograd, a task at a time: faster than our own vmapped step called for each task."""
    start = {name: value.clone().requires_grad_() for name, value in work.params.items()}
    total = {name: torch.zeros_like(value) for name, value in start.items()}
    second_order = method == "maml"
    for steps, query in work.one_by_one():
        params = start
        for batch in steps:
            loss = work.learner.loss(params, batch)
            grads = _grads(loss, params, create_graph=second_order)
            params = params | {name: params[name] - LR * grad for name, grad in grads.items()}
            params = work.learner.after_step(params)
            if not second_order:
                params = {n: v.detach().requires_grad_() for n, v in params.items()}
        if second_order:
            params = _grads(work.learner.loss(params, query), start)
        for name, value in params.items():
            total[name] += value.detach()
    mean = {name: value / work.tasks for name, value in total.items()}
    return mean if second_order else {n: work.params[n] - value for n, value in mean.items()}


def _grads(loss: Tensor, params: Params, *, create_graph: bool = False) -> Params:
    """Gradients by name, of those parameters that the loss depends on."""
    found = torch.autograd.grad(
        loss, list(params.values()), create_graph=create_graph, allow_unused=True
    )
    return {name: grad for name, grad in zip(params, found) if grad is not None}
