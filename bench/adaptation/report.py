"""Every table and picture of the adaptation benchmark, from its file of raw results.

    python -m bench.adaptation.report

prints the tables and writes docs/results/adaptation.md and docs/results/figures/.
docs/protocol.md says what they mean.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from bench.adaptation import estimates, figures, kinds
from bench.adaptation.comparison import ON_POLICY, Arm, Comparison, common
from bench.adaptation.scores import METHODS, ResultsError, matrix, read
from bench.adaptation.settings import SPLITS
from reptile_agent.commands.console import console, table

RESULTS = Path(__file__).parent.parent.parent / "docs/results"
K = {ON_POLICY: 1}
"""Learner -> inner steps at which its methods are compared, where it is not 10. A policy gradient's
step takes fresh episodes, and the papers train for one to three."""
MIN_SEEDS = 5
"""Fewer meta-training seeds decide nothing."""


@dataclass
class Args:
    """Print and draw the adaptation benchmark's results."""

    results: Path = RESULTS / "adaptation.parquet"
    """Raw results, one row a run."""
    out: Path = RESULTS
    """Folder for adaptation.md and figures/."""
    splits: tuple[str, ...] = SPLITS
    """Splits to report; 'validation' is for tuning."""
    k: int | None = None
    """Inner steps at which methods are compared; default: 10, and 1 of policy gradients."""
    max_seconds: float = 5.0
    """Longest window of experience at which methods are compared; not of policy gradients."""
    gate: str = "on"
    """Whether the pictures show runs with the gate on or off; the tables show both. Policy
    gradients have none."""
    reps: int = 2000
    """Draws of the bootstrap."""


@dataclass(frozen=True)
class Table:
    """A table for the terminal and for a page."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """As a page has it."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.title}\n\n{body}"


def main() -> None:
    """Read, judge, print, draw and write."""
    args = tyro.cli(Args, description=__doc__)
    try:
        write(args)
    except ResultsError as error:
        sys.exit(str(error))


def write(args: Args) -> None:
    """Make the whole report.

    Raises:
        ResultsError: the results are not what a report can be made from.
    """
    rows, about = read(args.results)
    rows = rows.loc[rows.split.isin(args.splits)]
    if rows.empty:
        raise ResultsError(f"{args.results} has no runs of {', '.join(args.splits)}: see --splits")
    folder = args.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = [
        Comparison(
            *(family, learner, rows.loc[(rows.family == family) & (rows.learner == learner)]),
            K.get(learner, 10) if args.k is None else args.k,
            args.max_seconds,
            "off" if learner == ON_POLICY else args.gate,
        )
        for family, learner in dict.fromkeys(zip(rows.family, rows.learner))
    ]
    verdicts = Table(
        "Does the interval of Reptile's score clear that of joint training + the same k steps, "
        "gate on where there is one, and does their difference over whole seeds clear 0?",
        [
            *("family", "learner", "split", "k", "answer"),
            "Reptile + k less joint training at k = 0, by seeds",
            "1 is this much return above 0, by tasks",
        ],
        [
            [
                *(c.family, c.learner, split, str(c.k)),
                verdict(c, split, args.reps),
                ahead(c, split, Arm("joint", 0, "-"), args.reps),
                unit_of(c, split, args.reps),
            ]
            for c in comparisons
            for split in c.splits
        ],
    )
    protocol = Path(os.path.relpath(RESULTS.parent / "protocol.md", args.out)).as_posix()
    page = [
        "# Adaptation: results",
        f"Written by `python -m bench.adaptation.report` from `{args.results.name}`; "
        f"[the protocol]({protocol}) says how they came about and what each column means.",
        verdicts.markdown(),
    ]
    _print(verdicts)
    for comparison in comparisons:
        page.append(f"## {comparison.family}, {comparison.learner}")
        for made in tables(comparison, args.reps):
            _print(made)
            page.append(made.markdown())
        for path in figures.draw(comparison, folder, args.reps):
            page.append(f"![{path.stem}](figures/{path.name})")
    if about:
        page += ["## Made with", *(f"- {name}: {value}" for name, value in about.items())]
    (args.out / "adaptation.md").write_text("\n\n".join(page) + "\n")


