"""What a Raspberry Pi would take, on paper: floating-point operations and kernels, counted.

A board's time is `kernels * kernel_us + flop / (share * peak)`: what onnxruntime spends on starting
each operator, and the matrix products at a share of what one core's vector units can do. Operations
are counted by torch's own counter (matrix products only; a multiplication and an addition are two),
kernels by onnxruntime's profiler, loops unrolled. The boards' constants are assumptions, none was
measured on a board: `tests` hold the counts, not the times.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.onboard_latency import torch_side
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.interface import interfaces


@dataclass(frozen=True)
class Board:
    """One core of a board."""

    name: str
    peak_gflops: float
    """float32 operations per nanosecond: clock times what its vector units do in a cycle."""
    share: float
    """Of the peak, reached in products of such small matrices."""
    kernel_us: float
    """To start an operator."""

    def ms(self, mflop: float, kernels: int) -> float:
        """Time on this core."""
        return 1e-3 * kernels * self.kernel_us + mflop / (self.share * self.peak_gflops)


BOARDS = (
    Board("Raspberry Pi 4", peak_gflops=1.5 * 8, share=0.25, kernel_us=12.0),
    Board("Raspberry Pi 5", peak_gflops=2.4 * 16, share=0.25, kernel_us=5.0),
)
"""Cortex-A72, 1.5 GHz, one 128-bit fused multiply-add a cycle; Cortex-A76, 2.4 GHz, two."""


@dataclass(frozen=True)
class Budget:
    """What one call takes, on paper."""

    subject: str
    what: str
    k: int
    batch: int
    mflop: float
    """Million floating-point operations in matrix products."""
    kernels: int
    """Operators started."""
    board_ms: dict[str, float]
    """Board -> estimated milliseconds."""


def act(name: str, folder: Path) -> list[Budget]:
    """One control period."""
    subject = torch_side.Subject(folder)
    noise = torch.zeros(subject.driver.noise_shape)
    return [_budget(name, "act", 0, 1, lambda: subject.drive(noise), subject.bundle, {})]


def adapt(name: str, folder: Path, steps: tuple[int, ...], sizes: tuple[int, ...]) -> list[Budget]:
    """K inner steps."""
    subject, rows = torch_side.Subject(folder), []
    for batch in sizes:
        (one,) = torch_side.tensors(subject.bundle, 1, batch)
        step = torch_side.eager_step(subject, one)
        for k in steps:

            def call(k=k, step=step, one=one) -> None:
                params = subject.params
                for _ in range(k):
                    params = step(params, one)

            free = {"k": k, "rows": batch}
            rows.append(_budget(name, "adapt", k, batch, call, subject.bundle, free))
    return rows


def _budget(
    subject: str,
    what: str,
    k: int,
    batch: int,
    call: Callable[[], object],
    bundle: Bundle,
    free: dict[str, int],
) -> Budget:
    with FlopCounterMode(display=False) as counted:
        call()
    mflop = 1e-6 * counted.get_total_flops()
    kernels = count_kernels(bundle, f"{what}.onnx", free)
    board_ms = {board.name: board.ms(mflop, kernels) for board in BOARDS}
    return Budget(subject, what, k, batch, mflop, kernels, board_ms)


def count_kernels(bundle: Bundle, graph: str, free: dict[str, int]) -> int:
    """Operators that onnxruntime starts in one run, those in loops each time.

    Args:
        bundle: whose graph.
        graph: its file's name.
        free: lengths of its free axes.
    """
    shapes = interfaces(bundle.manifest)[graph].inputs
    feed = {
        name: np.zeros([free[n] if isinstance(n, str) else n for n in shape], np.float32)
        for name, shape in shapes.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "run")
        session = ort.InferenceSession(
            (bundle.path / graph).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum(e["cat"] == "Node" and e["name"].endswith("_kernel_time") for e in events)
