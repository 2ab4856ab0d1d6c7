"""Does a meta-learned start adapt robots better? Every method, family and seed, as raw results.

    python -m bench.adaptation --json

writes docs/results/adaptation.parquet, one row a run; docs/protocol.md says what is done and why,
`python -m bench.adaptation.report` makes every table and picture from the file. A seed that is
done is kept in runs/adaptation/, so that an interrupted run goes on where it was; the file's name
ends in a hash of the family's settings and the splits, so that what was run with others is left.
The experience that a seed's methods share is kept there too, for other methods and step sizes.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from pydantic import TypeAdapter
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.adaptation import on_policy
from bench.adaptation.fresh import FRESH
from bench.adaptation.judging import (
    Row,
    Tasks,
    conditions,
    judge,
    judge_oracle,
    judge_simulator,
)
from bench.adaptation.methods import KEPT, Start, experience, finish, oracle, scratch
from bench.adaptation.quick import quickened
from bench.adaptation.report import RESULTS
from bench.adaptation.scores import SCHEMA, normalise
from bench.adaptation.settings import (
    SETTINGS,
    SPLITS,
    STEPS,
    VERDICT,
    OnPolicySetting,
    Setting,
    digest,
)
from bench.machine import about
from reptile_agent.commands.console import console
from reptile_agent.task import TaskFamily
from sim import registry

PARTS = Path("runs/adaptation")
USUAL_OUT = RESULTS / "adaptation.parquet"
LATER: dict[type, dict[str, object]] = {
    Setting: {
        "train.tried_plans": 0,
        "train.keep": 0.0,
        "train.adaptation.projection_radius": None,
        "also": {},
        "ungated_seeds": 0,
        "first_task": 0,
        "scratch": True,
        "planning": {"correlation": 0.5, "temperature": 0.35, "smoothness": 0.1},
    },
    OnPolicySetting: {"train.outer": "adam", "train.learn_lr": 0.0},
}
"""Fields that came after results had been made, and where they change nothing: then those results
stay those of today's settings."""


@dataclass
class Args:
    """Train and judge every method, and write one row a run."""

    families: tuple[str, ...] | None = None
    """Families to run; those that are not run keep the rows they have in --out. Default: all."""
    fresh: bool = False
    """Judge on test tasks that no table was made with, by bench/adaptation/fresh.py."""
    first_seed: int = 0
    """First meta-training seed."""
    seeds: int | None = None
    """Meta-training seeds from there on; default: each family's own number."""
    splits: tuple[str, ...] = SPLITS
    """Splits to judge on; tune on 'validation' alone."""
    out: Path | None = None
    """File of raw results; default: docs/results/adaptation.parquet, of fresh tasks fresh.parquet
    beside it, and quick.parquet among the parts of a quick run."""
    parts: Path = PARTS
    """Folder of what is done so far; delete it to begin anew."""
    threads: int = 1
    """Of torch; two processes with halves of the seeds are faster than two threads."""
    quick: bool = False
    """Hardly any training and two tasks: to see that everything runs, not what comes out."""
    json: bool = False
    """Print the number of rows of each family as JSON at the end."""


def main(args: Args) -> int:
    """Run what is not done yet, and write the file."""
    usual = FRESH if args.fresh else SETTINGS
    unknown = [name for name in args.families or () if name not in usual]
    if unknown:
        known = ", ".join(usual)
        console.print(f"no settings for {', '.join(unknown)} (there are: {known})", style="red")
        return 2
    torch.set_num_threads(args.threads)
    args.parts.mkdir(parents=True, exist_ok=True)
    settings = {n: quickened(setting) if args.quick else setting for n, setting in usual.items()}
    _run_missing(args, settings)
    usual_out = USUAL_OUT.with_stem("fresh") if args.fresh else USUAL_OUT
    out = args.out or (args.parts / "quick.parquet" if args.quick else usual_out)
    hashes = {n: settings_hash(n, setting, args.splits) for n, setting in settings.items()}
    wanted = [part_name(n, "*", setting, args.splits) for n, setting in settings.items()]
    counts = merge([part for n in wanted for part in sorted(args.parts.glob(n))], out, hashes)
    if args.json:
        print(json.dumps({"results": str(out), "rows": counts}, indent=1))
    return 0