def verdict(comparison: Comparison, split: str, reps: int) -> str:
    """Whether the interval of Reptile's score lies above that of joint training + k steps."""
    scores = []
    for method in ("reptile", "joint"):
        gate = comparison.judged_gate
        runs = comparison.runs(split, Arm(method, comparison.k, gate))
        if runs.empty:
            return f"open: no run of {method} at k = {comparison.k} with the gate {gate}"
        if reason := comparison.why_no_score(split):
            return f"open: {reason}"
        scores.append(matrix(runs, "score"))
    seeds = min(len(s) for s in scores)
    if seeds < MIN_SEEDS:
        return f"open: {seeds} of the {MIN_SEEDS} seeds that the protocol asks for"
    ours, joint = (estimates.interquartile_mean(s.to_numpy(), reps) for s in scores)
    paired = common(scores)
    more = estimates.seed_difference(paired[0], paired[1], reps)
    clear = ours.low[0] > joint.high[0] and more.low[0] > 0.0
    return f"{'yes' if clear else 'no'}: {ours} against {joint}, by seeds {more}"


def ahead(comparison: Comparison, split: str, of: Arm, reps: int) -> str:
    """How far Reptile with its steps is above another arm, over whole seeds that both have."""
    c, reptile = comparison, Arm("reptile", comparison.k, comparison.judged_gate)
    runs = [c.runs(split, arm) for arm in (reptile, of)]
    if c.why_no_score(split) or of == reptile or any(r.empty for r in runs):
        return "-"
    ours, theirs = common([matrix(r, "score") for r in runs])
    if len(ours) < MIN_SEEDS:
        return "-"
    return str(estimates.seed_difference(ours, theirs, reps))


def unit_of(comparison: Comparison, split: str, reps: int) -> str:
    """What a score of 1 is in returns, and whether that is more than chance."""
    if comparison.why_no_score(split):
        return "-"
    lead = comparison.lead(split, reps)
    return f"{lead}{'' if lead.low[0] > 0 else ': chance'}"


def tables(comparison: Comparison, reps: int) -> list[Table]:
    """All tables of one family and learner."""
    made = [_methods(comparison, split, reps) for split in comparison.splits]
    made.append(_against(comparison, "k", "k"))
    if not comparison.on_policy:
        made.append(_against(comparison, "seconds_of_data", "seconds of data"))
    if "fault" in set(comparison.rows.experiment):
        made.append(_faults(comparison))
    if by_kind := kinds.rows(comparison):
        made.append(_kinds(comparison, by_kind))
    return [*made, _budgets(comparison)]


def _methods(comparison: Comparison, split: str, reps: int) -> Table:
    """Every method at k beside joint training and Reptile at k = 0."""
    c, rows = comparison, []
    for arm in c.arms(split):
        runs = c.runs(split, arm)
        returns = matrix(runs, "episode_return")
        score = "-"
        if not c.why_no_score(split):
            score = str(estimates.interquartile_mean(matrix(runs, "score").to_numpy(), reps))
        rows.append(
            [
                *(arm.method, str(arm.k), arm.gate, score),
                f"{returns.to_numpy().mean():.4g}",
                _error(runs),
                *(_worse(c, split, arm), _improvement(c, split, arm, reps)),
                ahead(c, split, arm, reps),
                f"{returns.shape[0]} x {returns.shape[1]}",
            ]
        )
    title = f"{c.family}, {c.learner}, {split}: {c.window_s:.4g} s of data"
    if reason := c.why_no_score(split):
        title += f"; no score: {reason}"
    return Table(
        title,
        [
            *("method", "k", "gate", "score [95 %]", "return", "error"),
            "worse (mean, worst)",
            *("P(beats joint + k)", "Reptile + k less it, by seeds"),
            "runs",
        ],
        rows,
    )


def _error(runs: pd.DataFrame) -> str:
    """Mean tracking error, in the units of the family's references."""
    mean = float(runs.tracking_error.mean())
    return "-" if np.isnan(mean) else f"{mean:.3g}"


