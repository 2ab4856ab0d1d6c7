"""Ensembles of multilayer perceptrons as pure functions: one bmm per layer for all members."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from reptile_agent.meta.learner import Params


def init_mlp(
    sizes: tuple[int, ...], members: int, generator: torch.Generator, last_scale: float = 1.0
) -> Params:
    """Weights `w<i>` [members, in, out] and biases `b<i>` [members, 1, out].

    Uniform in +-sqrt(1 / fan_in) as torch.nn.Linear; the last layer times `last_scale`.
    """
    params: Params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        bound = 1 / math.sqrt(fan_in)
        if i == len(sizes) - 2:
            bound *= last_scale
        for name, shape in ((f"w{i}", (fan_in, fan_out)), (f"b{i}", (1, fan_out))):
            uniform = torch.rand(members, *shape, generator=generator)
            params[name] = (2 * uniform - 1) * bound
    return params


def mlp(params: Params, x: Tensor, activation: str = "silu") -> Tensor:
    """Apply every member to its own input, [members, rows, in] -> [members, rows, out]."""
    act = getattr(functional, activation) if activation != "tanh" else torch.tanh
    layers = sum(name.startswith("w") for name in params)
    for i in range(layers):
        x = torch.baddbmm(params[f"b{i}"], x, params[f"w{i}"])
        if i < layers - 1:
            x = act(x)
    return x
