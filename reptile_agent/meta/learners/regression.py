"""Supervised regression: the sinusoids on which Reptile and MAML were first shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reptile_agent.meta.learner import Learner, Params, TensorBatch
from reptile_agent.meta.networks import init_mlp, mlp


@dataclass(frozen=True)
class RegressionLearner(Learner):
    """A small network fitted to points of one curve."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths, with tanh: those of the Reptile paper's sinusoid experiment."""

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters."""
        return init_mlp((1, *self.hidden, 1), members=1, generator=generator)

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The curve at `x` [points, 1]."""
        return mlp(params, x[None], activation="tanh")[0]

    def loss(self, params: Params, batch: TensorBatch) -> Tensor:
        """Mean squared error on `x`, `y` [points, 1]."""
        return (self.predict(params, batch["x"]) - batch["y"]).square().mean()


@dataclass(frozen=True)
class Sinusoids:
    """Curves y = a sin(x + b), a in 0.1..5, b in 0..2 pi, on x in -5..5 (MAML, section 5.1)."""

    amplitude: np.ndarray
    phase: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, tasks: int) -> Sinusoids:
        """Random curves."""
        return cls(rng.uniform(0.1, 5.0, tasks), rng.uniform(0, 2 * np.pi, tasks))

    def at(self, x: np.ndarray) -> np.ndarray:
        """Heights at `x` [tasks, ...]."""
        shape = (-1, *[1] * (x.ndim - 1))
        return self.amplitude.reshape(shape) * np.sin(x + self.phase.reshape(shape))

    def minibatches(
        self, rng: np.random.Generator, points: int, steps: int, batch: int
    ) -> TensorBatch:
        """`steps` minibatches out of `points` drawn once per task, `[tasks, steps, batch, 1]`."""
        tasks = self.amplitude.size
        x = rng.uniform(-5, 5, (tasks, points))
        order = np.concatenate(
            [rng.permuted(np.tile(np.arange(points), (tasks, 1)), axis=1) for _ in range(steps)],
            axis=1,
        )[:, : steps * batch]
        drawn = np.take_along_axis(x, order, axis=1).reshape(tasks, steps, batch, 1)
        arrays = {"x": drawn, "y": self.at(drawn)}
        return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items()}