def _worse(comparison: Comparison, split: str, arm: Arm) -> str:
    worse = comparison.worse(split, arm)
    if worse is None:
        return "-"
    if not worse.share:
        return "0 %"
    return f"{worse.share:.1%} ({worse.mean_drop:.0%}, {worse.worst_drop:.0%})"


def _improvement(comparison: Comparison, split: str, arm: Arm, reps: int) -> str:
    found = comparison.improvement(split, arm, reps)
    return "-" if found is None else str(found)


def _against(comparison: Comparison, along: str, name: str) -> Table:
    """Mean return, and IQM of the score, against k or seconds of data."""
    c = comparison
    ticks = sorted({0, *c.rows[c.rows.k > 0][along]})
    rows = []
    for split in c.splits:
        scored = not c.why_no_score(split)
        for method in c.methods(split):
            at, returns = c.curve(split, method, along, "episode_return")
            cells = dict(zip(at, (f"{value:.4g}" for value in returns.mean(axis=(0, 1)))))
            if scored:
                at, scores = c.curve(split, method, along, "score")
                for tick, value in zip(at, estimates.iqm(scores)):
                    cells[tick] += f" ({value:.2f})"
            seeds = f"{returns.shape[0]} x {returns.shape[1]}"
            rows.append([split, method, *(cells.get(tick, "") for tick in ticks), seeds])
    setting = f"{c.data} of data" if along == "k" else f"k = {c.k}"
    return Table(
        f"{c.family}, {c.learner}: mean return (IQM of the score) against {name}; {setting}, "
        f"gate {c.gate}",
        ["split", "method", *(f"{tick:g}" for tick in ticks), "runs"],
        rows,
    )


def _faults(comparison: Comparison) -> Table:
    """Seconds after a fault until 90 % of what it took is recovered."""
    c, rows = comparison, []
    for split in c.splits:
        for arm in c.arms(split, "fault"):
            runs = c.runs(split, arm, experiment="fault")
            seconds = matrix(runs, "recovery_s").to_numpy()
            recovered = np.isfinite(seconds)
            # Of all runs, not of the recovered ones: those never back count as longer than any.
            median = float(np.quantile(seconds, 0.5, method="higher"))
            rows.append(
                [
                    *(split, arm.method, str(arm.k), arm.gate, f"{recovered.mean():.0%}"),
                    f"{median:.2f}" if np.isfinite(median) else "never",
                    f"{runs.episode_return.mean():.4g}",
                    f"{seconds.shape[0]} x {seconds.shape[1]}",
                ]
            )
    return Table(
        f"{c.family}, {c.learner}: a fault in mid-episode",
        [
            *("split", "method", "k", "gate", "recovered to 90 %", "median time [s]"),
            *("mean return", "runs"),
        ],
        rows,
    )


def _kinds(comparison: Comparison, rows: list[list[str]]) -> Table:
    """What the steps do to each kind of change that no training task has."""
    c = comparison
    columns = ["kind", "method", "k", "gate", "median return at k = 0", "at k", "worse", "runs"]
    return Table(f"{c.family}, {c.learner}, {kinds.SPLIT}: by kind of change", columns, rows)


def _budgets(comparison: Comparison) -> Table:
    """What every method was given for its meta-training, so that unequal budgets show."""
    c, rows = comparison, []
    for method in METHODS:
        runs = c.rows.loc[c.rows.method == method]
        if runs.empty:
            continue
        steps = runs.train_env_steps
        rows.append(
            [
                *(method, str(runs.seed.nunique()), f"{steps.min()}", f"{steps.max()}"),
                f"{runs.train_s.mean():.0f}",
            ]
        )
    return Table(
        f"{c.family}, {c.learner}: budgets of meta-training",
        ["method", "seeds", "least simulation steps", "most", "mean time [s]"],
        rows,
    )


def _print(made: Table) -> None:
    console.print(table(made.title, made.columns, made.rows))


if __name__ == "__main__":
    main()
