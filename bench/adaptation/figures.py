"""Pictures of one comparison: a column a split, a colour and a marker a method."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.adaptation import estimates
from bench.adaptation.comparison import Arm, Comparison
from bench.adaptation.estimates import Estimate
from bench.adaptation.scores import matrix
from bench.adaptation.settings import VERDICT

STYLES = {
    "reptile": ("#0072B2", "o"),
    "fomaml": ("#56B4E9", "s"),
    "maml": ("#009E73", "^"),
    "promp": ("#E69F00", "D"),
    "rl2": ("#CC79A7", "v"),
    "joint": ("#D55E00", "X"),
    "joint_context": ("#8C510A", "d"),
    "reptile_afresh": ("#332288", "h"),
    "scratch": ("#999999", "P"),
    "oracle": ("#000000", "*"),
}
"""Colours that the colour-blind tell apart (Okabe and Ito 2008, less the yellow, and two more for
controls), and markers."""
AXES = {"k": "inner steps k", "seconds_of_data": "data [s]"}
VALUES = {"score": "score (IQM)", "episode_return": "mean return"}
WIDTH_IN, PANEL_IN, DPI = 9.5, 2.6, 130


def draw(comparison: Comparison, folder: Path, reps: int) -> list[Path]:
    """Write all pictures of a comparison, FAMILY-LEARNER-WHAT.png; what has no data is left out."""
    stem = f"{comparison.family}-{comparison.learner}"
    scored = [split for split in comparison.splits if not comparison.why_no_score(split)]
    rows, on_policy = comparison.rows, comparison.on_policy
    written = []
    for what, figure in (
        ("k", _curves(comparison, "k", reps)),
        ("seconds", None if on_policy else _curves(comparison, "seconds_of_data", reps)),
        ("profile", _profiles(comparison, scored, reps) if scored else None),
        ("iqm", _intervals(comparison, scored, reps) if scored else None),
        ("safety", _safety(comparison, reps)),
        ("recovery", _recovery(comparison, reps) if "fault" in set(rows.experiment) else None),
    ):
        if figure:
            written.append(folder / f"{stem}-{what}.png")
            figure.savefig(written[-1], dpi=DPI)
    return written


def _curves(comparison: Comparison, along: str, reps: int) -> Figure:
    """Score and return against k or seconds of data; dashed: methods without inner steps."""
    title = f"{comparison.family}, {comparison.learner}"
    title += f": {comparison.data} of data" if along == "k" else f": k = {comparison.k}"
    with _panels(title, comparison.splits, list(VALUES)) as (figure, axes):
        for row, (value, label) in enumerate(VALUES.items()):
            axes[row, 0].set_ylabel(label)
            for column, split in enumerate(comparison.splits):
                ax = axes[row, column]
                reason = comparison.why_no_score(split) if value == "score" else ""
                if reason:
                    text = textwrap.fill(f"no score: {reason}", 28)
                    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
                    ax.set(xticks=[], yticks=[])
                    continue
                _curve_panel(ax, comparison, split, along, value, reps)
        for ax in axes[-1]:
            ax.set_xlabel(AXES[along])
    return figure


def _curve_panel(
    ax: Axes, comparison: Comparison, split: str, along: str, value: str, reps: int
) -> None:
    curves: dict[str, tuple[list[float], Estimate]] = {}
    for method in comparison.methods(split):
        at, values = comparison.curve(split, method, along, value)
        judge = estimates.interquartile_mean if value == "score" else estimates.mean
        curves[method] = at, judge(values, reps)
    # k grows in near doublings, so its values stand at equal distances.
    ticks = sorted({x for at, _ in curves.values() for x in at})
    place = {x: i if along == "k" else x for i, x in enumerate(ticks)}
    for method, (at, estimate) in curves.items():
        colour, marker = STYLES[method]
        if len(at) == 1:
            ax.axhline(estimate.point[0], color=colour, linestyle="--", label=method)
            continue
        x = [place[value] for value in at]
        measured_between = len(at) > 2  # else a line would claim what nobody measured
        line = "-" if measured_between else "none"
        ax.plot(
            *(x, estimate.point),
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5,
            label=method,
        )
        if measured_between:
            ax.fill_between(x, estimate.low, estimate.high, color=colour, alpha=0.18, linewidth=0)
        else:
            ax.vlines(x, estimate.low, estimate.high, color=colour, alpha=0.4)
    _spare_scratch(ax, curves)
    if along == "k":
        ax.set_xticks(list(place.values()), [f"{x:g}" for x in place])


def _spare_scratch(ax: Axes, curves: dict[str, tuple[list[float], Estimate]]) -> None:
    """Scale a panel by all methods but scratch, which may lie so far below that it hides them."""
    others = [estimate for method, (_, estimate) in curves.items() if method != "scratch"]
    shown = np.concatenate([[*e.point, *e.low, *e.high] for e in others] or [[]])
    if np.isfinite(shown).any():
        ax.set_ylim(*_limits(shown))


def _limits(shown: np.ndarray) -> tuple[float, float]:
    """Ends of an axis that shows all finite values, with a margin."""
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    margin = 0.07 * (high - low or 1.0)
    return low - margin, high + margin


def _profiles(comparison: Comparison, splits: list[str], reps: int) -> Figure:
    """Share of runs whose score exceeds tau."""
    title = f"{comparison.family}, {comparison.learner}: k = {comparison.k}"
    with _panels(title, splits, ["profile"]) as (figure, axes):
        axes[0, 0].set_ylabel("runs with score > τ")
        for ax, split in zip(axes[0], splits):
            scores = _scores(comparison, split)
            # Neither scratch nor a run gone astray may set the scale.
            others = [s.ravel() for method, s in scores.items() if method != "scratch"]
            low, high = np.quantile(np.concatenate([*others, [0.0, 1.0]]), (0.02, 0.98))
            taus = np.linspace(min(low, 0), max(high, 1), 101)
            for method, values in scores.items():
                _share(ax, method, taus, estimates.share_above(values, taus, reps))
            ax.set_xlabel("score τ")
    return figure


def _intervals(comparison: Comparison, splits: list[str], reps: int) -> Figure:
    """IQM of every method with its interval."""
    title = f"{comparison.family}, {comparison.learner}: k = {comparison.k}"
    with _panels(title, splits, ["iqm"], legend=False) as (figure, axes):
        for ax, split in zip(axes[0], splits):
            scores = _scores(comparison, split)
            shown = [0.0]
            for height, (method, values) in enumerate(scores.items()):
                colour, marker = STYLES[method]
                iqm = estimates.interquartile_mean(values, reps)
                ax.plot(
                    [iqm.low[0], iqm.high[0]], [height] * 2, color=colour, linewidth=6, alpha=0.4
                )
                ax.plot(iqm.point[0], height, color=colour, marker=marker, markersize=7)
                if method != "scratch":
                    shown += [*iqm.point, *iqm.low, *iqm.high]
            ax.set_xlim(*_limits(np.array(shown)))
            ax.axvline(0, color="#999999", linewidth=0.8)
            ax.set_yticks(range(len(scores)), list(scores))
            ax.invert_yaxis()
            ax.set_xlabel("score (IQM, 95 %)")
    return figure


def _safety(comparison: Comparison, reps: int) -> Figure:
    """Share of runs that the steps made worse, and how probably they beat joint training's."""
    title = f"{comparison.family}, {comparison.learner}: k = {comparison.k}"
    with _panels(title, comparison.splits, ["worse", "beats"], legend=False) as (figure, axes):
        axes[0, 0].set_ylabel(f"worse by over {estimates.WORSE_BY:.0%}")
        axes[1, 0].set_ylabel("P(beats joint + k)")
        for (top, bottom), split in zip(axes.T, comparison.splits):
            arms = [a for a in comparison.arms(split) if a.k and _compared(a, comparison)]
            for at, arm in enumerate(arms):
                colour, marker = STYLES[arm.method]
                worse = comparison.worse(split, arm)
                top.bar(at, worse.share if worse else np.nan, color=colour)
                beats = comparison.improvement(split, arm, reps)
                if beats is not None:
                    bottom.vlines(at, beats.low, beats.high, color=colour, linewidth=6, alpha=0.4)
                    bottom.plot(at, beats.point[0], color=colour, marker=marker, markersize=7)
            bottom.axhline(0.5, color="#999999", linewidth=0.8)
            for ax in (top, bottom):
                ax.set_ylim(0.0, 1.0)
                ax.yaxis.set_major_formatter(PercentFormatter(1.0))
                ax.set_xticks(range(len(arms)), [arm.method for arm in arms], rotation=30)
    return figure


