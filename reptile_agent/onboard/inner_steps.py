"""The k steps on the robot: runs of `adapt.onnx`, with a look at clock and figures in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle, step_sizes
from reptile_agent.onboard.manifest import Manifest, TensorEntry
from reptile_agent.onboard.session import Bound

CHUNK_STEPS = 1
"""Inner steps in one run of the graph; deadline, figures and cancellation are looked at in between.
The graph would take any number: five at a time save 6 to 12 % (docs/decisions/03), and overrun the
deadline by up to four steps."""

Stop = Literal["done", "deadline", "not_finite", "diverged", "cancelled"]
"""Why stepping ended: all steps taken; no time left; loss or gradient not finite; gradient beyond
`max_grad_norm` or loss risen for `patience` steps; somebody said so."""


class Stepped(NamedTuple):
    """What the steps came to."""

    parameters: np.ndarray
    """Adapted, flat float32."""
    loss: np.ndarray
    """Inner loss before each step taken, [steps]."""
    grad_norm: np.ndarray
    """Gradient norm of each step taken, before clipping, [steps]."""
    stop: Stop


class InnerSteps:
    """Runs `adapt.onnx` step by step; parameters and moments alternate between two buffers.

    Args:
        bundle: verified.
        config: sizes of a minibatch, and when to stop early.
    """

    def __init__(self, bundle: Bundle, config: AdaptationConfig) -> None:
        manifest = bundle.manifest
        self._session = bundle.session("adapt.onnx")
        self._manifest, self._config = manifest, config
        self._flat = _two_buffers(manifest.parameters)
        self._moments = _two_buffers(manifest.optimizer_state)
        self._batch = _batch_buffers(manifest, config.batch + config.rehearsal)
        self._info = {name: np.zeros(CHUNK_STEPS, np.float32) for name in ("loss", "grad_norm")}
        self._lr = step_sizes(manifest, 0.0)
        self._bound: dict[tuple[int, int], Bound] = {}

    def __call__(
        self,
        origin: np.ndarray,
        batches: dict[str, np.ndarray],
        lr: float,
        deadline: float | None,
        tell: Callable[[int, float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Stepped:
        """Take as many steps as there are minibatches, unless something ends it before.

        Args:
            origin: where to begin, flat float32.
            batches: [steps, batch, ...].
            lr: inner step size.
            deadline: on the monotonic clock [s]; the first step is taken in any case.
            tell: called with the number and loss of every step.
            cancelled: when set, no further step is taken, not even a first.
        """
        for name, value in step_sizes(self._manifest, lr).items():
            self._lr[name][...] = value
        self._flat[0][:] = origin
        self._moments[0][:] = 0.0
        side, total = 0, batches["obs"].shape[0]
        loss, grad_norm = np.zeros(total, np.float32), np.zeros(total, np.float32)
        at, stop = 0, None
        while stop is None and at < total:
            if cancelled is not None and cancelled.is_set():
                stop = "cancelled"
                break
            if deadline is not None and at > 0 and time.monotonic() >= deadline:
                stop = "deadline"
                break
            count = min(CHUNK_STEPS, total - at)
            for name, buffer in self._batch.items():
                buffer[:count] = batches[name][at : at + count]
            self._graph(side, count).run()
            side = 1 - side
            loss[at : at + count] = self._info["loss"][:count]
            grad_norm[at : at + count] = self._info["grad_norm"][:count]
            for step in range(at, at + count) if tell else ():
                tell(step, float(loss[step]))  # type: ignore[misc]
            at += count
            stop = self._trouble(loss[:at], grad_norm[:at])
        return Stepped(self._flat[side].copy(), loss[:at], grad_norm[:at], stop or "done")

    def _trouble(self, loss: np.ndarray, grad_norm: np.ndarray) -> Stop | None:
        """What the figures up to now say against going on."""
        config = self._config
        if not (np.isfinite(loss).all() and np.isfinite(grad_norm).all()):
            return "not_finite"
        if config.max_grad_norm is not None and grad_norm.max() > config.max_grad_norm:
            return "diverged"
        if config.patience is not None and loss.size > config.patience:
            rises = np.diff(loss[-config.patience - 1 :]) > 0
            return "diverged" if rises.all() else None
        return None

    def _graph(self, side: int, count: int) -> Bound:
        """What reads buffers `side`, writes the other ones, and takes `count` steps."""
        if (side, count) not in self._bound:
            inputs = {f"lr.{name}": value for name, value in self._lr.items()}
            inputs |= {name: buffer[:count] for name, buffer in self._batch.items()}
            outputs = {name: buffer[:count] for name, buffer in self._info.items()}
            for flat, entries, prefix in (
                (self._flat, self._manifest.parameters, "p."),
                (self._moments, self._manifest.optimizer_state, "s."),
            ):
                old = parameters.views(flat[side], entries)
                new = parameters.views(flat[1 - side], entries)
                inputs |= {prefix + name: value for name, value in old.items()}
                outputs |= {"new." + prefix + name: value for name, value in new.items()}
            self._bound[side, count] = Bound(self._session, inputs, outputs)
        return self._bound[side, count]


def _two_buffers(entries: tuple[TensorEntry, ...]) -> list[np.ndarray]:
    size = sum(entry.size for entry in entries)
    return [np.zeros(size, np.float32) for _ in range(2)]


def _batch_buffers(manifest: Manifest, rows: int) -> dict[str, np.ndarray]:
    """What a run reads its minibatches from."""
    shapes = manifest.experience.minibatch(manifest.robot, manifest.segment).items()
    return {name: np.zeros((CHUNK_STEPS, rows, *shape), np.float32) for name, shape in shapes}
