"""What the robot runs, by onnxruntime: Policy, the inner steps, the adapter; without torch."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np

from bench.onboard_latency import timing
from bench.onboard_latency.timing import LR, Row, Timer
from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import InnerSteps
from reptile_agent.onboard.interface import Shape, interfaces
from reptile_agent.onboard.policy import Policy
from reptile_agent.onboard.session import Bound
from reptile_agent.transition import Transition


def act(timer: Timer, folder: Path) -> list[Row]:
    """`Policy.act`, and beside it a bare run of the same graph with everything bound."""
    bundle = Bundle.load(folder)
    policy, (obs, reference) = Policy(bundle), timing.inputs(bundle)
    bare = _bare(bundle)
    return timer.rows({"act": lambda: policy.act(obs, reference), "act, bare session": bare.run})


def adapt(timer: Timer, folder: Path, steps: tuple[int, ...], sizes: tuple[int, ...]) -> list[Row]:
    """K steps alone (`adapt`), and all that one adaptation takes (`adapter`)."""
    bundle, rows = Bundle.load(folder), []
    for batch in sizes:
        inner = InnerSteps(bundle, AdaptationConfig(batch=batch, rehearsal=0))
        for k in steps:
            batches = timing.minibatches(bundle, k, batch)
            call = functools.partial(inner, bundle.start, batches, LR, None)
            rows.append(timer.row("adapt", call, k, batch, share=10))
    adapter = _fed(bundle)
    size = adapter.config.batch + adapter.config.rehearsal
    for k in steps:
        call = functools.partial(adapter.adapt, k)
        rows.append(timer.row("adapter", call, k, size, share=10))
    assert "torch" not in sys.modules
    return rows


def _bare(bundle: Bundle) -> Bound:
    """`act.onnx` with all inputs and outputs bound to arrays of their own."""
    interface = interfaces(bundle.manifest)["act.onnx"]

    def zeros(shapes: dict[str, Shape]) -> dict[str, np.ndarray]:
        # act has no free axis: every length is a number.
        return {
            name: np.zeros([int(n) for n in shape], np.float32) for name, shape in shapes.items()
        }

    return Bound(bundle.session("act.onnx"), zeros(interface.inputs), zeros(interface.outputs))


def _fed(bundle: Bundle) -> Adapter:
    """The robot's adapter after a window of the bundle's own rehearsal data."""
    adapter, rows = Adapter(bundle), bundle.rehearsal
    _, reference = timing.inputs(bundle)
    for number in range(rows["obs"].shape[0]):
        obs = rows["obs"][number][None]
        for at in range(bundle.manifest.segment):
            after, action = rows["next_obs"][number, at][None], rows["action"][number, at][None]
            zero, first = np.zeros(1, np.float32), np.array([at == 0])
            adapter.remember(Transition(obs, action, after, zero, first, reference=reference[None]))
            obs = after
    return adapter
