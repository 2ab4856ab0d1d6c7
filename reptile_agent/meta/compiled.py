"""`adapt_tasks` compiled: one inner step of a few tasks is one graph, replayed for all.

The inner step under vmap is traced once (`make_fx`, the same way that leads into ONNX) and compiled
(torch.compile). The graph holds a handful of tasks and one step: every further handful, every
further step and every other k run the same code, and what a step touches stays in a core's cache,
which is worth as much as the compilation itself. Gradients do not pass through it: it serves
Reptile, FOMAML and adaptation, not second-order MAML.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from reptile_agent.meta.inner_loop import InnerOptimizer, OptState, adapt_tasks, inner_step
from reptile_agent.meta.learner import Learner, Params, TensorBatch, stack

log = logging.getLogger(__name__)

Step = Callable[[Params, OptState, TensorBatch, Params], tuple[Params, OptState, dict[str, Tensor]]]
"""`inner_step` of several tasks: (params, moments, minibatches, lr), all but lr `[tasks, ...]`."""


@dataclass
class CompiledAdaptation:
    """Takes the place of `adapt_tasks`: same arguments, same results, nothing to differentiate.

    The first call of a learner, an optimizer and a shape compiles, for seconds to a minute; torch
    keeps the machine code on disk, so that the next process only loads it. Where compiling fails
    (no C++ compiler), the reason is logged once and `adapt_tasks` does the work.

    On CUDA the step is captured as a CUDA graph (`mode="reduce-overhead"`). That path has not run
    yet.
    """

    tasks_per_thread: int = 8
    """Tasks in the graph for each of torch's threads; a smaller meta-batch gets a graph of its own
    size. On a GPU, give it the whole meta-batch."""
    seconds: float = 0.0
    """Spent on tracing, compiling and first runs so far."""
    failure: str = ""
    """Why nothing is compiled, where that is so."""
    _steps: dict[tuple[object, ...], tuple[Learner, Step]] = field(
        default_factory=dict, init=False, repr=False
    )
    # The learner is kept beside its step so that its id is not given to another one.

    @torch.no_grad()
    def __call__(
        self,
        learner: Learner,
        optimizer: InnerOptimizer,
        params: Params,
        batches: TensorBatch,
        lr: Params,
        *,
        stacked: bool = False,
    ) -> tuple[Params, dict[str, Tensor]]:
        """The inner loops of many tasks; see `adapt_tasks`."""
        tasks, steps = next(iter(batches.values())).shape[:2]
        if steps == 0:
            raise ValueError("the inner loop was given no minibatch: k must be at least 1")
        width = min(self.tasks_per_thread * torch.get_num_threads(), tasks)
        params = {name: value.detach() for name, value in params.items()}
        starts = params if stacked else stack(params, tasks)
        parts: list[tuple[Params, dict[str, Tensor]]] = []
        # The last part begins early rather than being smaller, which would need another graph.
        begins = [*range(0, tasks - width, width), tasks - width]
        for begin in begins:
            rows = slice(begin, begin + width)
            live = {name: _packed(value[rows]) for name, value in starts.items()}
            some = {name: value[rows] for name, value in batches.items()}
            step = self._step(learner, optimizer, live, _at(some, 0), lr)
            if step is None:
                return adapt_tasks(learner, optimizer, params, batches, lr, stacked=stacked)
            parts.append(_loop(step, _moments(optimizer, live), live, some, lr))
        adapted, info = zip(*parts)
        return _joined(adapted, begins), _joined(info, begins)

    def _step(
        self,
        learner: Learner,
        optimizer: InnerOptimizer,
        params: Params,
        batch: TensorBatch,
        lr: Params,
    ) -> Step | None:
        """The compiled step for such inputs; None where compiling fails."""
        tensors = (params | batch).items()
        shapes = tuple((name, v.shape, v.dtype, v.device) for name, v in tensors)
        key = (id(learner), optimizer, shapes)
        if key not in self._steps and not self.failure:
            began = time.perf_counter()
            try:
                step = _compiled(learner, optimizer, params, batch, lr)
            except BackendCompilerFailed as error:
                self.failure = str(error).strip().splitlines()[0]
                log.warning("the inner loop runs uncompiled, and slower: %s", self.failure)
                return None
            took = time.perf_counter() - began
            self.seconds += took
            log.info("compiled the inner step of %s in %.1f s", type(learner).__name__, took)
            self._steps[key] = learner, step
        return None if self.failure else self._steps[key][1]


def _compiled(
    learner: Learner, optimizer: InnerOptimizer, params: Params, batch: TensorBatch, lr: Params
) -> Step:
    """A step for inputs of these shapes; its first run is what compiles it, and is done here."""

    def step(
        params: Params, state: OptState, batch: TensorBatch, lr: Params
    ) -> tuple[Params, OptState, dict[str, Tensor]]:
        def one_task(own: Params, moments: OptState, data: TensorBatch):
            return inner_step(learner, optimizer, own, moments, data, lr)

        return vmap(one_task)(params, state, batch)

    inputs = (params, _moments(optimizer, params), batch, lr)
    graph = make_fx(step)(*inputs)
    on_cuda = next(iter(params.values())).is_cuda
    mode = "reduce-overhead" if on_cuda else None
    compiled = torch.compile(graph, dynamic=False, mode=mode)
    compiled(*inputs)
    return compiled


def _moments(optimizer: InnerOptimizer, params: Params) -> OptState:
    """Fresh moments of several tasks; copies, so that no two inputs of a step share memory."""
    return {name: value.clone() for name, value in vmap(optimizer.init)(params).items()}


def _loop(
    step: Step, state: OptState, params: Params, batches: TensorBatch, lr: Params
) -> tuple[Params, dict[str, Tensor]]:
    infos: list[dict[str, Tensor]] = []
    for number in range(next(iter(batches.values())).shape[1]):
        torch.compiler.cudagraph_mark_step_begin()
        params, state, info = step(params, state, _at(batches, number), lr)
        if info["loss"].is_cuda:  # the next replay writes where this one did
            params, state, info = (
                {name: value.clone() for name, value in group.items()}
                for group in (params, state, info)
            )
        infos.append(info)
    return params, {name: torch.stack([i[name] for i in infos], dim=1) for name in infos[0]}


def _at(batches: TensorBatch, step: int) -> TensorBatch:
    """The tasks' minibatches of one step."""
    return {name: _packed(value[:, step]) for name, value in batches.items()}


def _packed(value: Tensor) -> Tensor:
    """A copy whose strides depend on its shape alone: a graph is compiled for strides, too."""
    return value.clone(memory_format=torch.contiguous_format)


def _joined(parts: Sequence[dict[str, Tensor]], begins: list[int]) -> dict[str, Tensor]:
    """One dictionary of parts that begin at these tasks; where two overlap the earlier counts."""
    sizes = [after - begin for begin, after in itertools.pairwise(begins)]
    return {
        name: torch.cat([*(part[name][:n] for part, n in zip(parts, sizes)), last])
        for name, last in parts[-1].items()
    }
