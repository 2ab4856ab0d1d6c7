"""learn2learn 0.2: `MAML.clone` and `adapt` for each task.

The package's `__init__` imports torchvision, gym and requests, which MAML does not need: its
modules are imported past it.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import torch

from bench.meta_peers.workload import LR, Method, Work
from reptile_agent.meta.learner import Params


def _maml() -> type:
    found = importlib.util.find_spec("learn2learn")
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'learn2learn'")
    root = found.submodule_search_locations[0]
    for name, folder in (("learn2learn", root), ("learn2learn.algorithms", f"{root}/algorithms")):
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    return importlib.import_module("learn2learn.algorithms.maml").MAML


MAML = _maml()


def run(method: Method, work: Work) -> Params:
    """Direction of a meta-batch."""
    second_order = method == "maml"
    network = work.network()
    learner = MAML(network, lr=LR, first_order=not second_order, allow_unused=True)
    total = {name: torch.zeros_like(value) for name, value in work.params.items()}
    for steps, query in work.one_by_one():
        clone = learner.clone()
        for batch in steps:
            clone.adapt(clone(batch))
            clone.module.put(clone.module.followed())
        if second_order:
            clone(query).backward()
        else:
            for name, value in clone.module.named().items():
                total[name] += value.detach()
    if second_order:
        return network.gradients(work.tasks)
    return {name: work.params[name] - value / work.tasks for name, value in total.items()}
