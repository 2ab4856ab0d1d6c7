"""How long a robot takes to act, to adapt and to start, by onnxruntime and by torch, in one run.

    python -m bench.onboard_latency --json

Each subject and runtime gets a process of its own, one thread, and the same bundle, so that the
memory is its own too. `act` is one control period, `adapt` the k steps alone; `adapter` is all
that the robot does for one adaptation: drawing minibatches, the steps, and the gate with its plans;
`load` is a new process from its start to its first action, with every check of the bundle, `import`
one that only imports, and `configure` what the ROS nodes do before they can be activated, timed
once, with the memory that they take when active.
`--paper` counts operations instead, and says what a Raspberry Pi would take.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from bench.onboard_latency.subjects import MADE
from bench.onboard_latency.timing import Timer
from bench.shipped import SHIPPED

Runtime = Literal["onnxruntime", "torch_eager", "torch_compile", "paper"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "torch_eager", "torch_compile")


@dataclass(frozen=True)
class Args:
    """Time act and adapt with onnxruntime, torch eager and torch.compile."""

    bundle: Path = SHIPPED
    """Bundle to time; default: the one that the ROS package ships."""
    subjects: tuple[str, ...] = ("bundle", *MADE)
    """The bundle, and sizes that others publish figures for, of which only `act` is timed: mppi
    (512 plans of 15 periods, five members of 2 x 128) and reactive (a policy of 2 x 256)."""
    inner_steps: tuple[int, ...] = (1, 5, 10, 20)
    """Numbers of inner steps (k)."""
    batches: tuple[int, ...] = (64, 256)
    """Segments in a minibatch."""
    repeats: int = 1000
    """Runs of act; a tenth of it of each adapt."""
    domain: int = 88
    """ROS domain of the nodes, on this machine only."""
    paper: bool = False
    """Count operations, and estimate a Raspberry Pi's time from them; nothing is timed."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    save: Path | None = None
    """Also write rows, machine and versions into this file."""


@dataclass(frozen=True)
class Job:
    """What one process times; for the benchmark's own use."""

    subject: str
    folder: Path
    runtime: Runtime
    inner_steps: tuple[int, ...]
    batches: tuple[int, ...]
    repeats: int

    def run(self) -> list[dict]:
        """The rows, in this process."""
        rows: list = []
        if self.runtime == "paper":
            from bench.onboard_latency import paper

            rows += paper.act(self.subject, self.folder)
            if self.subject == "bundle":
                rows += paper.adapt(self.subject, self.folder, self.inner_steps, self.batches)
            return [asdict(row) for row in rows]
        if self.runtime == "onnxruntime":
            from bench.onboard_latency import onboard as side
        else:
            from bench.onboard_latency import torch_side as side
        repeats = self.repeats // 10 if self.subject == "mppi" else self.repeats
        timer = Timer(self.subject, self.runtime, repeats)
        rows += side.act(timer, self.folder)
        if self.subject == "bundle":
            rows += side.adapt(timer, self.folder, self.inner_steps, self.batches)
        return [asdict(row) for row in rows]


def main() -> None:
    """Time every subject in every runtime, each in a process of its own."""
    if sys.argv[1:2] == ["job"]:
        print(json.dumps(tyro.cli(Job, args=sys.argv[2:]).run()))
        return
    args = tyro.cli(Args)
    unknown = {*args.subjects} - {"bundle", *MADE}
    if unknown:
        sys.exit(f"there is no subject {sorted(unknown)}; there are bundle, {', '.join(MADE)}")
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as made:
        rows = _rows(args, Path(made), console)
    if args.save:
        from bench.machine import about

        args.save.write_text(json.dumps({"about": about(), "rows": rows}, indent=1) + "\n")
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        Console().print(_table(rows))


def _rows(args: Args, made: Path, console: Console) -> list[dict]:
    rows = []
    if "bundle" in args.subjects and not args.paper:
        from bench.onboard_latency import processes

        console.print("processes that start", style="dim")
        rows += [asdict(row) for row in processes.rows(args.bundle, args.repeats // 5, args.domain)]
    for subject in args.subjects:
        folder = args.bundle
        if subject != "bundle":
            folder = made / subject
            console.print(f"making the bundle of {subject}", style="dim")
            _python("-m", "bench.onboard_latency.subjects", subject, str(folder))
        for runtime in ("paper",) if args.paper else RUNTIMES:
            console.print(f"{subject}: {runtime}", style="dim")
            rows += _child(
                Job(subject, folder, runtime, args.inner_steps, args.batches, args.repeats)
            )
    return rows


def _child(job: Job) -> list[dict]:
    values = {f"--{name.replace('_', '-')}": value for name, value in asdict(job).items()}
    words = ["job"]
    for option, value in values.items():
        words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return json.loads(_python("-m", "bench.onboard_latency", *words))


def _python(*arguments: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def _table(rows: list[dict]) -> Table:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(v)}" for name, v in value.items())
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else (f"{value:.0f}" if isinstance(value, float) else str(value))
    )


if __name__ == "__main__":
    main()
