"""Broken bundles, while a policy is active: refused before it is touched, and the process lives."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from bench.fault_bundles import FAULTS, flip_bits
from bench.faults.rig import Rig
from bench.faults.row import Case, Row, Setup, Tally, first_wrong
from reptile_agent.onboard import trial
from reptile_agent.onboard.bundle import Bundle, BundleError

KINDS: Mapping[str, tuple[str, ...]] = {
    "bundle truncated": ("truncated", "manifest truncated"),
    "bundle oversized": (
        *("oversized", "huge plan", "too many nodes", "constant of another size"),
        "eats memory",
    ),
    "bundle with a wrong hash": ("wrong hash", "bit flipped"),
    "bundle with external data": ("external data",),
    "bundle with path traversal": ("path traversal", "link"),
    "bundle with an unknown operator": ("unknown operator", "random operator", "foreign domain"),
    "bundle: zip bomb of nested graphs": (
        *("manifest nested", "functions that double", "nested deep"),
        *("nested deeper than protobuf", "nested wide"),
    ),
    "bundle with another interface": (
        *("unknown schema", "start not finite", "no graph", "graph without nodes"),
        *("other input", "other output shape"),
    ),
}
"""Row -> names in `bench.fault_bundles.FAULTS`."""
CRASHES = (
    "os.kill(os.getpid(), signal.SIGSEGV)",
    "os.kill(os.getpid(), signal.SIGBUS)",
    "os.abort()",
    "os._exit(3)",
)
"""What a runtime does that a graph has crashed."""
STAND_IN = """
import os, signal, sys
sys.stdin.buffer.read()
print('{"graph": "act.onnx", "trying": "one run in a process of its own"}', flush=True)
"""


class _Active:
    """A policy that drives while bundles are looked at."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._rig = setup, Rig(setup)

    def load(self, path: Path) -> tuple[str, float]:
        """Load a broken bundle; what was wrong with that, and how long it took [ms]."""
        rig, refused, began = self._rig, False, time.perf_counter()
        try:
            Bundle.load(path)
        except BundleError:
            refused = True
        ms = 1e3 * (time.perf_counter() - began)
        command = rig.tick().command
        kept = np.array_equal(rig.controller.policy.parameters, self._setup.bundle.start)
        wrong = first_wrong(
            [
                (refused, f"'{path.name}' was not refused"),
                (kept, "the active policy was touched"),
                (rig.active and command is not None, f"control ended: {rig.controller.reason}"),
            ]
        )
        return wrong, ms


def _kind(setup: Setup, fault: str, names: tuple[str, ...]) -> Row:
    times = max(1, round(setup.trials / 500))
    active, tally = _Active(setup), Tally(setup, len(names) * times)
    for number in range(times):
        for name in names:
            path = setup.folder / f"{fault}-{name}-{number}".replace(" ", "_").replace(":", "")
            FAULTS[name](setup.path, path)
            tally.add(*active.load(path))
            shutil.rmtree(path)
    return tally.row(fault, ", ".join(names))


def _flips(setup: Setup, fault: str) -> Row:
    rng, copy = setup.rng(), setup.folder / "flipped"
    shutil.copytree(setup.path, copy)
    active, tally = _Active(setup), Tally(setup, setup.count(1.0))
    files = {name: (copy / name).read_bytes() for name in setup.bundle.manifest.files}
    for _ in range(tally.total):
        name = sorted(files)[rng.integers(len(files))]
        (copy / name).write_bytes(flip_bits(files[name], rng))
        tally.add(*active.load(copy))
        (copy / name).write_bytes(files[name])
    shutil.rmtree(copy)
    return tally.row(
        fault,
        "one random bit in a graph or tensor file; the manifest has no hash of its own: only a "
        "signature (reptile-agent sign) finds a flip in it that still makes sense",
    )


def _crash(setup: Setup, fault: str) -> Row:
    active, tally = _Active(setup), Tally(setup, max(len(CRASHES), round(setup.trials / 100)))
    for number in range(tally.total):
        with _runtime_that(CRASHES[number % len(CRASHES)], setup.folder):
            tally.add(*active.load(setup.path))
    return tally.row(
        fault,
        "the process that tries the graphs dies by SIGSEGV, SIGBUS, abort or exit in place of "
        "onnxruntime",
    )


@contextmanager
def _runtime_that(does: str, folder: Path) -> Iterator[None]:
    """Graphs are tried by a process that crashes, and none was tried before."""
    (folder / "crashing_runtime.py").write_text(STAND_IN + does)
    with (
        mock.patch.object(trial, "CHILD", "crashing_runtime"),
        mock.patch.object(trial, "_tried", {}),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
    ):
        yield


CASES: Mapping[str, Case] = {
    **{fault: partial(_kind, names=names) for fault, names in KINDS.items()},
    "bundle bit-flipped": _flips,
    "bundle: a graph that crashes the runtime": _crash,
}
"""Fault -> what makes its row."""
