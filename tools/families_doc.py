"""Write docs/families.md from the code: `python -m tools.families_doc`; `--check` only looks.

A family whose optional package is not installed here keeps the section that the file has of it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reptile_agent.spec import Signal
from reptile_agent.task import TaskFamily
from sim import registry

FILE = Path(__file__).parents[1] / "docs" / "families.md"
COMMAND = "python -m tools.families_doc"
HEAD = f"""# Task families

Written by `{COMMAND}` from the code; change that, not this file. `reptile-agent tasks` prints the
same of the families that are installed, yours included.

*train* is the range of meta-training and of the split in_range; *beyond* that of extrapolated and
validation, where two variations leave *train* at a time. *x* is a factor on the nominal robot.
How the splits are drawn is in `sim/splits.py`; each is frozen in the family's `splits.json`, whose
hash stands here.
"""
MISSING = "Not described: where this file was written, its package was not installed ({})."


def main() -> None:
    """Write the file, or with --check exit 1 where it is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--file", type=Path, default=FILE)
    args = parser.parse_args()
    old = args.file.read_text() if args.file.exists() else ""
    new = document(old)
    if not args.check:
        args.file.write_text(new)
        print(f"wrote {args.file}")
    elif new != old:
        sys.exit(f"{args.file} is not what the code says; write it anew: {COMMAND}")


def document(old: str) -> str:
    """The whole file.

    Args:
        old: the file as it is, for the sections of families that are not installed here.
    """
    kept = {part.split("\n")[0]: "## " + part.strip() for part in old.split("\n## ")[1:]}
    parts = [HEAD.strip()]
    for name in registry.names():
        try:
            family = registry.get(name)
        except LookupError as error:
            missing = error.__cause__
            if not isinstance(missing, ModuleNotFoundError) or str(missing.name).startswith("sim"):
                raise  # no optional package, but a family that is not whole
            parts.append(kept.get(name, f"## {name}\n\n{MISSING.format(error)}"))
            continue
        if type(family).__module__.startswith("sim."):  # others have files of their own
            parts.append(_section(family))
    return "\n\n".join(parts) + "\n"


def _section(family: TaskFamily) -> str:
    robot, rows = family.robot, family.describe()
    kind = type(family)
    length_s = family.episode_steps * robot.control_period_s
    facts = [
        f"`{kind.__module__}:{kind.__name__}`: robot `{robot.name}` at "
        f"{1 / robot.control_period_s:g} Hz, episodes of {family.episode_steps} periods "
        f"({length_s:g} s), plans of {family.plan_horizon}",
        f"measures {_signals(robot.observations)}",
        f"obeys {_signals(robot.actions)}",
        f"follows {_signals(robot.references)}",
    ]
    for title, method in (
        ("course", "draw_course"),
        ("start", "initial_state"),
        ("reward", "reward"),
        ("plans", "objective"),
        ("feasible", "feasible"),
        ("held out", "draw_held_out"),
    ):
        if hasattr(kind, method):
            facts.append(f"*{title}*: {_first_line(getattr(kind, method))}")
    parts = [f"## {family.name}", _first_line(kind), "\n".join(f"- {fact}" for fact in facts)]
    parts.append(_table([row for row in rows if not row["held_out"]]))
    held_out = [row for row in rows if row["held_out"]]
    if held_out:
        parts += ["Only in the split held_out:", _table(held_out)]
    return "\n\n".join([*parts, _splits(family)])


def _table(rows: list[dict[str, Any]]) -> str:
    """Variations; those that differ in nothing but the name share a row."""
    lines = ["| variation | unit | nominal | train | beyond | why |", "|---|---|---|---|---|---|"]
    together: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        log = ", log" if row["log"] else ""
        train, beyond = (_range(row[name], row["choices"]) for name in ("train", "beyond"))
        same = (row["unit"], f"{row['nominal']:g}", train + log, beyond, row["why"])
        together.setdefault(same, []).append(f"`{row['name']}`")
    for same, names in together.items():
        lines.append("| " + " | ".join([", ".join(names), *same]).replace("\n", " ") + " |")
    return "\n".join(lines)


def _range(limits: tuple[float, float], choices: Iterable[float]) -> str:
    low, high = limits
    whole = [f"{choice:g}" for choice in choices if low <= choice <= high]
    if whole:
        return ", ".join(whole)
    return f"{low:g}" if low == high else f"{low:g} .. {high:g}"


def _signals(signals: tuple[Signal, ...]) -> str:
    """Signals by quantity and unit: '5 positions (rad)'."""
    groups: dict[tuple[str, str], int] = {}
    for signal in signals:
        key = (signal.quantity, signal.unit)
        groups[key] = groups.get(key, 0) + 1
    plural = {"position": "positions", "velocity": "velocities", "effort": "efforts"}
    return ", ".join(
        f"{count} {quantity if count == 1 else plural[quantity]} ({unit})"
        for (quantity, unit), count in groups.items()
    )


def _splits(family: TaskFamily) -> str:
    sizes = ", ".join(f"{name} {len(tasks)}" for name, tasks in family.splits().items())
    frozen = getattr(family, "folder", Path()) / "splits.json"
    if not frozen.is_file():
        return f"Splits: {sizes}."
    about = json.loads(frozen.read_text())
    return f"Splits: {sizes}; seed {about['seed']}, sha256 `{about['sha256'][:16]}`."


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    main()
