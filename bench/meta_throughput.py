"""Inner loops per second of a meta-batch, beside a Python loop over tasks and beside the peers.

    python -m bench.meta_throughput --json --peers-python peers/bin/python

All run the same loss on the same networks and data, in one process and in turn: one thread count,
one torch. `python_loop` is plain autograd, a task at a time, the fastest Python loop there is here;
`torchopt_vmap` is TorchOpt's functional optimizer under torch.func, all others are loops over tasks
as their examples show them. Every implementation's direction is compared with the Python loop's
before its time counts. Networks are the arm's, minibatches have 48 rows, the inner optimizer is SGD
without a clip (learn2learn has none).

`ours_times_faster` is the median of the rounds' ratios. `first_call_s` holds what a first call
costs: of ours, compiling with an empty cache (the rows that follow reuse the graph). `rss_mb` is
how far resident memory rises during a call, each learner and implementation in a process of its
own: Reptile's should not grow with k, MAML's may. The peers' environment is described in
bench/meta_peers/requirements.txt; those that cannot be imported have a row that says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from bench.machine import about

SWEEP_K = 10
"""Inner steps (k) of the rows that differ in the meta-batch."""


@dataclass
class Args:
    """Time meta-batches of inner loops."""

    learners: tuple[Literal["dynamics", "actor_critic"], ...] = ("dynamics", "actor_critic")
    """Learners to time."""
    meta_batch: tuple[int, ...] = (1, 16, 64, 256)
    """Tasks adapted together, by Reptile with k = 10."""
    inner_steps: tuple[int, ...] = (1, 10, 40)
    """Numbers of inner steps (k), by Reptile and MAML with `k_meta_batch` tasks."""
    k_meta_batch: int = 16
    """Tasks of those rows: MAML keeps every step of every task in memory."""
    repeats: int = 5
    """Times that each row is measured; the median counts."""
    threads: int = len(os.sched_getaffinity(0))
    """Threads of torch, for all alike."""
    peers_python: Path | None = None
    """Python of an environment with the peers; default: this one, with those that it has."""
    quick: bool = False
    """For tests: two tasks, few steps, one learner, and ours traced but not compiled."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    save: Path | None = None
    """Also write rows, machine and versions into this file."""


def main() -> None:
    """Time every learner in one process, then measure each implementation's memory."""
    args = tyro.cli(Args, description=__doc__)
    if args.quick:
        args.learners, args.meta_batch, args.inner_steps = ("dynamics",), (2,), (1, 2)
        args.k_meta_batch, args.repeats = 2, 1
    if args.peers_python is None:
        print("no --peers-python: peers are looked for in this environment", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for learner in args.learners:
            rows += _of_learner(args, learner, cache, versions)
            if args.save:  # after each: the next takes minutes
                machine = about() | {"threads": args.threads, "timed_with": versions}
                args.save.write_text(json.dumps({"about": machine, "rows": rows}, indent=1) + "\n")
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)


def _of_learner(
    args: Args, learner: str, cache: str, versions: dict[str, str]
) -> list[dict[str, Any]]:
    settings = [("reptile", tasks, SWEEP_K) for tasks in args.meta_batch]
    settings += [
        (method, args.k_meta_batch, k) for method in ("reptile", "maml") for k in args.inner_steps
    ]
    settings = list(dict.fromkeys(settings))
    print(f"{learner}: times ...", file=sys.stderr)
    order = {"what": "times", "learner": learner, "settings": settings, "repeats": args.repeats}
    timed = _in_child(args, order, cache)
    versions.update(timed["versions"])
    rose: dict[tuple[object, ...], float] = {}
    for impl in dict.fromkeys(row["impl"] for row in timed["rows"] if "skipped" not in row):
        print(f"{learner}: memory of {impl} ...", file=sys.stderr)
        able = [_key(row)[1:] for row in timed["rows"] if row["impl"] == impl]
        order = {"what": "memory", "learner": learner, "impl": impl, "settings": able}
        measured = _in_child(args, order, cache)
        rose |= {_key(row): row["rss_mb"] for row in measured["rows"]}
    blank = dict.fromkeys(("meta_batch", "k", "inner_loops_per_s"))
    return [
        {"learner": learner} | blank | row | {"rss_mb": rose.get(_key(blank | row))}
        for row in timed["rows"]
    ]


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return row["impl"], row["method"], row["meta_batch"], row["k"]


def _in_child(args: Args, order: dict[str, Any], cache: str) -> dict[str, Any]:
    python = str(args.peers_python or sys.executable)
    command = [
        python,
        "-m",
        "bench.meta_peers.measure",
        json.dumps(order | {"threads": args.threads}),
    ]
    root = Path(__file__).parent.parent
    environment = dict(
        os.environ,
        OMP_NUM_THREADS=str(args.threads),
        OMP_WAIT_POLICY="PASSIVE",
        PYTHONPATH=os.pathsep.join((str(root), os.environ.get("PYTHONPATH", ""))),
        TORCHINDUCTOR_CACHE_DIR=cache,
        TORCH_COMPILE_DISABLE=str(int(args.quick)),
    )
    # Its progress and its errors go where ours go.
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env=environment, cwd=root
    )
    if done.returncode:
        sys.exit(f"measuring {order} failed; what went wrong stands above")
    return json.loads(done.stdout.splitlines()[-1])


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'learner':<14}{'method':<9}{'impl':<15}{'tasks':>6}{'k':>4}{'loops/s':>9}"
        f"{'ours x':>8}{'first s':>9}{'MB':>8}"
    )
    for r in rows:
        name = f"{r['learner']:<14}{r['method']:<9}{r['impl']:<15}"
        if "skipped" in r:
            print(f"{name} skipped: {r['skipped']}")
            continue
        print(
            f"{name}{r['meta_batch']:>6}{r['k']:>4}{r['inner_loops_per_s']:>9.1f}"
            f"{r['ours_times_faster']:>8.2f}{r['first_call_s']:>9.2f}{r['rss_mb']:>8.1f}"
        )


if __name__ == "__main__":
    main()
