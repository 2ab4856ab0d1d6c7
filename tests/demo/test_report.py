"""The demo's verdict: it has to fail where adaptation did not happen or made things worse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reptile_agent.demo import report
from reptile_agent.demo.recording import Attempt, Recording

FAULT_S, END_S = 10.0, 20.0


def make(error: float, attempts: tuple[bool, ...] = (), mode: str = "active") -> Recording:
    time_s = np.arange(0.0, END_S, 0.01)
    reference = np.sin(time_s)[:, None] * np.ones(2)
    return Recording(
        joints=["pan", "lift"],
        fault_s=FAULT_S,
        time_s=time_s,
        position=reference + error,
        reference=reference,
        attempts=[
            Attempt(FAULT_S + 1 + i, accepted, "word", 0.2, 0.1, 20, 30.0)
            for i, accepted in enumerate(attempts)
        ],
        versions=[(FAULT_S + 1 + i, i) for i in range(sum(attempts) + 1)],
        policy={
            "mode": mode,
            "reason": "the lamp is out" if mode == "fallback" else "",
            "parameters_version": sum(attempts),
            "rollbacks": 0,
            "missed": 0,
            "ticks": 500,
        },
    )


def judge(unadapted: Recording, adapted: Recording) -> list[str]:
    return report.verdict(report.summary(unadapted), report.summary(adapted))


def test_a_run_that_adapts_and_helps_has_nothing_wrong():
    assert judge(make(0.02), make(0.01, (True, True, False))) == []


def test_errors_are_means_over_joints_and_time():
    summary = report.summary(make(0.02, (True, False)))
    assert summary["error_after_fault"] == pytest.approx(0.02)
    assert summary["accepted_after_fault"] == 1
    assert summary["adaptations_after_fault"] == 2


@pytest.mark.parametrize(
    ("adapted", "sentence"),
    [
        (make(0.03, (True,)), "is not below the unadapted"),
        (make(0.02, (True,)), "is not below the unadapted"),
        (make(0.01, (False,)), "no adaptation was accepted"),
        (make(0.01), "no adaptation was accepted"),
        (make(0.01, (True,)), "no parameters adapted after the fault drove the robot"),
        (make(0.01, (True,), mode="fallback"), "ended in mode 'fallback': the lamp is out"),
        (make(float("nan"), (True,)), "nothing was measured"),
    ],
)
def test_a_run_that_does_not_help_says_what_is_wrong(adapted, sentence):
    assert any(sentence in line for line in judge(make(0.02), adapted))


def test_the_picture_and_the_figures_are_written(tmp_path):
    recordings = {"unadapted": make(0.02), "adapted": make(0.01, (True, False, True))}
    summaries = {name: report.summary(r) for name, r in recordings.items()}
    about = {"robot": "toy", "fault_text": "gain 0.5"}
    picture = report.write(tmp_path, recordings, summaries, about)
    assert picture.stat().st_size > 20_000
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["adapted"]["error_after_fault"] == pytest.approx(0.01)
