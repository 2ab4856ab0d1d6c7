"""bench.faults: every row that needs no ROS, with few trials; and that a row can fail."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import fault_bundles
from bench.faults import bundles, processes
from bench.faults.__main__ import CASES, IN_PROCESS, run
from bench.faults.row import Setup
from reptile_agent.onboard.envelope import EnvelopeConfig

TABLE = """
a source older than max(3 periods, 50 ms)
NaN / Inf in: observation, action, parameters, reward
joints: missing, extra, permuted, duplicated
commands out of limits
bundle: truncated, bit-flipped, oversized, wrong hash, external data, path traversal
bundle: unknown operator, zip bomb of nested graphs, crashes the runtime
adapted parameters: non-finite, outside the trust region, worse on held-out data, planning worse
better on paper, worse in the loop
adaptation: over budget, hung, killed, fed by 100x the data rate
kill -9
wall clock moved by an hour
10 kHz flood
policy node killed
"""


@pytest.fixture
def setup(arm_bundle, arm_bundle_path, tmp_path) -> Setup:
    return Setup(arm_bundle, arm_bundle_path, tmp_path, trials=40)


def test_the_rows_cover_the_table():
    for line in TABLE.strip().splitlines():
        of, colon, parts = line.partition(": ")
        for part in parts.split(", ") if colon else [line]:
            prefix = of if colon else ""
            found = [fault for fault in CASES if fault.startswith(prefix) and part in fault]
            assert found, f"{prefix} {part}"
    assert {name for names in bundles.KINDS.values() for name in names} == {*fault_bundles.FAULTS}


@pytest.mark.parametrize("fault", IN_PROCESS)
def test_what_must_happen_does(setup, fault):
    seen = []
    counted = Setup(**setup.__dict__ | {"advance": lambda *done: seen.append(done)})
    row = run(counted, IN_PROCESS[fault], fault)
    if fault.startswith("joints") and not row.trials:
        pytest.skip(row.note)
    assert row.survived == row.trials > 0, row.note
    assert row.fault == fault
    assert seen[-1] == (row.trials, row.trials)
    assert row.worst_ms is None or row.worst_ms >= 0


@pytest.mark.parametrize(
    ("fault", "off"),
    [
        ("a source older than max(3 periods, 50 ms)", {"max_age_s": 10.0}),
        ("commands out of limits", {"max_clamps": 10_000}),
    ],
)
def test_without_its_guard_a_row_fails(setup, fault, off):
    unguarded = Setup(**setup.__dict__ | {"envelope": EnvelopeConfig(**off)})
    row = run(unguarded, CASES[fault], fault)
    assert row.survived < row.trials
    assert row.note.startswith("WRONG: ")


def test_a_bundle_that_is_sound_is_told_from_a_broken_one(setup, monkeypatch):
    monkeypatch.setattr(bundles, "flip_bits", lambda data, rng: data)
    row = run(setup, CASES["bundle bit-flipped"], "bundle bit-flipped")
    assert row.survived == 0
    assert "was not refused" in row.note


def test_without_ros_its_rows_say_so(setup, monkeypatch):
    monkeypatch.setattr(processes, "why_no_nodes", lambda: "needs the ros extra")
    for fault, case in processes.CASES.items():
        row = run(setup, case, fault)
        assert (row.trials, row.note) == (0, "needs the ros extra")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.faults", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_rows_and_writes_no_results_where_some_are_left_out(tmp_path):
    out = tmp_path / "faults.json"
    done = bench("--json", "--only", "NaN", "--trials", "20", "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["fault"] for row in rows] == [fault for fault in CASES if "NaN" in fault]
    assert set(rows[0]) == {"fault", "trials", "survived", "worst_ms", "note"}
    assert not out.exists()
    unknown = bench("--only", "meteorite")
    assert unknown.returncode == 1
    assert "no fault contains 'meteorite'" in unknown.stderr
