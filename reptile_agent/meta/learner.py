"""What a learner is: pure functions over a flat dictionary of parameters."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reptile_agent.experience import PLAIN, Experience
from reptile_agent.spec import RobotSpec
from reptile_agent.transition import Batch

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


class RobotLearner(Learner, Protocol):
    """A learner that learns from a robot's transitions."""

    robot: RobotSpec
    """Whose transitions."""

    @property
    def experience(self) -> Experience:
        """What its minibatches hold; measurements and actions alone, if not said otherwise."""
        return PLAIN

    @property
    def segment(self) -> int:
        """Consecutive transitions that the loss looks at."""
        ...

    @property
    def lr_scale(self) -> dict[str, float]:
        """Factors on the inner step size by prefix of a parameter's name, if nobody has others."""
        return {}

    def inputs(self, batch: Batch, rng: np.random.Generator, first_step: int | None = 0) -> Batch:
        """The batch with what the loss needs beside transitions; see `Experience.complete`."""
        return self.experience.complete(batch, rng, first_step)

    def prediction_error(self, params: Params, batch: TensorBatch) -> Tensor:
        """How wrong the parameters are about each row, [rows]; what the gate compares."""
        ...


def stack(params: Params, tasks: int) -> Params:
    """The same parameters for every task, `[tasks, ...]`, without a copy."""
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}
