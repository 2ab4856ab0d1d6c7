"""A learner small enough to do by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from reptile_agent.meta.learner import Learner


@dataclass(frozen=True)
class Quadratic(Learner):
    """Fits y = x w + b by least squares."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "w": torch.randn(3, 2, generator=generator),
            "b": torch.randn(2, generator=generator),
        }

    def loss(self, params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return (batch["x"] @ params["w"] + params["b"] - batch["y"]).square().mean()


@pytest.fixture
def quadratic() -> Quadratic:
    return Quadratic()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def minibatches(generator):
    """Minibatches [tasks, k, 6, ...] of one linear map a task."""

    def make(tasks: int, k: int) -> dict[str, Tensor]:
        x = torch.randn(tasks, k, 6, 3, generator=generator)
        true = torch.randn(tasks, 1, 3, 2, generator=generator)
        return {"x": x, "y": x @ true + 0.5}

    return make
