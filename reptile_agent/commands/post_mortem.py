"""What is kept and said of a run whose loss is no longer finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reptile_agent.commands.settings import flat, option
from reptile_agent.meta import checkpoint
from reptile_agent.meta.agent import SETTINGS_OF
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.spec import RobotSpec

POST_MORTEM = "post-mortem.safetensors"
EXTREME = 20.0
"""Distance from a column's median, in units of its spread, from which it is named."""
LEAST_SPREAD = 0.1
"""So that a column that is nearly always zero, such as a contact's, may differ from it."""
LARGE = 100.0
"""Magnitude from which a parameter is named: inputs are normalised, so that none needs it."""
NAMED = 5
"""Columns in the message."""


def write(folder: Path, error: LossNotFinite, ran: dict[str, Any]) -> Path:
    """Write RUN/post-mortem.safetensors; `reptile_agent.meta.checkpoint.read` reads it.

    Args:
        folder: of the run.
        error: what happened, with the batch.
        ran: the iteration, and the run's configuration and provenance.
    """
    path = folder / POST_MORTEM
    checkpoint.write(path, error.batch, {"what": error.what, **ran})
    return path


def extreme_columns(batch: dict[str, np.ndarray], robot: RobotSpec) -> list[str]:
    """The columns of a batch that stand out, worst first, by the robot's names where it has one.

    A column (an index of the last axis) stands out if it holds values that are not finite, or one
    that is farther from the column's median than EXTREME times its spread: half the distance of
    its outer deciles, which one wild value does not widen, and at least LEAST_SPREAD. Parameters
    may grow all together: their spread is taken as LARGE / EXTREME.
    """
    found: list[tuple[float, str]] = []
    for name, array in batch.items():
        if not array.size:
            continue
        parameters = name.startswith("params.")
        has_columns = array.ndim > 1 and not parameters
        width = array.shape[-1] if has_columns else 1
        columns = np.asarray(array, np.float64).reshape(-1, width).T
        for i, column in enumerate(columns):
            bad = int((~np.isfinite(column)).sum())
            worst, far = (np.nan, np.inf) if bad else _farthest(column, parameters)
            if far > EXTREME:
                label = f"{name}[{_signal(name, i, width, robot)}]" if has_columns else name
                said = f"{bad} of {column.size} not finite" if bad else f"{worst:.3g}"
                found.append((far, f"{label}: {said}"))
    found.sort(key=lambda entry: -entry[0])
    return [text for _, text in found]


def _farthest(column: np.ndarray, parameters: bool) -> tuple[float, float]:
    """The value farthest from the median, and how many spreads it is away."""
    if parameters:
        middle, spread = 0.0, LARGE / EXTREME
    else:
        low, middle, high = np.quantile(column, (0.1, 0.5, 0.9))
        spread = max((high - low) / 2, LEAST_SPREAD)
    away = np.abs(column - middle)
    worst = int(away.argmax())
    return float(column[worst]), float(away[worst] / spread)


def _signal(name: str, column: int, width: int, robot: RobotSpec) -> str:
    signals = {
        "obs": robot.observations,
        "next_obs": robot.observations,
        "action": robot.actions,
        "reference": robot.references,
    }.get(name.rpartition(".")[2], ())
    return signals[column].name if len(signals) == width else str(column)


def sentence(
    error: LossNotFinite, path: Path, robot: RobotSpec, config: dict[str, Any], resumable: bool
) -> str:
    """All that a user needs to go on from here.

    Args:
        error: what happened.
        path: of the post-mortem.
        robot: gives columns their names.
        config: of the run, as dumped.
        resumable: whether there is a checkpoint from before.
    """
    columns = extreme_columns(error.batch, robot)
    more = len(columns) - NAMED
    listed = "; ".join(columns[:NAMED]) + (f"; and {more} more" if more > 0 else "")
    sizes = ", ".join(f"{name} {value:g}" for name, value in _step_sizes(config))
    kept = (
        "the last checkpoint is left as it was, and --resume repeats from there what led here, "
        "to the bit: it helps where the machine was at fault"
        if resumable
        else "there is no checkpoint yet to --resume from"
    )
    return (
        f"{error}. The batch and the parameters are in {path}. "
        f"Extreme in it: {listed or 'nothing'}. "
        f"Train again with smaller step sizes (now {sizes}) to another --out; {kept}."
    )


def _step_sizes(config: dict[str, Any]) -> list[tuple[str, float]]:
    """Settings that are step sizes, named as on the command line; none of another learner's."""
    others = set(SETTINGS_OF.values()) - {SETTINGS_OF.get(config.get("learner", ""))}
    found: list[tuple[str, float]] = []
    for name, value in flat(config).items():
        last = name.rpartition(".")[2]
        is_one = (last == "epsilon" or last.endswith("lr")) and value  # 0: not in use
        if is_one and name.partition(".")[0] not in others:
            found.append((option(name), value))
    return found