def _run_missing(args: Args, settings: Mapping[str, Setting | OnPolicySetting]) -> None:
    """Run every seed that has no part yet, and write its part."""
    todo: list[tuple[str, int, Path]] = []
    for name in args.families or settings:
        count = settings[name].seeds if args.seeds is None else args.seeds
        for seed in range(args.first_seed, args.first_seed + count):
            part = args.parts / part_name(name, str(seed), settings[name], args.splits)
            if not part.exists():
                todo.append((name, seed, part))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    quiet = not console.is_terminal  # without a terminal a bar would be lines and lines
    long_s = 1e9  # a seed takes minutes: all that are done tell how long the others will take
    with Progress(
        *columns, *times, console=console, disable=quiet, speed_estimate_period=long_s
    ) as progress:
        bar = progress.add_task("seeds", total=len(todo))
        for name, seed, part in todo:

            def tell(doing: str, at: str = f"{name}, seed {seed}") -> None:
                progress.update(bar, description=escape(f"{at}: {doing}"))

            folder = args.parts / KEPT.name
            found = run_seed(name, settings[name], seed, args.splits, tell, folder)
            rows = [fill(row) for row in found]
            partial = part.with_suffix(".partial")
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial)
            os.replace(partial, part)
            progress.advance(bar)


def part_name(
    family: str, seed: str, setting: Setting | OnPolicySetting, splits: tuple[str, ...]
) -> str:
    """File of one seed's rows; other settings, other file."""
    return f"{family}-{seed}-{settings_hash(family, setting, splits)}.parquet"


def settings_hash(family: str, setting: Setting | OnPolicySetting, splits: tuple[str, ...]) -> str:
    """What tells rows of these settings and splits from rows of others."""
    settings = TypeAdapter(type(setting)).dump_python(setting, mode="json")
    if isinstance(setting, Setting):
        settings["planning"] = asdict(registry.get(family).planning)
    settings.pop("seeds")  # how many there are changes none of them
    for name, nothing in LATER[type(setting)].items():
        *groups, field = name.split(".")
        fields = functools.reduce(operator.getitem, groups, settings)
        if fields[field] == nothing:
            del fields[field]
    return digest([settings, splits])


def run_seed(
    name: str,
    setting: Setting | OnPolicySetting,
    seed: int,
    splits: tuple[str, ...],
    tell: Callable[[str], None] = lambda _: None,
    folder: Path | None = None,
) -> Iterator[Row]:
    """All rows of one family and meta-training seed.

    Args:
        name: of the family.
        setting: how it is run.
        seed: of meta-training.
        splits: to judge on.
        tell: called with what is done next.
        folder: of experience that is not gathered twice; None: it is.
    """
    family = registry.get(name)
    if isinstance(setting, OnPolicySetting):
        tasks = Tasks.of(family, splits, setting.tasks)
        found = on_policy.run(family, setting, tasks, seed, tell)
    else:
        tasks = Tasks.of(family, splits, setting.tasks, setting.first_task)
        found = _run_dynamics(family, setting, tasks, seed, tell, folder)
    for method, rows in found:
        console.print(f"{name}, seed {seed}: {method} {_summary(rows)}")
        yield from rows


def _run_dynamics(
    family: TaskFamily,
    setting: Setting,
    tasks: Tasks,
    seed: int,
    tell: Callable[[str], None],
    folder: Path | None,
) -> Iterator[tuple[str, list[Row]]]:
    """Every method and its rows, one after the other."""
    shared = experience(family, setting, seed, tell, folder)
    every = seed < setting.other_seeds
    for method in (m for m in setting.methods if every or m in VERDICT):
        start = finish(shared, setting, method, tell, setting.tuned_for(method))
        yield method, _judged(setting, start, tasks, seed, tell)
        if method == "joint" and seed < setting.oracle_seeds:
            tell("the oracle")
            yield "oracle", _oracle_rows(setting, start, tasks, seed)
    if every and setting.scratch:
        yield "scratch", _judged(setting, scratch(shared), tasks, seed, tell)


