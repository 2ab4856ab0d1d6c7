"""What a learner is: pure functions over a flat dictionary of parameters."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Parameter name -> tensor. Flat, so that names in checkpoints, graphs and bundles are the same."""
TensorBatch = dict[str, Tensor]
"""A minibatch as tensors; for robots the arrays of `reptile_agent.transition.Batch`."""


class Learner(Protocol):
    """Says what is learned: everything an inner loop needs. Learners inherit from it."""

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters."""
        ...

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """Inner loss of one minibatch, a scalar; pure."""
        ...

    def after_step(self, params: Params) -> Params:
        """What a gradient step leaves behind: target networks follow here, others stand."""
        return params


def stack(params: Params, tasks: int) -> Params:
    """The same parameters for every task, `[tasks, ...]`, without a copy."""
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}