def _recovery(comparison: Comparison, reps: int) -> Figure:
    """Share of runs that have recovered 90 % of what a fault took, against time."""
    faults = comparison.rows[comparison.rows.experiment == "fault"]
    splits = list(faults.split.unique())
    title = f"{comparison.family}, {comparison.learner}: after a fault, k = {comparison.k}"
    finite = faults.recovery_s[np.isfinite(faults.recovery_s)]
    limits = np.linspace(0, max(finite.max(), 1.0) if len(finite) else 1.0, 101)
    with _panels(title, splits, ["recovery"]) as (figure, axes):
        axes[0, 0].set_ylabel("runs recovered to 90 %")
        for ax, split in zip(axes[0], splits):
            for arm in comparison.arms(split, "fault"):
                baseline = arm == Arm("joint", 0, "-")
                if not (baseline or _compared(arm, comparison)):
                    continue
                runs = comparison.runs(split, arm, experiment="fault")
                seconds = matrix(runs, "recovery_s").to_numpy()
                share = estimates.share_within(seconds, limits, reps)
                _share(ax, arm.method, limits, share, baseline)
            ax.set_xlabel("time since the fault [s]")
    return figure


def _share(
    ax: Axes, method: str, x: np.ndarray, estimate: Estimate, baseline: bool = False
) -> None:
    colour, marker = STYLES[method]
    label, line = (f"{method}, k = 0", "--") if baseline else (method, "-")
    ax.plot(
        x,
        estimate.point,
        color=colour,
        marker=marker,
        markevery=(10, 20),
        markersize=5,
        linestyle=line,
        label=label,
    )
    ax.fill_between(x, estimate.low, estimate.high, color=colour, alpha=0.18, linewidth=0)
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _scores(comparison: Comparison, split: str) -> dict[str, np.ndarray]:
    """Scores `[seeds, tasks]` of each method as it is compared."""
    return {
        arm.method: matrix(comparison.runs(split, arm), "score").to_numpy()
        for arm in comparison.arms(split)
        if _compared(arm, comparison)
    }


def _compared(arm: Arm, comparison: Comparison) -> bool:
    """Whether an arm is its method's own in a picture: with the gate as asked, and k if it can."""
    return arm.gate == comparison.gate or (arm.k == 0 and arm.method not in VERDICT)


@contextmanager
def _panels(
    title: str, columns: list[str], rows: list[str], legend: bool = True
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of panels, a column a split, finished with one legend for all of them."""
    figure = Figure(figsize=(WIDTH_IN, 0.9 + PANEL_IN * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    figure.suptitle(title, fontsize=11)
    for ax, column in zip(axes[0], columns):
        ax.set_title(column.replace("_", " "), fontsize=10)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    yield figure, axes
    if legend:
        named: dict[str, Artist] = {}
        for ax in axes.flat:
            for handle, label in zip(*ax.get_legend_handles_labels()):
                named.setdefault(label, handle)
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=8, frameon=False
        )
