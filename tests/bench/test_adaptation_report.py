"""bench.adaptation: scores and statistics known by hand, and the report from a file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rliable import metrics

from bench.adaptation import estimates, report, scores
from bench.adaptation.comparison import Arm, Comparison, common

NAN, INF = float("nan"), float("inf")
UNFILLED = ["score", "tracking_error", "recovery_s"]


def run(method, k, episode_return, task=0, seed=0, **others):
    row = {
        "family": "arm",
        "split": "in_range",
        "task": task,
        "seed": seed,
        "learner": "dynamics",
        "method": method,
        "k": k,
        "seconds_of_data": 4.0 if k else 0.0,
        "gate": "on",
        "experiment": "adapt",
        "episode_return": float(episode_return),
        "score": NAN,
        "tracking_error": NAN,
        "falls": 0,
        "recovery_s": NAN,
        "train_env_steps": 1000,
        "train_s": 60.0,
    }
    return row | others


def table(rows):
    return scores.normalise(pa.Table.from_pylist(rows, schema=scores.SCHEMA))


def write(path, rows):
    pq.write_table(table(rows), path)
    return path


def comparison(rows):
    return Comparison("arm", "dynamics", table(rows).to_pandas(), 10, 5.0, "on")


def small(seeds=5):
    """Joint training at -10 and, adapted, -8; Reptile -10 and -5; the oracle at 0; two tasks."""
    rows = []
    for seed in range(seeds):
        for task in range(2):
            noise = 0.01 * seed
            rows += [
                run("joint", 0, -10, task, seed),
                run("joint", 10, -8 + noise, task, seed),
                run("reptile", 0, -10, task, seed),
                run("reptile", 5, -7 + noise, task, seed),
                run("reptile", 10, -6 + noise, task, seed, seconds_of_data=2.0),
                run("reptile", 10, -5 + noise, task, seed),
                run("reptile", 10, -3, task, seed, seconds_of_data=8.0),
                run("reptile", 10, -20, task, seed, gate="off"),
                run("oracle", 0, 0, task, seed),
            ]
    return rows


# --- the score


def test_the_score_is_zero_for_joint_training_and_one_for_the_oracle_on_average():
    # Joint: -4 (mean of -5 and -3) and -2. Oracle: 0 and 0. Mean gain: 3.
    rows = [
        run("joint", 0, -5, task=0, seed=0),
        run("joint", 0, -3, task=0, seed=1),
        run("joint", 0, -2, task=1, seed=0),
        run("oracle", 0, 0, task=0),
        run("oracle", 0, 0, task=1),
        run("reptile", 10, -1, task=0),
        run("reptile", 10, -5, task=1),
    ]
    found = table(rows)["score"].to_numpy()
    np.testing.assert_allclose(found, [-1 / 3, 1 / 3, 0, 4 / 3, 2 / 3, 1, -1])


def test_families_splits_learners_and_experiments_are_normalised_apart():
    rows = []
    for number, name in enumerate(("family", "split", "learner", "experiment"), start=1):
        other = {name: "other"}
        rows += [run("joint", 0, -10 * number, **other), run("oracle", 0, 0, **other)]
        rows.append(run("reptile", 10, -5, **other))
    np.testing.assert_allclose(table(rows)["score"].to_numpy()[2::3], [0.5, 0.75, 5 / 6, 0.875])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([run("joint", 0, -1), run("oracle", 0, -2)], "oracle does not beat joint training"),
        ([run("joint", 0, -1), run("reptile", 10, 0)], "no run of the oracle"),
        ([run("joint", 10, -1), run("oracle", 0, 0)], "no run of joint at k = 0"),
        ([run("joint", 0, -1), run("oracle", 0, 0, task=1)], "no task has both"),
    ],
)
def test_what_cannot_be_normalised_has_no_score_and_says_why(rows, reason):
    assert np.isnan(table(rows)["score"].to_numpy()).all()
    assert reason in comparison(rows).why_no_score("in_range")


def test_normalising_keeps_rows_in_order_other_columns_and_metadata():
    raw = pa.Table.from_pylist(small()[::-1], schema=scores.SCHEMA)
    raw = raw.replace_schema_metadata({"about": "{}"})
    made = scores.normalise(raw)
    assert made.drop_columns(UNFILLED).equals(raw.drop_columns(UNFILLED))
    assert made.schema.equals(raw.schema, check_metadata=True)
    assert scores.normalise(raw.drop_columns("score"))["score"].equals(made["score"])


# --- statistics


def test_the_interquartile_mean_leaves_out_the_lowest_and_highest_quarter():
    values = np.array([[-1000.0, 1, 2, 3], [4, 5, 6, 1000]])  # the middle four: 2 to 5
    assert estimates.interquartile_mean(values, reps=50).point == 3.5


def test_statistics_agree_with_rliables_own():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(5, 7)).round(1), rng.normal(size=(4, 7)).round(1)
    iqm = estimates.interquartile_mean(ours, reps=50).point
    np.testing.assert_allclose(iqm, metrics.aggregate_iqm(ours))
    better = estimates.improvement(ours, theirs, reps=50).point
    np.testing.assert_allclose(better, metrics.probability_of_improvement(ours, theirs))


def test_intervals_hold_the_point_and_are_the_same_every_time():
    values = np.random.default_rng(0).normal(size=(10, 8))
    np.random.seed(7)  # noqa: NPY002
    first = estimates.interquartile_mean(values, reps=400)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002 (the caller's generator is left alone)
    assert first.low < first.point < first.high
    # The mean of the middle half of 80 normal numbers has a deviation of about 0.12.
    assert 0.25 < first.high - first.low < 0.7
    again = estimates.interquartile_mean(values, reps=400)
    assert (again.low, again.high) == (first.low, first.high)


def test_the_bootstrap_draws_seeds_and_keeps_tasks():
    tasks_differ = np.tile([0.0, 10, 20, 30], (6, 1))
    estimate = estimates.interquartile_mean(tasks_differ, reps=50)
    assert (estimate.low, estimate.point, estimate.high) == (15, 15, 15)


def test_one_seed_has_no_interval():
    estimate = estimates.interquartile_mean(np.arange(8.0)[None], reps=50)
    assert estimate.point == 3.5
    assert np.isnan([estimate.low, estimate.high]).all()
    assert str(estimate) == "3.50"


def test_a_difference_over_whole_seeds():
    """What a seed has in common on all tasks widens the interval, what tasks have does not."""
    rng = np.random.default_rng(0)
    theirs = rng.standard_normal((10, 1)) + rng.standard_normal((10, 20)) * 0.1
    same = estimates.seed_difference(theirs + 0.5, theirs, reps=200)
    assert (same.point[0], same.low[0], same.high[0]) == pytest.approx((0.5, 0.5, 0.5))
    others = theirs[rng.permutation(10)] + 0.5
    apart = estimates.seed_difference(others, theirs, reps=200)
    assert apart.low[0] < 0.0 < 0.5 < apart.high[0]


def test_probability_of_improvement_by_hand():
    ours, theirs = np.array([[1.0, 5], [3, 5]]), np.array([[2.0, 5], [2, 4]])
    # First task: 1 loses twice, 3 wins twice: 1/2. Second: one tie and one win each: 3/4.
    assert estimates.improvement(ours, theirs, reps=50).point == pytest.approx(0.625)


def test_made_worse_counts_drops_of_more_than_five_percent():
    start = np.array([100.0, 100, -100, -100])
    adapted = np.array([96.0, 90, -150, -50])  # 4 % (not counted), 10 %, 50 %, better
    found = estimates.worse(start, adapted)
    assert (found.share, found.worst_drop) == (0.5, 0.5)
    assert found.mean_drop == pytest.approx(0.3)
    assert estimates.worse(start, start) == estimates.Worse(0, 0, 0)
    assert estimates.worse(np.zeros(2), np.array([0.0, -1])).worst_drop == INF


def test_shares_above_a_score_and_recovered_within_seconds():
    values = np.array([[0.0, 1], [2, INF]])
    above = estimates.share_above(values, np.array([-1.0, 0, 1]), reps=50)
    np.testing.assert_array_equal(above.point, [1, 0.75, 0.5])
    within = estimates.share_within(values, np.array([0.0, 1, 99]), reps=50)
    np.testing.assert_array_equal(within.point, [0.25, 0.5, 0.75])


# --- which runs are compared


def test_methods_are_compared_with_the_longest_window_that_is_allowed():
    compared = comparison(small())
    assert compared.window_s == 4
    runs = compared.runs("in_range", Arm("reptile", 10, "on"))
    assert len(runs) == 10
    assert runs.episode_return.max() == pytest.approx(-4.96)


def test_curves_start_at_no_adaptation():
    compared = comparison(small())
    along_k, values = compared.curve("in_range", "reptile", "k", "episode_return")
    assert along_k == [0, 5, 10]
    np.testing.assert_allclose(values[0, 0], [-10, -7, -5])
    seconds, values = compared.curve("in_range", "reptile", "seconds_of_data", "episode_return")
    assert seconds == [0, 2, 4, 8]
    np.testing.assert_allclose(values[0, 1], [-10, -6, -5, -3])


def test_runs_without_a_common_task_are_refused():
    first, second = (
        scores.matrix(table([run("joint", 0, 1, t)]).to_pandas(), "falls") for t in (0, 1)
    )
    with pytest.raises(scores.ResultsError, match="no seed and task in common"):
        common([first, second])


def test_a_seed_that_lacks_a_task_is_named():
    rows = [row for row in small() if (row["seed"], row["task"]) != (3, 1)]
    with pytest.raises(scores.ResultsError, match=r"seed 3, task 1 of method reptile.*finish"):
        scores.matrix(comparison(rows).runs("in_range", Arm("reptile", 10, "on")), "score")


def test_a_unit_of_score_that_tasks_do_not_agree_on_is_called_chance():
    rows = small()
    assert report.unit_of(comparison(rows), "in_range", 500) == "10.00 [10.00, 10.00]"
    for row in rows:
        if row["method"] == "oracle":
            row["episode_return"] = 5.0 if row["task"] else -20.0
    lead = comparison(rows).lead("in_range", 500)
    assert (lead.low[0], lead.point[0], lead.high[0]) == (-10, 2.5, 15)
    assert report.unit_of(comparison(rows), "in_range", 500) == "2.50 [-10.00, 15.00]: chance"


def test_adapting_is_set_beside_not_adapting_at_all():
    none = Arm("joint", 0, "-")
    assert report.ahead(comparison(small()), "in_range", none, 100).startswith("0.50 [")
    without = [row for row in small() if row["method"] != "oracle"]
    assert report.ahead(comparison(without), "in_range", none, 100) == "-"
    assert report.ahead(comparison(small(seeds=2)), "in_range", none, 100) == "-", "too few seeds"
    same = Arm("reptile", 10, "on")
    assert report.ahead(comparison(small()), "in_range", same, 100) == "-"


def test_the_verdict():
    assert report.verdict(comparison(small()), "in_range", 100).startswith("yes: 0.50 [")
    few = report.verdict(comparison(small(seeds=2)), "in_range", 100)
    assert few == "open: 2 of the 5 seeds that the protocol asks for"
    mixed = small()
    for row in mixed:
        if row["method"] == "joint" and row["k"] == 10 and row["seed"] % 2:
            row["episode_return"] = -1.0
    assert report.verdict(comparison(mixed), "in_range", 100).startswith("no: ")
    without = [row for row in small() if row["method"] != "joint" or row["k"] == 0]
    assert "no run of joint at k = 10" in report.verdict(comparison(without), "in_range", 100)


# --- the file, and the report made from it


def test_the_report_from_a_file(tmp_path):
    fault = {"experiment": "fault", "seconds_of_data": 4.0}
    rows = small()
    for seed in range(5):
        rows.append(run("joint", 0, -9, 0, seed, experiment="fault", recovery_s=INF))
        for task, recovery_s in enumerate((1.5, INF if seed else 2.5)):
            rows.append(run("reptile", 10, -4, task, seed, recovery_s=recovery_s, **fault))
        rows.append(run("joint", 0, -10, 0, seed, split="held_out"))
        rows.append(run("joint", 10, -9, 0, seed, split="held_out"))
        rows.append(run("reptile", 10, -12, 0, seed, split="held_out"))
        rows.append(run("reptile", 0, -10, 0, seed, split="held_out"))
        rows.append(run("rl2", 0, -8, 0, seed, split="held_out", tracking_error=0.01 * seed))
        rows.append(run("reptile", 10, 99, 0, seed, split="validation"))
    made = table(rows).replace_schema_metadata({"about": '{"processor": "made up"}'})
    pq.write_table(made, tmp_path / "adaptation.parquet")
    report.write(report.Args(tmp_path / "adaptation.parquet", tmp_path, reps=20))
    page = (tmp_path / "adaptation.md").read_text()
    assert "| arm | dynamics | in_range | 10 | yes: 0.50 [" in page
    assert "| arm | dynamics | held_out | 10 | open: no run of the oracle |" in page
    cells = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))[:3]: line
        for line in page.splitlines()
    }
    # In range without the gate: from -10 to -20 on every task.
    ungated = cells["reptile", "10", "off"]
    assert "| 100.0% (100%, 100%) | - | 1.50 [1.50, 1.50] | 5 x 2 |" in ungated
    assert "| -20 |" in ungated
    assert "| reptile | 10 | on | - | -12 | - | 100.0% (20%, 20%) | 0.00 [0.00, 0.00] |" in page
    assert "| rl2 | 0 | - | - | -8 | 0.02 | - | 1.00 [1.00, 1.00] | - | 5 x 1 |" in page
    assert "| in_range | reptile | -10 (0.00) | -6.98 (0.30) | -4.98 (0.50) |" in page
    assert "| in_range | reptile | 10 | on | 60% | 2.50 | -4 | 5 x 2 |" in page
    assert "| in_range | joint | 0 | - | 0% | never | -9 | 5 x 1 |" in page
    assert "| reptile | 5 | 1000 | 1000 | 60 |" in page
    assert "- processor: made up" in page
    assert "validation" not in page
    for what in ("k", "seconds", "profile", "iqm", "safety", "recovery"):
        name = f"figures/arm-dynamics-{what}.png"
        assert f"({name})" in page
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_split_without_runs_is_refused(tmp_path):
    path = write(tmp_path / "some.parquet", small())
    with pytest.raises(scores.ResultsError, match="has no runs of validation: see --splits"):
        report.write(report.Args(path, tmp_path, splits=("validation",)))


def test_a_file_that_is_missing_or_broken_is_named_with_the_mend(tmp_path):
    path = tmp_path / "some.parquet"
    with pytest.raises(scores.ResultsError, match=r"no .*some.parquet; make it anew by python -m"):
        scores.read(path)
    path.touch()
    with pytest.raises(scores.ResultsError, match=r"not a whole parquet file .*; make it anew"):
        scores.read(path)
    whole = write(path, small()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(scores.ResultsError, match=r"not a whole parquet file .*; make it anew"):
        scores.read(path)
    pq.write_table(table(small()).drop_columns(["gate", "falls"]), path)
    with pytest.raises(scores.ResultsError, match="lacks the columns gate, falls; make it anew"):
        scores.read(path)
    pq.write_table(scores.SCHEMA.empty_table(), path)
    with pytest.raises(scores.ResultsError, match="has no rows; make it anew"):
        scores.read(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (run("famle", 10, 0), "has the methods famle; METHODS .* add them there"),
        (run("joint", 0, -10), "a run twice .*family arm.*method joint, k 0.* delete one"),
        (run("maml", 10, NAN), "return of a run is not finite .*method maml"),
        (run("maml", 10, 0, experiment="fault"), "recovery_s of a run with a fault is nan .*maml"),
    ],
)
def test_rows_that_cannot_be_judged_are_named(tmp_path, row, message):
    path = write(tmp_path / "some.parquet", [*small(), row])
    with pytest.raises(scores.ResultsError, match=message):
        scores.read(path)


def test_scores_that_do_not_follow_from_the_returns_are_refused(tmp_path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.Table.from_pylist(small(), schema=scores.SCHEMA), path)
    with pytest.raises(scores.ResultsError, match=r"do not follow .* call .*normalise"):
        scores.read(path)


def test_a_mistake_ends_the_command_in_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "none.parquet"
    monkeypatch.setattr("sys.argv", ["report", "--results", str(path)])
    with pytest.raises(SystemExit, match="there is no "):
        report.main()
