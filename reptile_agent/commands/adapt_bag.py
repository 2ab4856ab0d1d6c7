"""Adapt from a recorded bag as the robot did or would have, and say what the gate says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.progress import track

from reptile_agent.adaptation import ADAPT_PERIOD_S, AdaptationConfig
from reptile_agent.bags import again, picture
from reptile_agent.bags.again import Outcome
from reptile_agent.bags.recording import Recording, read
from reptile_agent.commands.console import UserError, console, table
from reptile_agent.commands.interrupt import Interrupt
from reptile_agent.onboard.bundle import Bundle


@dataclass
class Command:
    """Adapt from a recorded bag as the robot did or would have; nothing of ROS is needed.

    Where the bag holds what adapter_node said, its adaptations are repeated, and compared with what
    it published, to the bit. Where it does not, or where you ask for other settings, it shows what
    would have come of them; the robot went its own way all the same, so that only the first
    verdicts tell what would have happened. Record bags by `ros2 launch reptile_agent
    record.launch.py`. Exit code 1 where nothing could be adapted.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """Folder of the bag, or a .mcap or .db3 file."""
    bundle: Path
    """Folder of the bundle that drove the robot."""
    namespace: str | None = None
    """Of the robot's nodes; needed where the bag holds several robots."""
    out: Path = Path("adapt-bag.png")
    """The picture."""
    every_s: float | None = None
    """Adapt every so often, not when the robot's adapter did [s]; where there was none, 0.4."""
    inner_steps: int | None = None
    """Other inner steps than the robot's (k)."""
    inner_lr: float | None = None
    """Another step size than the robot's."""
    seed: int = 0
    """The adapter node's parameter seed."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Read, adapt, draw, print."""
        if self.every_s is not None and not 0 < self.every_s < np.inf:
            raise UserError(f"--every-s must be a positive time, got {self.every_s}")
        if not self.out.parent.is_dir():
            raise UserError(f"there is no folder {self.out.parent} for --out; make it first")
        bundle = Bundle.load(self.bundle)
        manifest = bundle.manifest
        config = self._config(manifest.adaptation)
        recording = read(self.bag, manifest, self.namespace)
        asked = self.every_s is not None or config != manifest.adaptation
        repeats = bool(recording.attempts) and not asked
        if repeats:
            found = again.repeat(bundle, recording, self.seed)
        else:
            every_s = ADAPT_PERIOD_S if self.every_s is None else self.every_s
            found = again.every(bundle, recording, config, every_s, self.seed)
        outcomes, finished = _collect(found, quiet=self.json)
        picture.draw(self.out, recording, manifest.robot, outcomes)
        document = _document(recording, outcomes, repeats) | {"picture": str(self.out)}
        if self.json:
            print(json.dumps(document, indent=1))
        else:
            _print(document)
        if not finished:
            return 130
        return 0 if any(outcome.adaptation for outcome in outcomes) else 1

    def _config(self, own: AdaptationConfig) -> AdaptationConfig:
        """How to adapt.

        Raises:
            ValueError: a setting is out of its range.
        """
        given = {"inner_steps": self.inner_steps, "inner_lr": self.inner_lr}
        changes = {name: value for name, value in given.items() if value is not None}
        return own.changed(changes)


def _collect(found: Iterator[Outcome], quiet: bool) -> tuple[list[Outcome], bool]:
    """All outcomes, or those until Ctrl-C; and whether they are all."""
    outcomes: list[Outcome] = []
    with Interrupt() as interrupt:
        for outcome in track(found, "adapting", console=console, transient=True, disable=quiet):
            outcomes.append(outcome)
            if interrupt.asked:
                return outcomes, False
    return outcomes, True


def _document(recording: Recording, outcomes: list[Outcome], repeats: bool) -> dict[str, Any]:
    """What came of it, in plain types."""
    began_s, rows = recording.times_s[0], []
    for outcome in outcomes:
        row: dict[str, Any] = {"time_s": round(outcome.time_s - began_s, 3)}
        if outcome.adaptation is not None:
            adaptation, evidence = outcome.adaptation, outcome.adaptation.evidence
            row |= {
                "verdict": adaptation.verdict.word,
                "reason": adaptation.verdict.reason,
                "steps": adaptation.steps,
                "live_before": _finite(evidence.live_before),
                "live_after": _finite(evidence.live_after),
                "duration_ms": adaptation.duration_ms,
            }
        if outcome.attempt is not None:
            row |= {"robot_verdict": outcome.attempt.verdict, "differs": outcome.differs}
        rows.append(row)
    return {
        "bag": str(recording.path),
        "transitions": len(recording.transitions),
        "seconds": round(recording.times_s[-1] - began_s, 3),
        "repeated": repeats,
        "adaptations": rows,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _print(document: dict[str, Any]) -> None:
    rows = document["adaptations"]
    columns = ["time [s]", "steps", "error before", "after", "verdict"]
    repeats = document["repeated"]
    if repeats:
        columns += ["the robot's", "to the bit"]
    cells = []
    for row in rows:
        before, after = row.get("live_before"), row.get("live_after")
        cell = [f"{row['time_s']:.2f}", str(row.get("steps", ""))]
        cell += ["" if value is None else f"{value:.4g}" for value in (before, after)]
        cell.append(row.get("verdict", "not repeated"))
        if repeats:
            cell += [row["robot_verdict"], f"no: {row['differs']}" if row["differs"] else "yes"]
        cells.append(cell)
    console.print(table(f"{document['bag']}", columns, cells))
    accepted = sum(row.get("verdict") == "accepted" for row in rows)
    console.print(
        f"{document['transitions']} transitions in {document['seconds']:.1f} s, {len(rows)} "
        f"adaptations, {accepted} accepted; drawn: {document['picture']}",
        soft_wrap=True,
    )
    if repeats:
        same = sum(not row["differs"] for row in rows)
        console.print(f"{same} of {len(rows)} are the robot's own, to the bit")
        if same < len(rows):
            console.print(
                "note: to the bit it takes the same kind of processor, the adapter's --seed, and a "
                "recording that began before adapter_node was configured and missed nothing; what "
                "~/restore, ~/consolidate and a state_folder bring in is in no bag",
                soft_wrap=True,
            )
    elif not rows:
        console.print("too few transitions for an adaptation")
