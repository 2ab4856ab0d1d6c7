"""bench.meta_throughput: the rows it promises, from a real run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

OURS = {"ours", "python_loop"}
PEERS = {"higher": "higher", "torchopt": "torchopt", "learn2learn": "learn2learn"}


@pytest.fixture(scope="module")
def rows():
    command = [sys.executable, "-m", "bench.meta_throughput", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ours_and_the_loop_have_speed_and_memory_in_every_row(rows):
    timed = [row for row in rows if row["impl"] in OURS]
    found = {(r["learner"], r["method"], r["impl"], r["meta_batch"], r["k"]) for r in timed}
    settings = {("reptile", k) for k in (1, 2, 10)} | {("maml", k) for k in (1, 2)}
    assert found == {("dynamics", method, impl, 2, k) for method, k in settings for impl in OURS}
    for row in timed:
        assert row["inner_loops_per_s"] > 0
        assert row["ours_times_faster"] > 0  # how much depends on what else the machine does
        assert row["first_call_s"] > 0
        assert 0 <= row["rss_mb"] < 500


def test_a_peer_that_is_not_installed_says_so(rows):
    for impl, package in PEERS.items():
        if importlib.util.find_spec(package) is not None:
            continue
        found = [row for row in rows if row["impl"] == impl]
        assert {row["method"] for row in found} == {"reptile", "maml"}
        for row in found:
            assert package in row["skipped"]
            assert row["inner_loops_per_s"] is None
            assert row["rss_mb"] is None
