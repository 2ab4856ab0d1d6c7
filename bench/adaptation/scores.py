"""The file of raw results: its columns, how it is read and checked, and the normalised score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    {
        "family": pa.string(),
        "split": pa.string(),
        "task": pa.int64(),  # index in the split
        "seed": pa.int64(),  # of meta-training
        "learner": pa.string(),
        "method": pa.string(),  # one of METHODS
        "k": pa.int64(),  # inner steps per adaptation
        "seconds_of_data": pa.float64(),  # window an adaptation may use; 0 at k = 0
        "gate": pa.string(),  # "on" or "off"
        "experiment": pa.string(),  # "adapt": varied from the start on; "fault": in mid-episode
        "episode_return": pa.float64(),
        "score": pa.float64(),  # of `normalise`
        "tracking_error": pa.float64(),  # nan where a family follows nothing
        "falls": pa.int64(),
        "recovery_s": pa.float64(),  # from the fault on; inf: never; nan outside "fault"
        "train_env_steps": pa.int64(),
        "train_s": pa.float64(),
    }
)
METHODS = (
    *("reptile", "fomaml", "maml", "promp", "rl2"),
    *("reptile_afresh", "joint", "joint_context", "scratch", "oracle"),
)
RUN = [
    *("family", "split", "task", "seed", "learner"),
    *("method", "k", "seconds_of_data", "gate", "experiment"),
]
"""What tells one run from every other."""
COMPARED = ["family", "split", "learner", "experiment"]
"""Runs that share these are normalised together."""
REDO = "make it anew by python -m bench.adaptation"


class ResultsError(ValueError):
    """The results are not what a report can be made from; the message says what mends it."""


def normalise(table: pa.Table) -> pa.Table:
    """Fill the column `score`: 0 is joint training at k = 0, 1 is the oracle.

    score = (return - joint) / scale, where joint is the mean return over seeds of joint training
    at k = 0 on the *same task*, and scale the mean over the *split's* tasks of oracle - joint. A
    denominator per task would blow up wherever oracle and joint training are near each other.
    The score is nan where joint training or the oracle is missing or the scale is not positive.

    Args:
        table: columns of SCHEMA; `score` may be missing. Its metadata are kept.
    """
    rows = table.to_pandas()
    anchors = rows[COMPARED].merge(scales(rows), how="left", on=COMPARED)
    joint = rows.merge(_joint(rows).reset_index(), how="left", on=[*COMPARED, "task"])["joint"]
    score = (rows.episode_return - joint) / anchors.scale.where(anchors.scale > 0)
    column = pa.array(score.to_numpy(), pa.float64(), from_pandas=False)
    at = table.schema.get_field_index("score")
    if at < 0:
        return table.append_column("score", column)
    return table.set_column(at, "score", column)


def scales(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks of oracle - joint at k = 0, one row for each of COMPARED that has both."""
    return leads(rows).groupby(level=COMPARED).mean().to_frame("scale").reset_index()


def leads(rows: pd.DataFrame) -> pd.Series:
    """What the oracle's mean return is above joint training's at k = 0, by COMPARED and task."""
    oracle = rows[rows.method == "oracle"].groupby([*COMPARED, "task"]).episode_return.mean()
    return (oracle - _joint(rows)).dropna()


def _joint(rows: pd.DataFrame) -> pd.Series:
    """Mean return of joint training at k = 0, by COMPARED and task."""
    runs = rows[(rows.method == "joint") & (rows.k == 0)]
    return runs.groupby([*COMPARED, "task"]).episode_return.mean().rename("joint")


def read(path: Path) -> tuple[pd.DataFrame, dict]:
    """Rows of a results file, checked, and what it says about the machine that made it.

    Raises:
        ResultsError: the file is missing, broken or empty, or its rows do not fit together.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ResultsError(f"there is no {path}; {REDO}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ResultsError(
            f"{path} is not a whole parquet file ({str(error).splitlines()[0]}); {REDO}"
        ) from error
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise ResultsError(f"{path} lacks the columns {', '.join(missing)}; {REDO}")
    if not table.num_rows:
        raise ResultsError(f"{path} has no rows; {REDO}")
    rows = table.to_pandas()
    _check(rows, path)
    if not np.allclose(rows.score, normalise(table)["score"].to_numpy(), equal_nan=True):
        raise ResultsError(
            f"the scores in {path} do not follow from its returns; call "
            "bench.adaptation.scores.normalise on the whole table before it is written"
        )
    return rows, json.loads((table.schema.metadata or {}).get(b"about", b"{}"))


def _check(rows: pd.DataFrame, path: Path) -> None:
    unknown = sorted(set(rows.method) - set(METHODS))
    if unknown:
        raise ResultsError(
            f"{path} has the methods {', '.join(unknown)}; METHODS in bench/adaptation/scores.py "
            f"knows {', '.join(METHODS)}: add them there"
        )
    twice = rows.loc[rows.duplicated(RUN)]
    if len(twice):
        raise ResultsError(f"{path} has a run twice ({_name(twice)}); delete one of the two")
    failed = rows.loc[~np.isfinite(rows.episode_return)]
    if len(failed):
        raise ResultsError(
            f"{path}: the return of a run is not finite ({_name(failed)}); a run that fails gets "
            "the return of its periods so far, so that it counts"
        )
    unknown_recovery = rows.loc[(rows.experiment == "fault") & rows.recovery_s.isna()]
    if len(unknown_recovery):
        raise ResultsError(
            f"{path}: recovery_s of a run with a fault is nan ({_name(unknown_recovery)}); it is "
            "inf where 90 % are never recovered and 0 where the fault costs nothing"
        )


def _name(rows: pd.DataFrame) -> str:
    """The first of some rows, in words."""
    return ", ".join(f"{name} {rows.iloc[0][name]}" for name in RUN)


def matrix(runs: pd.DataFrame, value: str) -> pd.DataFrame:
    """One method's runs as seeds x tasks, as rliable wants them.

    Raises:
        ResultsError: a seed lacks a task that another seed has.
    """
    table = pd.DataFrame(runs.groupby(["seed", "task"])[value].mean().unstack())
    seeds, tasks = np.nonzero(table.isna().to_numpy())
    if len(seeds):
        where = ", ".join(f"{name} {runs.iloc[0][name]}" for name in ("method", *COMPARED, "k"))
        raise ResultsError(
            f"no {value} for seed {table.index[seeds[0]]}, task {table.columns[tasks[0]]} of "
            f"{where}; finish the run by python -m bench.adaptation, or leave that seed out"
        )
    return table
