"""What a run's folder holds, read as it is: half a run is read too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reptile_agent.commands.console import UserError
from reptile_agent.commands.post_mortem import POST_MORTEM
from reptile_agent.commands.train import CONFIG
from reptile_agent.commands.train_log import EVENTS
from reptile_agent.commands.validation import FIGURE
from reptile_agent.meta import checkpoint


@dataclass(frozen=True)
class Curve:
    """One logged figure, arrays [points]."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class RunFolder:
    """A run, as far as it is there."""

    path: Path
    ran: dict[str, Any]
    """config.json: family, git_commit, versions, config."""
    curves: dict[str, Curve]
    """By name, such as fit/loss."""
    evaluations: list[dict[str, Any]]
    """The files evaluation-*.json, by split."""
    best: dict[str, Any] | None
    """Iteration and cost of the best start; None: validation never looked."""
    stopped_by: dict[str, Any] | None
    """What and iteration of a loss that was not finite."""


def read(folder: Path) -> RunFolder:
    """Read a run's folder.

    Raises:
        UserError: it is none.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not the folder of a run: it has no {CONFIG}; name one that "
            f"`reptile-agent train --out` wrote"
        )
    evaluations = [_json(path) for path in sorted(folder.glob("evaluation-*.json"))]
    best, post_mortem = folder / FIGURE, folder / POST_MORTEM
    return RunFolder(
        path=folder,
        ran=_json(folder / CONFIG),
        curves=_curves(folder / EVENTS),
        evaluations=evaluations,
        best=_json(best) if best.is_file() else None,
        stopped_by=checkpoint.read(post_mortem)[1] if post_mortem.is_file() else None,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it, or write it again") from None


def _curves(folder: Path) -> dict[str, Curve]:
    """All scalars; of steps that were taken again after a resume, the last value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    curves = {}
    for name in sorted(events.Tags()["scalars"]):
        last = {event.step: event.value for event in events.Scalars(name)}
        steps = sorted(last)
        curves[name] = Curve(np.array(steps), np.array([last[step] for step in steps]))
    return curves
