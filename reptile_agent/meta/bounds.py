"""Settings that no training can run with are refused by name, before anything is simulated."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any


def check_bounds(config: object, least: Mapping[str, float], above: Mapping[str, float]) -> None:
    """Refuse numbers that are too small or not finite.

    Args:
        config: whose settings.
        least: smallest value that a setting may have, by its name (`inner.proximal`: of a part).
        above: largest value that a setting may not have any more.

    Raises:
        ValueError: names the setting, its bound and what it is.
    """
    for name, bound in (*least.items(), *above.items()):
        found: Any = functools.reduce(getattr, name.split("."), config)
        for value in found if isinstance(found, tuple) else (found,):
            inside = value > bound if name in above else value >= bound
            if not (inside and math.isfinite(value)):
                words = "above" if name in above else "at least"
                finite = " and finite" if value == math.inf else ""
                raise ValueError(f"{name} must be {words} {bound:g}{finite}, got {value:g}")
