"""What the gate said, drawn: the demo's report and `adapt-bag` show it alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ADAPTED, UNADAPTED = "#0a7d5a", "#c2452d"


def draw_verdicts(axis: Any, times_s: Sequence[float], accepted: Sequence[bool]) -> None:
    """A tick for every adaptation that was accepted and a cross for every refused one.

    Args:
        axis: of matplotlib; the marks stand just above its lower end, which is 0.
        times_s: of the verdicts.
        accepted: whether each was.
    """
    for wanted, marker, colour, label in (
        (True, "|", ADAPTED, "adaptation accepted"),
        (False, "x", UNADAPTED, "refused by the gate"),
    ):
        times = [time for time, word in zip(times_s, accepted, strict=True) if word == wanted]
        if times:
            height = [0.02 * axis.get_ylim()[1]] * len(times)
            axis.plot(times, height, marker, color=colour, ms=7, label=label)


def draw_errors(
    axis: Any, times_s: Sequence[float], before: Sequence[float], after: Sequence[float]
) -> None:
    """What the gate compares: errors on held-out live data of both parameters, logarithmic."""
    for label, colour, values in (("in use", UNADAPTED, before), ("adapted", ADAPTED, after)):
        axis.plot(times_s, values, ".-", color=colour, lw=1, label=label)
    axis.set_yscale("log")
    axis.set_ylabel("prediction error on\nheld-out live data")
    axis.set_xlabel("time [s]")
    axis.legend(loc="upper left", ncols=2, frameon=False, title="what the gate compares")
