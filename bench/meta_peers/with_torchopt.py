"""TorchOpt 0.7 (arXiv 2211.06934): three ways that its examples show.

Reptile: `torchopt.SGD` on a module for each task, or `torchopt.sgd` under torch.func's grad and
vmap for all tasks at once. MAML: the differentiable `torchopt.MetaSGD`.
"""

from __future__ import annotations

import torch
import torchopt  # pyright: ignore[reportMissingImports]
from torch.func import grad, vmap

from bench.meta_peers.workload import LR, Method, Work
from reptile_agent.meta.learner import Params, TensorBatch


def run(method: Method, work: Work) -> Params:
    """Direction of a meta-batch, a task at a time."""
    return _maml(work) if method == "maml" else _reptile(work)


def run_vmap(method: Method, work: Work) -> Params:
    """Direction of a meta-batch, all tasks at once; Reptile alone."""
    assert method == "reptile"
    optimizer = torchopt.sgd(lr=LR)

    def one_task(batches: TensorBatch) -> Params:
        params, state = work.params, optimizer.init(work.params)
        for step in range(next(iter(batches.values())).shape[0]):
            batch = {name: value[step] for name, value in batches.items()}
            grads = grad(work.learner.loss)(params, batch)
            updates, state = optimizer.update(grads, state, inplace=False)
            params = torchopt.apply_updates(params, updates, inplace=False)
            params = work.learner.after_step(params)
        return params

    with torch.no_grad():
        adapted = vmap(one_task)(work.support)
    return {name: value - adapted[name].mean(0) for name, value in work.params.items()}


def _reptile(work: Work) -> Params:
    network = work.network()
    params = network.named()
    optimizer = torchopt.SGD(network.parameters(), lr=LR)
    total = {name: torch.zeros_like(value) for name, value in params.items()}
    for steps, _ in work.one_by_one():
        _write(params, work.params)
        for batch in steps:
            optimizer.zero_grad()
            network(batch).backward()
            optimizer.step()
            _write(params, network.followed())
        for name, value in params.items():
            total[name] += value.detach()
    return {name: work.params[name] - value / work.tasks for name, value in total.items()}


@torch.no_grad()
def _write(params: Params, values: Params) -> None:
    """In place: the optimizer knows these tensors."""
    for name, value in values.items():
        params[name].copy_(value)


def _maml(work: Work) -> Params:
    network = work.network()
    optimizer = torchopt.MetaSGD(network, lr=LR)
    start = torchopt.extract_state_dict(network, by="reference")
    moments = torchopt.extract_state_dict(optimizer, by="reference")
    for steps, query in work.one_by_one():
        for batch in steps:
            optimizer.step(network(batch))
            network.put(network.followed())
        network(query).backward()
        torchopt.recover_state_dict(network, start)
        torchopt.recover_state_dict(optimizer, moments)
    return network.gradients(work.tasks)
