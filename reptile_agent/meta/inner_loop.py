"""The heart: k gradient steps on one task, as a pure function of tensors.

The same function is vmapped over the tasks of a meta-batch (`adapt_tasks`), differentiated
through or averaged by the meta-algorithms, and traced into ONNX (`reptile_agent.export`): the
robot runs the very function that was meta-trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from reptile_agent.meta.learner import Learner, Params, TensorBatch

OptState = dict[str, Tensor]
"""What an inner loop carries beside the parameters: Adam's moments `v.<parameter>` and step count
`t`, and, where there is a proximal term, the parameters it holds on to, `start.<parameter>`."""


TINY = 1e-30
"""Least value under a root: at zero its slope is infinite, and MAML's gradient would be NaN."""


@dataclass(frozen=True)
class InnerOptimizer:
    """How one inner step moves the parameters."""

    kind: Literal["sgd", "adam"] = "sgd"
    """Adam here has beta1 = 0: momentum across tasks hurts (Reptile paper, section 6.1)."""
    clip_norm: float = 1.0
    """Gradients longer than this are scaled down to it; 0 leaves them alone."""
    beta2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's guard against division by zero."""
    proximal: float = 0.0
    """Pull back to where the inner loop began: weight of half the squared distance (iMAML, arXiv
    1909.04630, equation 3)."""

    def init(self, params: Params) -> OptState:
        """Fresh moments: every adaptation starts with them."""
        state: OptState = {}
        if self.kind == "adam":
            one = next(iter(params.values()))
            state |= {f"v.{name}": torch.zeros_like(value) for name, value in params.items()}
            state["t"] = torch.zeros((), dtype=one.dtype, device=one.device)
        if self.proximal > 0:
            state |= {f"start.{name}": value for name, value in params.items()}
        return state


def inner_step(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    opt_state: OptState,
    batch: TensorBatch,
    lr: Params,
) -> tuple[Params, OptState, dict[str, Tensor]]:
    """One gradient step.

    Args:
        learner: whose loss falls.
        optimizer: how.
        params: where from.
        opt_state: moments so far.
        batch: one minibatch.
        lr: step size of each parameter, scalars under the parameters' names.

    Returns:
        The new parameters, the new moments, and `loss` and `grad_norm` before the step.
    """
    grads, loss = grad_and_value(learner.loss)(params, batch)
    if optimizer.proximal > 0:
        grads = {
            name: g + optimizer.proximal * (params[name] - opt_state[f"start.{name}"])
            for name, g in grads.items()
        }
    norm = torch.stack([g.square().sum() for g in grads.values()]).sum().clamp(min=TINY).sqrt()
    if optimizer.clip_norm > 0:
        scale = optimizer.clip_norm / norm.clamp(min=optimizer.clip_norm)
        grads = {name: g * scale for name, g in grads.items()}
    new_state = dict(opt_state)
    if optimizer.kind == "adam":
        t = new_state["t"] = opt_state["t"] + 1
        correction = 1 - torch.pow(torch.full_like(t, optimizer.beta2), t)
        moves = {}
        for name, g in grads.items():
            v = optimizer.beta2 * opt_state[f"v.{name}"] + (1 - optimizer.beta2) * g.square()
            new_state[f"v.{name}"] = v
            moves[name] = g / ((v / correction).clamp(min=TINY).sqrt() + optimizer.eps)
    else:
        moves = grads
    moved = {name: params[name] - lr[name] * moves[name] for name in params}
    return learner.after_step(moved), new_state, {"loss": loss, "grad_norm": norm}


def inner_loop(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    opt_state: OptState,
    batches: TensorBatch,
    lr: Params,
) -> tuple[Params, OptState, dict[str, Tensor]]:
    """K gradient steps, one on each minibatch of `batches` `[k, batch, ...]`.

    Returns:
        Adapted parameters, moments, and `loss` and `grad_norm` of every step, `[k]`.
    """
    infos: list[dict[str, Tensor]] = []
    for step in range(next(iter(batches.values())).shape[0]):
        batch = {name: value[step] for name, value in batches.items()}
        params, opt_state, info = inner_step(learner, optimizer, params, opt_state, batch, lr)
        infos.append(info)
    if not infos:
        raise ValueError("the inner loop was given no minibatch: k must be at least 1")
    return params, opt_state, {name: torch.stack([i[name] for i in infos]) for name in infos[0]}


def adapt_tasks(
    learner: Learner,
    optimizer: InnerOptimizer,
    params: Params,
    batches: TensorBatch,
    lr: Params,
    *,
    stacked: bool = False,
) -> tuple[Params, dict[str, Tensor]]:
    """The inner loop of many tasks at once, from one start.

    Args:
        learner: whose loss falls.
        optimizer: how.
        params: the start; `[tasks, ...]` where `stacked`.
        batches: `[tasks, k, batch, ...]`.
        lr: step size of each parameter.
        stacked: every task has a start of its own.

    Returns:
        Adapted parameters `[tasks, ...]` and info `[tasks, k]`.
    """

    def one_task(start: Params, task_batches: TensorBatch) -> tuple[Params, dict[str, Tensor]]:
        adapted, _, info = inner_loop(
            learner, optimizer, start, optimizer.init(start), task_batches, lr
        )
        return adapted, info

    return vmap(one_task, in_dims=(0 if stacked else None, 0))(params, batches)


Adapt = Callable[..., tuple[Params, dict[str, Tensor]]]
"""`adapt_tasks`, or what takes its place: `reptile_agent.meta.compiled`."""


def step_sizes(params: Params, lr: float, scale: dict[str, float] | None = None) -> Params:
    """One step size per parameter: `lr` times the factor of the first prefix in `scale` that fits.

    Raises:
        ValueError: a prefix fits no parameter.
    """
    scale = scale or {}
    unused = [p for p in scale if not any(name.startswith(p) for name in params)]
    if unused:
        raise ValueError(f"step-size factors {unused} fit no parameter of {list(params)}")

    def factor(name: str) -> float:
        return next((f for prefix, f in scale.items() if name.startswith(prefix)), 1.0)

    return {
        name: torch.tensor(lr * factor(name), dtype=value.dtype, device=value.device)
        for name, value in params.items()
    }
