"""The page's pictures, as PNG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from reptile_agent.commands.run_page.fault_episode import STAGES, FaultEpisode
from reptile_agent.commands.run_page.run_folder import Curve

ADAPTED, KEPT, INK, TINT = "#0a7d5a", "#c2452d", "#30343b", "#d5d8dd"
COLUMNS = 3
SMOOTH = 50
"""Points that a smoothed curve averages over, where there are many more."""
SMOOTH_S = 0.5


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def learning_curves(curves: dict[str, Curve]) -> Figure:
    """One small plot for each logged figure."""
    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(10, 2.5 * rows), layout="constrained")
    for i, (name, curve) in enumerate(curves.items()):
        axis = figure.add_subplot(rows, COLUMNS, i + 1)
        many = curve.steps.size > 4 * SMOOTH
        style = {"lw": 0.5, "color": TINT} if many else {"lw": 1.3, "color": ADAPTED, "marker": "."}
        axis.plot(curve.steps, curve.values, **style)
        if many:
            axis.plot(curve.steps, _smooth(curve.values, SMOOTH), lw=1.5, color=ADAPTED)
        positive = curve.values[curve.values > 0]
        if positive.size == curve.values.size and positive.max() > 30 * positive.min():
            axis.set_yscale("log")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_xlabel("round" if name.startswith("collect/") else "iteration", fontsize=8)
        _plain(axis)
    return figure


def evaluation(document: dict[str, Any]) -> Figure:
    """Every task's tracking error, by method; the line is the median."""
    rows = [row for row in document["rows"] if row.get("tracking_error")]
    figure = Figure(figsize=(10, 0.6 + 0.38 * len(rows)), layout="constrained")
    axis = figure.add_subplot()
    for y, row in enumerate(rows):
        error = np.array(row["tracking_error"])
        axis.plot(error, np.full(error.size, y), "o", ms=5, mec="none", alpha=0.4, color=ADAPTED)
        axis.plot([np.median(error)] * 2, [y - 0.35, y + 0.35], lw=2, color=KEPT)
    axis.set_yticks(range(len(rows)), [row["method"] for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel("tracking error, a dot a task; the line is the median", fontsize=8)
    _plain(axis)
    return figure


def fault_errors(episode: FaultEpisode, unit: str) -> Figure:
    """The tracking error through the fault, with and without adaptation."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    draw_errors(figure.add_subplot(), episode, unit)
    return figure


def draw_errors(axis: Axes, episode: FaultEpisode, unit: str) -> None:
    """Both errors, averaged over the last SMOOTH_S, with the stages named.

    What the error was at the very beginning, off its course, may leave the plot.
    """
    time_s = episode.period_s * np.arange(episode.kept.size)
    width = max(1, round(SMOOTH_S / episode.period_s))
    kept, adapted = _smooth(episode.kept, width), _smooth(episode.adapted, width)
    axis.plot(time_s, kept, color=KEPT, lw=1.6, label="the start as it is")
    axis.plot(time_s, adapted, color=ADAPTED, lw=1.6, label="adapting")
    on_course = slice(episode.fault_at // 2, None)
    axis.set_xlim(0, time_s[-1])
    axis.set_ylim(0, 1.6 * max(kept[on_course].max(), adapted[on_course].max()))
    begins = (0.0, episode.fault_at * episode.period_s, episode.after_at * episode.period_s)
    for stage, begin_s in zip(STAGES, begins):
        if begin_s:
            axis.axvline(begin_s, color=INK, lw=0.8, ls="--" if stage == "fault" else ":")
        axis.annotate(
            stage,
            (begin_s, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -12),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    axis.set_xlabel("time [s]", fontsize=8)
    axis.set_ylabel(f"error [{unit}]", fontsize=8)
    under_the_stages = {"loc": "upper right", "bbox_to_anchor": (1, 0.9)}
    axis.legend(ncols=2, frameon=False, fontsize=8, **under_the_stages)
    _plain(axis)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the last `width` values, of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, values.size + 1)
    begin = np.maximum(end - width, 0)
    return (sums[end] - sums[begin]) / (end - begin)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
