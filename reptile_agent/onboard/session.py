"""Makes an onnxruntime session, the same way where a graph is tried and where it drives."""

from __future__ import annotations

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
