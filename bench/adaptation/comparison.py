"""Which runs are set beside which: all of one family with one learner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.adaptation import estimates
from bench.adaptation.estimates import Estimate, Worse
from bench.adaptation.scores import METHODS, ResultsError, leads, matrix, scales
from bench.adaptation.settings import VERDICT

ON_POLICY = "policy_gradient"
"""The learner whose every inner step takes fresh episodes."""


@dataclass(frozen=True)
class Arm:
    """A method as it is judged: with how many steps, and whether the gate may refuse them."""

    method: str
    k: int
    gate: str


@dataclass(frozen=True)
class Comparison:
    """Runs of one family with one learner, and at which setting they are compared."""

    family: str
    learner: str
    rows: pd.DataFrame
    k: int
    max_seconds: float
    gate: str

    @property
    def on_policy(self) -> bool:
        """Whether k alone sets the data, and no gate refuses a step."""
        return self.learner == ON_POLICY

    @property
    def data(self) -> str:
        """How much an adaptation may look at, for the titles of curves against k."""
        if not self.on_policy:
            return f"{self.window_s:g} s"
        steps = self.rows.loc[self.rows.k > 0]
        return f"{(steps.seconds_of_data / steps.k).mean():.4g} s a step"

    @property
    def judged_gate(self) -> str:
        """The gate at which the verdict is read."""
        return "off" if self.on_policy else "on"

    @cached_property
    def window_s(self) -> float:
        """The longest window of experience that is not over `max_seconds`; on policy, that of k."""
        if self.on_policy:
            return float(self.rows.seconds_of_data[self.rows.k == self.k].mean())
        windows = self.rows.seconds_of_data[self.rows.k > 0]
        allowed = windows[windows <= self.max_seconds]
        return float(allowed.max()) if len(allowed) else float(windows.min())

    @property
    def splits(self) -> list[str]:
        """Splits that have runs, as they come in the file."""
        return list(self.rows.split.unique())

    def methods(self, split: str) -> list[str]:
        """Methods that have runs on a split, in the order of METHODS."""
        present = set(self.rows.method[self.rows.split == split])
        return [method for method in METHODS if method in present]

    def arms(self, split: str, experiment: str = "adapt") -> list[Arm]:
        """What the verdict is about at k = 0, then every method at k; at 0 if it takes no steps."""
        arms = [Arm(method, 0, "-") for method in VERDICT]
        for method in self.methods(split):
            at_k = [Arm(method, self.k, gate) for gate in ("on", "off")]
            at_k = [arm for arm in at_k if len(self.runs(split, arm, experiment=experiment))]
            arms += at_k or ([Arm(method, 0, "-")] if method not in VERDICT else [])
        return [arm for arm in arms if len(self.runs(split, arm, experiment=experiment))]

    def runs(
        self, split: str, arm: Arm, seconds: float | None = None, experiment: str = "adapt"
    ) -> pd.DataFrame:
        """Rows of one arm; at k = 0 neither gate nor window means anything.

        Args:
            split: of the tasks.
            arm: method, k and gate.
            seconds: window of experience; default: `window_s`.
            experiment: adapt or fault.
        """
        mine = self._groups.get((split, experiment, arm.method, arm.k), self.rows.iloc[:0])
        if arm.k == 0:
            return mine
        mine = mine.loc[mine.gate == arm.gate]
        if self.on_policy:
            return mine
        return mine.loc[mine.seconds_of_data == (self.window_s if seconds is None else seconds)]

    @cached_property
    def _groups(self) -> dict:
        return dict(iter(self.rows.groupby(["split", "experiment", "method", "k"])))

    def curve(
        self, split: str, method: str, along: str, value: str
    ) -> tuple[list[float], np.ndarray]:
        """Values `[seeds, tasks, n]` of a method against n values of k or of seconds of data.

        Args:
            split: of the tasks.
            method: one of METHODS.
            along: k (at `window_s`) or seconds_of_data (at `k`); both begin at k = 0.
            value: episode_return or score.
        """
        rows = self.rows[(self.rows.split == split) & (self.rows.method == method)]
        points: list[tuple[float, pd.DataFrame]] = []
        for at in sorted({0, *rows[rows.k > 0][along]}):
            if along == "k":
                runs = self.runs(split, Arm(method, int(at), self.gate))
            else:
                runs = self.runs(split, Arm(method, self.k if at else 0, self.gate), seconds=at)
            if len(runs):
                points.append((at, matrix(runs, value)))
        return [at for at, _ in points], np.stack(common([m for _, m in points]), axis=-1)

    def worse(self, split: str, arm: Arm) -> Worse | None:
        """How often an arm's steps lower the return of their own start; None where it has none."""
        start = self.runs(split, Arm(arm.method, 0, "-"))
        if not arm.k or start.empty:
            return None
        found = [matrix(runs, "episode_return") for runs in (start, self.runs(split, arm))]
        return estimates.worse(*common(found))

    def improvement(self, split: str, arm: Arm, reps: int) -> Estimate | None:
        """How probably an arm beats joint training + the same steps; None for that itself."""
        baseline = Arm("joint", self.k, arm.gate if arm.k else self.gate)
        runs = self.runs(split, baseline)
        if arm == baseline or runs.empty:
            return None
        ours = matrix(self.runs(split, arm), "episode_return")
        theirs = matrix(runs, "episode_return")
        tasks = ours.columns.intersection(theirs.columns)
        return estimates.improvement(ours[tasks].to_numpy(), theirs[tasks].to_numpy(), reps)

    def lead(self, split: str, reps: int) -> Estimate:
        """What the oracle's return is above joint training's at k = 0; needs both.

        It is what scores are measured in: where its interval over tasks holds 0 they say which
        method is ahead, and not by how much.
        """
        rows = self.rows
        rows = rows.loc[(rows.split == split) & (rows.experiment == "adapt")]
        return estimates.mean_over_tasks(leads(rows).to_numpy(), reps)

    def why_no_score(self, split: str) -> str:
        """What keeps the runs of a split from being normalised; empty where nothing does."""
        rows = self.rows
        rows = rows.loc[(rows.split == split) & (rows.experiment == "adapt")]
        if not ((rows.method == "joint") & (rows.k == 0)).any():
            return "no run of joint at k = 0"
        if not (rows.method == "oracle").any():
            return "no run of the oracle"
        scale = scales(rows).scale
        if scale.empty:
            return "no task has both joint at k = 0 and the oracle"
        if scale[0] <= 0:
            return f"the oracle does not beat joint training (mean difference {scale[0]:.3g})"
        return ""


def common(tables: list[pd.DataFrame]) -> list[np.ndarray]:
    """Matrices of the seeds and tasks that all of them have.

    Raises:
        ResultsError: there are none.
    """
    seeds, tasks = tables[0].index, tables[0].columns
    for table in tables[1:]:
        seeds, tasks = seeds.intersection(table.index), tasks.intersection(table.columns)
    if seeds.empty or tasks.empty:
        raise ResultsError(
            "runs that belong together have no seed and task in common; run all methods and all "
            "k with the same seeds: python -m bench.adaptation"
        )
    return [table.loc[seeds, tasks].to_numpy() for table in tables]
