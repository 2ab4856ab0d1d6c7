"""The demo itself, on the shipped bundle: real processes, a fault, and the error falls again."""

from __future__ import annotations

import json

import pytest

from reptile_agent import cli


@pytest.mark.slow
def test_the_robot_breaks_adapts_and_tracks_better_than_without(tmp_path, capsys, arm_bundle_path):
    arguments = ["--bundle", str(arm_bundle_path), "--out", str(tmp_path / "demo")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", *arguments, "--before-s", "5", "--after-s", "12"])
    print(capsys.readouterr().out)
    assert stop.value.code == 0
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    adapted, unadapted = report["adapted"], report["unadapted"]
    assert adapted["error_after_fault"] < 0.9 * unadapted["error_after_fault"]
    assert adapted["accepted_after_fault"] > 5
    assert (tmp_path / "demo" / "report.png").stat().st_size > 20_000


def test_a_fault_that_the_robot_does_not_know_is_said_before_anything_starts(
    tmp_path, capsys, arm_bundle_path
):
    arguments = ["--bundle", str(arm_bundle_path), "--out", str(tmp_path / "demo")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", *arguments, "--fault", "gain_knee", "0.3"])
    assert stop.value.code == 2
    assert "has no variation 'gain_knee'" in capsys.readouterr().err
