"""Makes and binds onnxruntime sessions, the same way where a graph is tried and where it drives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort


def make(graph: bytes) -> ort.InferenceSession:
    """A session of one thread, made from bytes, so that a graph cannot reach for files beside it.

    Raises:
        Exception: onnxruntime refuses the graph; it raises many unrelated types.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is refused is raised, too
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class Bound:
    """A session that reads and writes the same arrays in every run, without allocation.

    Args:
        session: of a graph.
        inputs: name -> array that is read; written in place between runs.
        outputs: name -> array that is written.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        self.session, self.binding = session, session.io_binding()
        # On the CPU an OrtValue shares the array's memory: never bound again.
        keep = {
            n: ort.OrtValue.ortvalue_from_numpy(a) for n, a in (*inputs.items(), *outputs.items())
        }
        for name in inputs:
            self.binding.bind_ortvalue_input(name, keep[name])
        for name in outputs:
            self.binding.bind_ortvalue_output(name, keep[name])
        self._keep = keep

    def run(self) -> None:
        """Read the inputs, write the outputs."""
        self.session.run_with_iobinding(self.binding)
