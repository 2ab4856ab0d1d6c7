"""The same work by torch, one thread: eager, and compiled (torch.compile).

`torch_eager` is plain autograd on the same loss: the fastest eager way, without the functional
transforms that training uses. `torch_compile` is one graph for the whole inner step, traced as for
ONNX, and one for acting; what compiling took is not in the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bench.onboard_latency import timing
from bench.onboard_latency.timing import LR, Row, Timer
from reptile_agent.export import remade
from reptile_agent.meta.driver import Driver
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_step
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle, step_sizes
from reptile_agent.task import objective_of
from sim import registry


def act(timer: Timer, folder: Path) -> list[Row]:
    """What drives, called once a control period."""
    subject = Subject(folder)
    shape = subject.driver.noise_shape

    def drive(noise: Tensor) -> tuple[Tensor, ...]:
        return subject.drive(noise)

    if timer.runtime == "torch_compile":
        drive = torch.compile(make_fx(drive)(torch.randn(shape)), dynamic=False)

    @torch.no_grad()
    def call() -> None:
        drive(torch.randn(shape))

    return [timer.row("act", call)]


def adapt(timer: Timer, folder: Path, steps: tuple[int, ...], sizes: tuple[int, ...]) -> list[Row]:
    """K inner steps."""
    subject, rows = Subject(folder), []
    make = compiled_step if timer.runtime == "torch_compile" else eager_step
    for batch in sizes:
        step = make(subject, tensors(subject.bundle, 1, batch)[0])
        for k in steps:
            batches = tensors(subject.bundle, k, batch)

            def call(step=step, batches=batches) -> None:
                current = subject.params
                for one in batches:
                    current = step(current, one)

            rows.append(timer.row("adapt", call, k, batch, share=10))
    return rows


Tensors = dict[str, Tensor]
Step = Callable[[Tensors, Tensors], Tensors]
"""(params, minibatch) -> params after one inner step by SGD with the norm clipped to 1."""


class Subject:
    """A bundle's learner, driver and start, in torch."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.bundle = Bundle.load(folder)
        manifest = self.bundle.manifest
        objective = objective_of(registry.get(manifest.provenance.family))
        self.learner, driver = remade.agent_of(self.bundle, objective)
        assert driver is not None  # the objective is known
        self.driver: Driver = driver
        tensors = parameters.views(self.bundle.start.copy(), manifest.parameters)
        self.params = {name: torch.from_numpy(value) for name, value in tensors.items()}
        sizes = step_sizes(manifest, LR)
        self.lr = {name: torch.from_numpy(value) for name, value in sizes.items()}
        self._obs, self._reference = (torch.from_numpy(a) for a in timing.inputs(self.bundle))
        self._plan = torch.zeros(self.driver.horizon, len(self.driver.robot.actions))

    def drive(self, noise: Tensor) -> tuple[Tensor, ...]:
        """One control period, given the driver's noise."""
        return self.driver(self.params, self._obs, self._reference, self._plan, noise)


def tensors(bundle: Bundle, k: int, batch: int) -> list[Tensors]:
    """K minibatches."""
    stacked = timing.minibatches(bundle, k, batch)
    return [{n: torch.from_numpy(v[step]) for n, v in stacked.items()} for step in range(k)]


def eager_step(subject: Subject, example: Tensors) -> Step:
    """Plain autograd, any size of a minibatch."""
    del example

    def step(params: Tensors, batch: Tensors) -> Tensors:
        current = {name: value.detach().requires_grad_() for name, value in params.items()}
        grads = torch.autograd.grad(subject.learner.loss(current, batch), list(current.values()))
        norm = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
        scale = 1 / norm.clamp(min=1.0)
        return {
            name: (value - subject.lr[name] * scale * grad).detach()
            for (name, value), grad in zip(current.items(), grads)
        }

    return step


def compiled_step(subject: Subject, example: Tensors) -> Step:
    """One compiled graph, for minibatches like the example."""
    optimizer = InnerOptimizer()

    def step(params: Tensors, batch: Tensors) -> Tensors:
        moments = optimizer.init(params)
        return inner_step(subject.learner, optimizer, params, moments, batch, subject.lr)[0]

    return torch.compile(make_fx(step)(subject.params, example), dynamic=False)
