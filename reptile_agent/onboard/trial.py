"""Has graphs tried in a process of their own before they come near the robot's.

That process parses them, holds them against `graph_rules` and `graph_integers`, makes their
sessions and runs each once, within limits of memory and time. Only the exit of that process is
trusted, not its good will: a graph passes where every check was answered and the process ended
well.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Mapping
from pathlib import Path

from reptile_agent.onboard import child
from reptile_agent.onboard.checks import BundleError, Checks
from reptile_agent.onboard.interface import Interface

CHILD = "reptile_agent.onboard.trial_child"
MEMORY_BYTES = 2**30
"""Address space; onnxruntime takes 150 MB of it before it sees a graph."""
CPU_S = 20
WALL_S = 30.0
"""The shipped bundle takes a third of a second; a robot's computer is slower, and busy."""
_tried: dict[str, tuple[str, ...]] = {}
"""Digest of what passed in this process already -> the checks that it passed."""


def try_graphs(
    path: Path, graphs: Mapping[str, bytes], interfaces: Mapping[str, Interface], checks: Checks
) -> None:
    """Try graphs; those that passed before in this process, to the byte, are not tried again.

    Args:
        path: of the bundle, for messages.
        graphs: file names -> contents.
        interfaces: what each must take and give.
        checks: is told of each check.

    Raises:
        BundleError: one is refused, or could not be tried.
    """
    header = {
        "limits": {
            "memory_bytes": MEMORY_BYTES,
            "cpu_s": CPU_S,
            "answer_bytes": child.OUTPUT_BYTES,
        },
        "graphs": [
            {
                "name": name,
                "bytes": len(data),
                "inputs": interfaces[name].inputs,
                "outputs": interfaces[name].outputs,
            }
            for name, data in graphs.items()
        ],
    }
    request = b"".join((json.dumps(header).encode(), b"\n", *graphs.values()))
    digest = hashlib.sha256(request).hexdigest()
    if digest not in _tried:
        _tried[digest] = _ask(path, request, checks)
    else:
        checks.passed += _tried[digest]


def _ask(path: Path, request: bytes, checks: Checks) -> tuple[str, ...]:
    """The checks that were passed, all of them."""
    status, output, said = child.run(CHILD, request=request, wall_s=WALL_S)
    answers = [_parse(line) for line in output.splitlines()]
    passed = [f"{a['graph']}: {a['passed']}" for a in answers if {"graph", "passed"} <= a.keys()]
    passed.sort(key=lambda check: check.split(":")[0])  # by graph: they were tried side by side
    checks.passed += passed
    for answer in answers:
        if "missing" in answer:
            raise BundleError(
                f"the graphs of {path} cannot be tried here: {answer['missing']}; pip install "
                f"'reptile-agent'"
            )
        if {"graph", "refused", "why"} <= answer.keys():
            checks.failed = f"{answer['graph']}: {answer['refused']}"
            raise BundleError(
                f"{path / answer['graph']} was refused ({answer['refused']}): {answer['why']}; "
                f"export the bundle again"
            )
    if status != 0 or not answers or "done" not in answers[-1]:
        # Graphs are tried side by side: it may have been any of those that were under way.
        tried = [f"{a['graph']}: {a['trying']}" for a in answers if {"graph", "trying"} <= a.keys()]
        open_ones = [check for check in tried if check not in passed] or ["before the first check"]
        checks.failed = ", ".join(open_ones)
        if status in (-signal.SIGINT, -signal.SIGTERM):
            raise BundleError(
                f"{path} was not tried to the end: told to stop ({signal.strsignal(-status)})"
            )
        raise BundleError(
            f"{path} was refused: the process that tried its graphs {_ending(status)} at "
            f"{checks.failed}{f' ({said})' if said else ''}; export the bundle again"
        )
    return tuple(passed)


def _parse(line: bytes) -> dict[str, str]:
    """One answer; nothing where it is none, as when the process died in the middle of it."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    return {name: str(value) for name, value in answer.items()}


def _ending(status: int | None) -> str:
    if status is None:
        return f"was not done after {WALL_S:g} s"
    if status < 0:
        return f"was killed ({signal.strsignal(-status)})"
    return f"ended with status {status}"
