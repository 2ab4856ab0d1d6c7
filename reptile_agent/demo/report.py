"""The demo's report: one picture, one table, one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from reptile_agent.demo.recording import Recording
from reptile_agent.gate_picture import ADAPTED, UNADAPTED, draw_errors, draw_verdicts

SETTLE_S = 4.0
"""Seconds after the fault from which errors count as 'after': the window of an adaptation."""
SMOOTH_S = 0.5
REFERENCE = "#8a8f98"


def summary(recording: Recording) -> dict[str, Any]:
    """Figures of one episode; errors are means over joints and time, in rad."""
    fault_s, end_s = recording.fault_s, float(recording.time_s[-1])
    after = [a for a in recording.attempts if a.time_s >= fault_s]
    spent_ms = [a.duration_ms for a in recording.attempts]
    return {
        "error_before_fault": recording.mean_error(fault_s - SETTLE_S, fault_s),
        "error_at_fault": recording.mean_error(fault_s, fault_s + 1.5),
        "error_after_fault": recording.mean_error(fault_s + SETTLE_S, end_s),
        "adaptations_after_fault": len(after),
        "accepted_after_fault": sum(a.accepted for a in after),
        "swaps_after_fault": len({v for t, v in recording.versions if t >= fault_s and v}),
        "adaptation_ms_p50": float(np.median(spent_ms)) if spent_ms else None,
        "adaptation_ms_max": max(spent_ms, default=None),
        **recording.policy,
    }


def verdict(unadapted: dict[str, Any], adapted: dict[str, Any]) -> list[str]:
    """What is wrong with the run; empty where adaptation happened and helped."""
    wrong = []
    for name, run in (("without adaptation", unadapted), ("with adaptation", adapted)):
        if run["mode"] != "active":
            why = run["reason"]
            wrong.append(
                f"{name}, the policy ended in mode '{run['mode']}'" + f": {why}" * bool(why)
            )
        if not np.isfinite(run["error_after_fault"]):
            wrong.append(f"{name}, nothing was measured after the fault")
    if adapted["accepted_after_fault"] == 0:
        wrong.append("no adaptation was accepted after the fault")
    if adapted["swaps_after_fault"] < 2:
        # One may be left from before the fault.
        wrong.append("no parameters adapted after the fault drove the robot")
    before, after = unadapted["error_after_fault"], adapted["error_after_fault"]
    if not after < before:
        wrong.append(f"the adapted error {after:.4f} rad is not below the unadapted {before:.4f}")
    return wrong


def write(
    folder: Path, recordings: dict[str, Recording], summaries: dict[str, Any], about: dict[str, Any]
) -> Path:
    """Write report.png and report.json; returns the picture's path."""
    (folder / "report.json").write_text(json.dumps(about | summaries, indent=1) + "\n")
    picture = folder / "report.png"
    _draw(picture, recordings, summaries, about)
    return picture


def _draw(
    path: Path, recordings: dict[str, Recording], summaries: dict[str, Any], about: dict[str, Any]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(10, 9), sharex=True, height_ratios=(3, 2, 2), layout="constrained"
    )
    colours = {"unadapted": UNADAPTED, "adapted": ADAPTED}
    labels = {"unadapted": "no adaptation", "adapted": "adaptation"}
    adapted = recordings["adapted"]
    for name, recording in recordings.items():
        error = summaries[name]["error_after_fault"]
        label = f"{labels[name]}: {error:.4f} rad from {SETTLE_S:g} s after the fault"
        top.plot(recording.time_s, _smooth(recording), color=colours[name], lw=1.8, label=label)
    times_s = [a.time_s for a in adapted.attempts]
    draw_verdicts(top, times_s, [a.accepted for a in adapted.attempts])
    top.set_ylabel("mean joint error [rad]")
    top.set_title(f"{about['robot']}: {about['fault_text']}, {adapted.fault_s:.0f} s into the run")
    top.set_ylim(0, 1.25 * top.get_ylim()[1])
    top.legend(loc="upper left", ncols=2, frameon=False)

    joint = int(np.argmax(_worst_joint(recordings["unadapted"])))
    reference = adapted.reference[:, joint]
    middle.plot(adapted.time_s, reference, color=REFERENCE, lw=3, label="reference")
    for name, recording in recordings.items():
        position = recording.position[:, joint]
        middle.plot(recording.time_s, position, color=colours[name], lw=1.2, label=labels[name])
    low, high = middle.get_ylim()
    middle.set_ylim(low, high + 0.2 * (high - low))
    middle.set_ylabel(f"{adapted.joints[joint]} [rad]")
    middle.legend(loc="upper left", ncols=3, frameon=False)

    before = [a.live_before for a in adapted.attempts]
    draw_errors(bottom, times_s, before, [a.live_after for a in adapted.attempts])
    for axis in (top, middle, bottom):
        axis.axvline(adapted.fault_s, color="black", lw=0.8, ls="--")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _smooth(recording: Recording) -> np.ndarray:
    """Error averaged over the last SMOOTH_S."""
    rate_hz = 1 / float(np.median(np.diff(recording.time_s)))
    width = max(1, round(SMOOTH_S * rate_hz))
    padded = np.concatenate([np.full(width - 1, recording.error[0]), recording.error])
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _worst_joint(recording: Recording) -> np.ndarray:
    """Mean error of each joint after the fault."""
    after = recording.time_s > recording.fault_s
    return np.abs(recording.position - recording.reference)[after].mean(axis=0)
