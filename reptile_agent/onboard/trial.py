"""Has graphs tried in a process of their own before they come near the robot's.

That process parses them, holds them against `graph_rules`, makes their sessions and runs each once,
within limits of memory and time. Only the exit of that process is trusted, not its good will: a
graph passes where every check was answered and the process ended well.
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
    trying, passed, done = "the first check", [], False
    for line in output.splitlines():
        answer = _parse(line)
        done = "done" in answer
        trying = answer.get("trying", trying)
        if "passed" in answer:
            passed.append(answer["passed"])
        elif "refused" in answer:
            checks.passed += passed
            checks.failed = answer["refused"]
            graph, _, check = answer["refused"].partition(": ")
            raise BundleError(
                f"{path / graph} was refused ({check}): {answer['why']}; export the bundle again"
            )
        elif "missing" in answer:
            raise BundleError(
                f"the graphs of {path} cannot be tried here: {answer['missing']}; install it by "
                f"pip install 'reptile-agent'"
            )
    if status != 0 or not done:
        checks.passed += passed
        checks.failed = trying
        graph, _, check = trying.partition(": ")
        raise BundleError(
            f"{path / graph} was refused: the process that tried it {_ending(status)} at "
            f"'{check}'{f' ({said})' if said else ''}; export the bundle again"
        )
    checks.passed += passed
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
