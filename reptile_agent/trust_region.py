"""The trust region: how far adapted parameters may lie from a start, as a whole and per layer.

One limit on the whole vector lets a small layer change beyond recognition as long as the large
ones stay; so each parameter tensor has a limit of its own, in shares of what it was, and wider
where its step size is larger: that is how far the workshop meant it to move. Gate, controller and
saved parameters all ask here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from reptile_agent.adaptation import AdaptationConfig

FLOOR_SHARE = 0.05
"""A layer's norm counts as at least this share of the whole start's: a layer that starts at zero
(biases, a context) would be infinitely far from it after the first step."""


def layer_distances(
    adapted: Mapping[str, np.ndarray],
    start: Mapping[str, np.ndarray],
    lr_scale: Mapping[str, float],
) -> dict[str, float]:
    """Relative distance of each layer: `||adapted - start|| / (lr_scale * max(||start||, floor))`.

    Args:
        adapted: parameter tensors by name.
        start: the same names and shapes.
        lr_scale: factor on the inner step size of each.
    """
    norms = {name: float(np.linalg.norm(value)) for name, value in start.items()}
    floor = FLOOR_SHARE * math.hypot(*norms.values())
    found = {}
    for name, value in start.items():
        away = float(np.linalg.norm(adapted[name] - value))
        # Where everything starts at zero there is no scale: the distance itself is taken.
        base = lr_scale[name] * (max(norms[name], floor) or 1.0)
        found[name] = away / base if base > 0 else math.inf if away else 0.0
    return found


def pulled_back(flat: np.ndarray, start: np.ndarray, radius: float | None) -> np.ndarray:
    """The nearest parameters no further than `radius` from the start: projection onto a ball.

    What is so far that its distance overflows stays where it is, for the gate to refuse: scaled by
    0 it would pass for the start.

    Args:
        flat: adapted parameters, [n], finite.
        start: [n].
        radius: Euclidean; None: they stay where they are.
    """
    if radius is None:
        return flat
    with np.errstate(over="ignore"):
        away = flat - start
        distance = float(np.linalg.norm(away))
    if not radius < distance < math.inf:
        return flat
    return start + away * np.float32(radius / distance)


def breach(
    distance: float, layers: Mapping[str, float], config: AdaptationConfig
) -> tuple[str, str] | None:
    """What leaves the trust region: a word and a sentence; None where nothing does.

    Args:
        distance: Euclidean distance of all parameters from the start.
        layers: as `layer_distances` gives them; empty where they are not judged.
        config: the limits.
    """
    # "not <=": what is not a number is outside.
    if not distance <= config.max_distance:
        return (
            "too_far",
            f"distance {distance:.3g} from the start exceeds max_distance "
            f"{config.max_distance:.3g}",
        )
    if config.max_layer_distance is None or not layers:
        return None
    for name, value in layers.items():
        if not value <= config.max_layer_distance:
            return (
                "layer_too_far",
                f"layer '{name}' is at {value:.3g} of its size and step size from the start, "
                f"beyond max_layer_distance {config.max_layer_distance:.3g}",
            )
    return None
