"""Times and memory of one learner's inner loops, in a process of its own; prints JSON.

Runs under the Python of the peers' environment, which needs torch, numpy and pydantic beside them.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.meta_peers import workload
from bench.meta_peers.workload import LearnerName, Method, Work
from reptile_agent.meta.learner import Params

Run = Callable[[Method, Work], Params]
WAYS = {
    "ours": ("native", "ours"),
    "python_loop": ("native", "python_loop"),
    "higher": ("with_higher", "run"),
    "torchopt": ("with_torchopt", "run"),
    "torchopt_vmap": ("with_torchopt", "run_vmap"),
    "learn2learn": ("with_learn2learn", "run"),
}
"""Implementation -> module and function."""
ONLY_REPTILE = ("torchopt_vmap",)
TOLERANCE = 3e-3
"""Largest relative difference between two implementations' directions: over ten steps of 256 tasks
rounding decides here and there which of TD3's critics is the smaller one (1.4e-3 was seen)."""


def main() -> None:
    """Do what the first argument says."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(order.pop("threads"))
    what = {"times": times, "memory": memory}[order.pop("what")]
    print(json.dumps({"rows": what(**order), "versions": _versions()}))


def times(
    learner: LearnerName, settings: list[tuple[Method, int, int]], repeats: int
) -> list[dict[str, Any]]:
    """Inner loops per second of everything that can be imported, in turn.

    Args:
        learner: whose inner loss.
        settings: method, size of the meta-batch, k.
        repeats: times that each is measured; medians count.
    """
    ways, missing = _ways()
    rows = [
        {"method": method, "impl": name, "skipped": reason}
        for method in dict.fromkeys(setting[0] for setting in settings)
        for name, reason in missing.items()
        if method == "reptile" or name not in ONLY_REPTILE
    ]
    for method, tasks, k in settings:
        print(f"  {method}, {tasks} tasks, k = {k}", file=sys.stderr, flush=True)
        work = workload.make(learner, tasks, k)
        able = {n: way for n, way in ways.items() if method == "reptile" or n not in ONLY_REPTILE}
        wanted = able["python_loop"](method, work)
        first: dict[str, float] = {}
        seconds: dict[str, list[float]] = {name: [] for name in able}
        for name, way in able.items():
            first[name], found = _timed(way, method, work)
            _same(name, found, wanted)
        for number in range(repeats):
            for name in list(able)[:: 1 if number % 2 else -1]:
                seconds[name].append(_timed(able[name], method, work)[0])
        rows += [
            {
                "method": method,
                "impl": name,
                "meta_batch": tasks,
                "k": k,
                "inner_loops_per_s": round(tasks / statistics.median(measured), 2),
                "ours_times_faster": round(
                    statistics.median(b / a for a, b in zip(seconds["ours"], measured)), 2
                ),
                "first_call_s": round(first[name], 3),
            }
            for name, measured in seconds.items()
        ]
    return rows


def memory(
    learner: LearnerName, impl: str, settings: list[tuple[Method, int, int]]
) -> list[dict[str, Any]]:
    """How far resident memory rises above what it was, data and compilation excluded."""
    way, rows = _load(impl), []
    for method, tasks, k in settings:
        way(method, workload.make(learner, tasks, 1))
        work = workload.make(learner, tasks, k)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
        before = _status_mb("VmRSS")
        way(method, work)
        rise = round(_status_mb("VmHWM") - before, 1)
        rows.append({"method": method, "impl": impl, "meta_batch": tasks, "k": k, "rss_mb": rise})
    return rows


def _ways() -> tuple[dict[str, Run], dict[str, str]]:
    """What can be imported, and why the rest cannot."""
    ways: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for name in WAYS:
        try:
            ways[name] = _load(name)
        except ImportError as error:
            missing[name] = str(error)
    return ways, missing


def _load(name: str) -> Run:
    module, function = WAYS[name]
    return getattr(importlib.import_module(f"bench.meta_peers.{module}"), function)


def _timed(way: Run, method: Method, work: Work) -> tuple[float, Params]:
    began = time.perf_counter()
    found = way(method, work)
    return time.perf_counter() - began, found


def _same(name: str, found: Params, wanted: Params) -> None:
    """Stop where an implementation computes something else."""
    off = torch.stack([(found[n] - value).square().sum() for n, value in wanted.items()]).sum()
    size = torch.stack([value.square().sum() for value in wanted.values()]).sum()
    if not off <= TOLERANCE**2 * size:
        sys.exit(f"{name} finds another direction: off by {float((off / size).sqrt()):.1e}")


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}: memory is measured on Linux only")


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "higher", "torchopt", "learn2learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
