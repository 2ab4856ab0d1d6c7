"""A bag's adaptations in one picture: the robot's error, the gate's verdicts, what it compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reptile_agent.bags.again import Outcome
from reptile_agent.bags.recording import Recording
from reptile_agent.gate_picture import draw_errors, draw_verdicts
from reptile_agent.spec import RobotSpec

SMOOTH = 12
"""Transitions that the drawn tracking error is averaged over."""


def tracking_error(recording: Recording, robot: RobotSpec) -> np.ndarray:
    """Mean absolute distance from the reference after each transition, [n]; nan: none known."""
    columns, nothing = robot.reference_columns, np.nan
    return np.array(
        [
            nothing
            if found.reference is None
            else np.abs(found.next_obs[0, columns] - found.reference[0, 0]).mean()
            for found in recording.transitions
        ]
    )


def draw(path: Path, recording: Recording, robot: RobotSpec, outcomes: list[Outcome]) -> None:
    """Write a PNG.

    Args:
        path: of the picture.
        recording: that the adaptations come from.
        robot: whose it is.
        outcomes: in the order of time; those that could not be repeated are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(10, 6.5), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    began_s = recording.times_s[0]
    error = tracking_error(recording, robot)
    width = min(SMOOTH, error.size)
    # The mean of the last ones, so that nothing shows before it happened.
    padded = np.concatenate([np.full(width - 1, error[0]), error])
    smooth = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    top.plot(np.array(recording.times_s) - began_s, smooth, color="black", lw=1.4)
    units = ", ".join(dict.fromkeys(signal.unit for signal in robot.references))
    top.set_ylabel(f"mean tracking error [{units}]")
    top.set_ylim(0, 1.25 * top.get_ylim()[1])
    found = [(o.time_s - began_s, o.adaptation) for o in outcomes if o.adaptation is not None]
    times_s, adaptations = [time for time, _ in found], [adaptation for _, adaptation in found]
    draw_verdicts(top, times_s, [a.verdict.accepted for a in adaptations])
    draw_errors(
        bottom,
        times_s,
        [a.evidence.live_before for a in adaptations],
        [a.evidence.live_after for a in adaptations],
    )
    if adaptations:
        top.legend(loc="upper left", ncols=2, frameon=False)
    top.set_title(f"{robot.name}: {recording.path.name}")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
    figure.savefig(path, dpi=110)
    plt.close(figure)
