"""Tries graphs in a process of its own: what crashes, hangs or eats memory does it here.

    python -m reptile_agent.onboard.trial_child < request

Started by `reptile_agent.onboard.trial`. The request is a line of JSON, `limits` and `graphs`
(name, bytes, inputs, outputs), and the graphs' bytes behind it. The answer is lines of JSON on
stdout: of each `graph`, `trying` and `passed` name a check, `refused` one that fails and `why`;
`missing` says what is not installed here; `done` comes last. No answer to a check is an answer,
too: the process died of it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

from reptile_agent.onboard import graph_integers, graph_rules

FREE_LENGTHS = {"k": 2, "rows": 67}
"""Lengths of free axes in the trial run: about as many rows as a robot's minibatch has."""


def main() -> None:
    """Answer one request."""
    # What libraries print goes to stderr: stdout is for answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    header = json.loads(sys.stdin.buffer.readline())
    _limit(header["limits"])
    try:
        protobuf = onnx_protobuf()
        import onnxruntime  # noqa: F401
    except ImportError as error:
        _say(answers, missing=str(error))
        return
    # Side by side: onnxruntime lets go of the interpreter while it makes a session.
    graphs = [(graph, sys.stdin.buffer.read(graph["bytes"])) for graph in header["graphs"]]
    threads = [Thread(target=_try, args=(protobuf, *graph, answers)) for graph in graphs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _say(answers, done="yes")


def onnx_protobuf() -> ModuleType:
    """The protobuf classes of ONNX.

    They are one file of the package `onnx`, whose `__init__` loads its checker, helpers and all:
    on its own it is there in a third of the time.
    """
    package = importlib.util.find_spec("onnx")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "onnx_ml_pb2.py"
        spec = importlib.util.spec_from_file_location("onnx_ml_pb2", file)
        if file.is_file() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("onnx.onnx_ml_pb2")


def _limit(limits: dict[str, int]) -> None:
    """Bound memory, processor time, and the answer; leave no core file."""
    for what, most in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_FSIZE, limits["answer_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _say(answers: int, **answer: str) -> None:
    """One write, so that lines of threads do not mix, and none is lost in a buffer."""
    os.write(answers, json.dumps(answer).encode() + b"\n")


def _try(protobuf: ModuleType, graph: dict[str, Any], data: bytes, answers: int) -> None:
    """Make the checks of one graph, up to one that fails."""
    inputs, outputs = graph["inputs"], graph["outputs"]
    model = protobuf.ModelProto()
    made: list[Any] = []
    checks = (
        ("parses as ONNX", lambda: model.ParseFromString(data)),
        ("nesting and number of nodes", lambda: graph_rules.check_structure(model)),
        ("operators on the allow-list", lambda: graph_rules.check_operators(model)),
        ("no external data, constants as they say", lambda: graph_rules.check_constants(model)),
        ("whole numbers by shapes alone", lambda: graph_integers.check_integers(model)),
        (
            "inputs and outputs of the manifest",
            lambda: graph_rules.check_interface(model, inputs, outputs),
        ),
        ("session made in a process of its own", lambda: made.append(_session(data))),
        ("one run in a process of its own", lambda: _run(made[0], inputs, outputs)),
    )
    for what, check in checks:
        _say(answers, graph=graph["name"], trying=what)
        try:
            check()
        except Exception as error:  # whatever it is, it is the graph's fault
            _say(answers, graph=graph["name"], refused=what, why=_sentence(error))
            return
        _say(answers, graph=graph["name"], passed=what)


def _session(data: bytes) -> Any:
    from reptile_agent.onboard import session

    return session.make(data)


def _run(
    session: Any, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]
) -> None:
    """Run on zeros, and see that what comes out has the shapes that were promised."""
    import numpy as np

    def lengths(shape: list[int | str]) -> tuple[int, ...]:
        return tuple(FREE_LENGTHS[n] if isinstance(n, str) else n for n in shape)

    feed = {name: np.zeros(lengths(shape), np.float32) for name, shape in inputs.items()}
    found = session.run(list(outputs), feed)
    for value, (name, shape) in zip(found, outputs.items()):
        if value.shape != lengths(shape) or value.dtype != np.float32:
            raise graph_rules.GraphError(
                f"gives '{name}' as {value.dtype} {value.shape}, promised is float32 "
                f"{lengths(shape)}"
            )


def _sentence(error: Exception) -> str:
    if isinstance(error, graph_rules.GraphError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


if __name__ == "__main__":
    main()
