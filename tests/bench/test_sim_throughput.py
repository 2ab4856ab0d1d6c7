"""bench.sim_throughput: the rows it promises, from a real run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def rows():
    command = [sys.executable, "-m", "bench.sim_throughput", "--json", "--families", "cartpole"]
    command += ["--n", "4", "8", "--threads", "1", "--rounds", "1", "--seconds", "0.02"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_simulator_has_its_rows_beside_the_limit(rows):
    found = {(r["backend"], r["n"], r["policy"]) for r in rows}
    assert found == {
        (backend, n, policy)
        for n in (4, 8)
        for backend, policy in (("mj_step", "none"), ("batch", "none"), ("batch", "64x64"))
    }
    for row in rows:
        assert row["family"] == "cartpole"
        assert row["device"] == "cpu"
        assert row["threads"] == 1
        assert row["steps_per_s"] > 0
        assert row["share_of_limit"] > 0  # how large depends on what else the machine does
        assert row["rss_mb"] < 100
