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


def init_context(
    size: int, hidden: tuple[int, ...], members: int, generator: torch.Generator
) -> Params:
    """A `context` [members, 1, size] of zeros, and what it does to each hidden layer.

    `gain<i>` and `shift<i>` [members, size, width], normal with a variance of 0.09 / size. While
    the context is zero it changes nothing: a few inner steps on it alone tell tasks apart (CAVIA,
    arXiv 1810.03642; conditioning as in FiLM, arXiv 1709.07871).
    """
    params: Params = {"context": torch.zeros(members, 1, size)}
    for i, width in enumerate(hidden):
        for name in (f"gain{i}", f"shift{i}"):
            normal = torch.randn(members, size, width, generator=generator)
            params[name] = 0.3 / math.sqrt(size) * normal
    return params


def mlp(params: Params, x: Tensor, activation: str = "silu") -> Tensor:
    """Apply every member to its own input, [members, rows, in] -> [members, rows, out].

    Where the parameters hold a `context`, every hidden layer is scaled and shifted by it.
    """
    act = getattr(functional, activation) if activation != "tanh" else torch.tanh
    layers = sum(name.startswith("w") for name in params)
    for i in range(layers):
        x = torch.baddbmm(params[f"b{i}"], x, params[f"w{i}"])
        if i < layers - 1:
            if "context" in params:
                gain, shift = (params["context"] @ params[f"{n}{i}"] for n in ("gain", "shift"))
                x = x + x * gain + shift
            x = act(x)
    return x
