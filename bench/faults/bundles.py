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
    "bundle whose graph would trap or starve the process": (
        *("traps the processor", "length by measurement", "eats memory"),
    ),
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
UNGUARDED = """
from reptile_agent.onboard import graph_integers, trial_child
graph_integers.check_integers = lambda model: None
trial_child.main()
"""
"""The process that tries graphs, without the rule that keeps the known crash from onnxruntime."""


class _Active:
    """A policy that drives while bundles are looked at."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._rig = setup, Rig(setup)

    def load(self, path: Path, died_of: str = "") -> tuple[str, float]:
        """Load a broken bundle; what was wrong with that, and how long it took [ms].

        Args:
            path: of the bundle.
            died_of: what the process that tried its graphs has to have been killed by.
        """
        rig, refused, began = self._rig, False, time.perf_counter()
        try:
            Bundle.load(path)
        except BundleError as error:
            refused = died_of in str(error)
        ms = 1e3 * (time.perf_counter() - began)
        command = rig.tick().command
        kept = np.array_equal(rig.controller.policy.parameters, self._setup.bundle.start)
        wrong = first_wrong(
            [
                (refused, f"'{path.name}' was not refused as it should"),
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
    active, tally = _Active(setup), Tally(setup, max(4, round(setup.trials / 100)))
    path = setup.folder / "crashing"
    FAULTS["traps the processor"](setup.path, path)
    with _unguarded(setup.folder):
        for _ in range(tally.total):
            tally.add(*active.load(path, died_of="Floating point exception"))
    return tally.row(
        fault,
        "the least int64 divided by -1 kills onnxruntime (SIGFPE) in the process that tries the "
        "graphs; the rule that would refuse it before is switched off there",
    )


@contextmanager
def _unguarded(folder: Path) -> Iterator[None]:
    """Graphs are tried without the rule, and none was tried before."""
    (folder / "unguarded_trial.py").write_text(UNGUARDED)
    with (
        mock.patch.object(trial, "CHILD", "unguarded_trial"),
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
