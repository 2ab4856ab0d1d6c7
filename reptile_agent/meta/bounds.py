"""Settings that no training can run with are refused by name, before anything is simulated."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any


def check_bounds(
    config: object,
    least: Mapping[str, float],
    above: Mapping[str, float],
    most: Mapping[str, float],
) -> None:
    """Refuse numbers that are too small, too large or not finite.

    Args:
        config: whose settings; of a tuple or a dict, each value.
        least: smallest value that a setting may have, by its name (`inner.proximal`: of a part).
        above: largest value that a setting may not have any more.
        most: largest value.

    Raises:
        ValueError: names the setting, its bound and what it is.
    """
    for name in {**least, **above, **most}:
        found: Any = functools.reduce(getattr, name.split("."), config)
        values = found.values() if isinstance(found, Mapping) else found
        for value in values if isinstance(found, Mapping | tuple) else (found,):
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value:g}")
            if name in least and value < least[name]:
                raise ValueError(f"{name} must be at least {least[name]:g}, got {value:g}")
            if name in above and value <= above[name]:
                raise ValueError(f"{name} must be above {above[name]:g}, got {value:g}")
            if name in most and value > most[name]:
                raise ValueError(f"{name} must be at most {most[name]:g}, got {value:g}")
