"""Does a robot survive what may happen to it? Every fault, really brought about, and counted.

    python -m bench.faults --json

Rows are fault, trials, survived, worst_ms and note: `survived` are the trials in which what must
happen did, `worst_ms` is the longest time from the fault to the fallback, refusal or roll-back.
The exit code is 1 where any trial was not survived. Rows that need ROS are skipped, with a word,
where it is not to be had.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.faults import adaptation, bundles, control, processes
from bench.faults.row import Case, Row, Setup
from bench.machine import about
from bench.shipped import SHIPPED
from reptile_agent.onboard.bundle import Bundle

RESULTS = Path(__file__).parents[2] / "docs/results/faults.json"
IN_PROCESS: Mapping[str, Case] = {**control.CASES, **bundles.CASES, **adaptation.CASES}
"""Rows that need neither ROS nor seconds a trial."""
CASES: Mapping[str, Case] = {**IN_PROCESS, **processes.CASES}
"""All rows, in their order."""


@dataclass(frozen=True)
class Args:
    """Bring about every fault that a robot may meet."""

    bundle: Path = SHIPPED
    """Bundle that drives; default: the one that the ROS package ships."""
    trials: int = 1000
    """Of the largest rows; the others take a share of it."""
    only: str = ""
    """Rows whose fault contains this."""
    seed: int = 0
    """Of what is broken, where and when."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    out: Path = RESULTS
    """Where rows, machine and versions are written; only where no row is left out."""


def run(setup: Setup, case: Case, fault: str) -> Row:
    """One row, with a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        return case(dataclasses.replace(setup, folder=Path(folder)), fault)


def main() -> None:
    """Print all rows; exit code 1 where a trial was not survived."""
    args = tyro.cli(Args)
    chosen = {fault: case for fault, case in CASES.items() if args.only in fault}
    if not chosen:
        sys.exit(f"no fault contains '{args.only}' (there are: {', '.join(CASES)})")
    bundle, rows = Bundle.load(args.bundle), []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for fault, case in chosen.items():
            bar = progress.add_task(fault, total=None)

            def advance(done: int, total: int, bar=bar) -> None:
                progress.update(bar, completed=done, total=total)

            setup = Setup(bundle, args.bundle, Path(), args.trials, seed=args.seed, advance=advance)
            rows.append(run(setup, case, fault))
            progress.remove_task(bar)
    document = {"about": about(), "trials": args.trials, "seed": args.seed}
    document["rows"] = [asdict(row) for row in rows]
    if not args.only:
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    if args.json:
        print(json.dumps(document["rows"], indent=1))
    else:
        Console().print(_table(rows))
    sys.exit(any(row.survived < row.trials for row in rows))


def _table(rows: list[Row]) -> Table:
    table = Table("fault", "trials", "survived", "worst ms", "note")
    for row in rows:
        worst = "" if row.worst_ms is None else f"{row.worst_ms:.1f}"
        style = "red" if row.survived < row.trials else None
        table.add_row(row.fault, str(row.trials), str(row.survived), worst, row.note, style=style)
    return table


if __name__ == "__main__":
    main()
