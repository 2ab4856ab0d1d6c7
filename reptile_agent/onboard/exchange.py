"""Which bundle may take another one's place while a robot runs."""

from __future__ import annotations

import math
from pathlib import Path

from reptile_agent.onboard.checks import BundleError
from reptile_agent.onboard.manifest import Manifest
from reptile_agent.spec import LIMITS, RobotSpec, Signal

MAX_NAME = 255
"""Bytes in the name of a file, on Linux."""


def find_in(folder: Path, name: str) -> Path:
    """The bundle of that name in a folder of bundles, with links followed.

    A link to another bundle of the folder is allowed (`current`), one that leads out is not.

    Raises:
        BundleError: the name is none, leads out of the folder, or names nothing there.
    """
    strange = any(c in "/\\\0" or not c.isprintable() for c in name)
    if strange or name in ("", ".", "..") or len(name.encode(errors="replace")) > MAX_NAME:
        raise BundleError(
            f"{name[:100]!r} is no name of a bundle; give the name of a folder in {folder}, no path"
        )
    try:
        root = folder.resolve(strict=True)
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise BundleError(f"there is no bundle '{name}' in {folder}: {error}") from None
    if path.parent != root or not path.is_dir():
        raise BundleError(f"'{name}' is no folder in {folder}, or a link that leads out of it")
    return path


def objection(old: Manifest, new: Manifest) -> str:
    """What of another bundle does not fit the one that drives, in a sentence; empty: it fits.

    Signals, units and the period must be the same, and no limit may be looser, those of the trust
    region included.
    """
    for limit in ("max_distance", "max_layer_distance"):
        their, our = getattr(new.adaptation, limit), getattr(old.adaptation, limit)
        if _or_infinite(their) > _or_infinite(our):
            return f"its trust region is wider: {limit} {their}, not {our}"
    return robot_objection(old.robot, new.robot)


def robot_objection(old: RobotSpec, new: RobotSpec) -> str:
    """The same of a robot alone."""
    if new.name != old.name:
        return f"its robot is '{new.name}', the present one '{old.name}'"
    if new.control_period_s != old.control_period_s:
        return f"its control period is {new.control_period_s:g} s, not {old.control_period_s:g}"
    for role in ("observations", "actions", "references"):
        theirs, ours = getattr(new, role), getattr(old, role)
        if [s.name for s in theirs] != [s.name for s in ours]:
            return f"its {role} are {[s.name for s in theirs]}, not {[s.name for s in ours]}"
        for their, our in zip(theirs, ours):
            against = _signal_objection(our, their)
            if against:
                return f"{role[:-1]} '{our.name}': {against}"
    return ""


def _or_infinite(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _signal_objection(old: Signal, new: Signal) -> str:
    ours, theirs = (signal.model_dump(exclude=LIMITS) for signal in (old, new))
    for what, our in ours.items():
        if theirs[what] != our:
            return f"{what} is {theirs[what]}, not {our}"
    if new.low < old.low or new.high > old.high:
        return f"limits [{new.low:g}, {new.high:g}] are looser than [{old.low:g}, {old.high:g}]"
    if new.quantity != "position" and old.low <= 0 <= old.high and not new.low <= 0 <= new.high:
        return f"limits [{new.low:g}, {new.high:g}] have no zero, which holds the robot"
    for limit in ("max_rate", "max_acceleration"):
        their, our = getattr(new, limit), getattr(old, limit)
        if _or_infinite(their) > _or_infinite(our):
            return f"{limit} {their} is looser than {our}"
    if new.may_rest and not old.may_rest:
        return "it may rest, and may not now"
    return ""