def _judged(
    setting: Setting,
    start: Start,
    tasks: Tasks,
    seed: int,
    tell: Callable[[str], None],
) -> list[Row]:
    done: list[Row] = []
    for how in conditions(setting, start.method, seed, STEPS):
        tell(f"judging {start.method}, {how}")
        done += judge(start.trainer.family, setting, start.trainer, tasks, how, seed)
    return [labelled(row, start, seed) for row in done]


def _oracle_rows(setting: Setting, joint: Start, tasks: Tasks, seed: int) -> list[Row]:
    family, config = joint.trainer.family, joint.trainer.config
    if setting.oracle == "simulator":
        start = Start("oracle", joint.trainer, 0, 0.0)
        found = [judge_simulator(family, setting, tasks, fault, seed) for fault in (False, True)]
    else:
        began = time.monotonic()
        own = oracle(family, setting, joint, tasks.tasks, seed)
        train_s = joint.train_s + time.monotonic() - began
        env_steps = joint.train_env_steps + joint.train_env_steps // config.tasks
        start = Start("oracle", joint.trainer, env_steps, train_s)
        agent = joint.trainer.agent
        found = [
            judge_oracle(family, setting, agent, own, tasks, fault, seed) for fault in (False, True)
        ]
    return [labelled(row, start, seed) for rows in found for row in rows]


def labelled(row: Row, start: Start, seed: int) -> Row:
    """A run's row with what is known of its start."""
    return row | {
        "seed": seed,
        "learner": start.trainer.config.learner,
        "method": start.method,
        "train_env_steps": start.train_env_steps,
        "train_s": start.train_s,
    }


def fill(row: Row) -> Row:
    """A row with all columns; scores need all rows and come last."""
    return {"score": float("nan")} | row


def _summary(rows: list[Row]) -> str:
    """Mean return per k of runs that are varied from the start on, gate on where there is one."""
    gate = rows[0]["gate"]
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["experiment"] == "adapt" and row["gate"] == gate:
            found.setdefault(f"{row['split']} k={row['k']}", []).append(row["episode_return"])
    return ", ".join(f"{name}: {sum(v) / len(v):.3g}" for name, v in found.items())


def merge(parts: list[Path], out: Path, hashes: dict[str, str]) -> dict[str, int]:
    """Write all parts as one file, with what it had and they have not; rows by family.

    A family's rows of seeds without a part are kept if they were run with the settings of today
    (`hashes`, by family), or if the family has no part at all.
    """
    tables = [pq.read_table(part) for part in parts]
    new = {seed for table in tables for seed in _seeds(table)}
    families = {family for family, _ in new}
    run_with = {family: hashes[family] for family in families}
    if out.exists():
        old = pq.read_table(out)
        known = json.loads((old.schema.metadata or {}).get(b"settings", b"{}"))
        voided = {f for f in families if known.get(f) != hashes[f]}
        keep = [seed not in new and seed[0] not in voided for seed in _seeds(old)]
        tables.append(old.filter(pa.array(keep, pa.bool_())))
        run_with = known | run_with
    table = normalise(pa.concat_tables([t.select(SCHEMA.names) for t in tables]))
    about_them = {"about": json.dumps(about()), "settings": json.dumps(run_with)}
    table = table.replace_schema_metadata(about_them)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    pq.write_table(table, partial)
    os.replace(partial, out)
    rows = table["family"].to_pylist()
    return {name: rows.count(name) for name in sorted(set(rows))}


def _seeds(table: pa.Table) -> list[tuple[str, int]]:
    """Family and seed of every row."""
    return list(zip(table["family"].to_pylist(), table["seed"].to_pylist()))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
