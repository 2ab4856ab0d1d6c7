"""Inner loops that go on: what a training task was found to be is not forgotten between visits.

A context, a few numbers that scale and shift a model's layers (CAVIA, arXiv 1810.03642), begins at
the start's on the robot and is moved by k inner steps. If it begins there in all of Reptile's inner
loops too, the weights only ever see contexts that k steps come to. Kept from visit to visit, it
comes to what tells the task best, and the weights learn to use that. With one inner step this is a
model fitted jointly with an embedding of each task (an auto-decoder; Bojanowski et al. 2018, arXiv
1707.05776). Some inner loops still begin at the start's context: a robot's do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reptile_agent.meta.inner_loop import Adapt, InnerOptimizer
from reptile_agent.meta.learner import Learner, Params, TensorBatch, stack

CONTEXT = "context"
"""Of the parameter that is kept."""


@dataclass
class KeptContexts:
    """The context that each training task's last inner loop which went on came to."""

    value: Tensor
    """[lanes, ...] as the start's context."""

    @classmethod
    def begin(cls, start: Params, lanes: int) -> KeptContexts:
        """Nothing is known of any task yet."""
        return cls(stack({CONTEXT: start[CONTEXT]}, lanes)[CONTEXT].clone())

    def keeping(self, adapt: Adapt, lanes: np.ndarray, kept: np.ndarray) -> Adapt:
        """`adapt`, but some tasks' inner loops go on where the last one that did ended.

        The others begin at the start's context, and are not remembered.

        Args:
            adapt: runs the inner loops.
            lanes: which training tasks, int [tasks].
            kept: whose go on, bool [tasks].
        """
        which = torch.from_numpy(lanes[kept])
        rows = torch.from_numpy(np.flatnonzero(kept))

        def adapt_on(
            learner: Learner,
            optimizer: InnerOptimizer,
            params: Params,
            batches: TensorBatch,
            lr: Params,
        ) -> tuple[Params, dict[str, Tensor]]:
            starts = stack(params, lanes.size)
            starts[CONTEXT] = starts[CONTEXT].clone()
            starts[CONTEXT][rows] = self.value[which]
            adapted, info = adapt(learner, optimizer, starts, batches, lr, stacked=True)
            self.value[which] = adapted[CONTEXT][rows]
            return adapted, info

        return adapt_on
