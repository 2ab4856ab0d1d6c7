"""Task families by name: this project's own, and those of any installed package.

A package of yours joins by an entry point of the group `reptile_agent.families`:

    [project.entry-points."reptile_agent.families"]
    my_robot = "my_package.family:MyFamily"

Any gymnasium environment is one too: `gymnasium:Pendulum-v1?g=5..15`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from reptile_agent.task import TaskFamily
from sim.gymnasium_query import PREFIX

GROUP = "reptile_agent.families"
TRAIN = ("mujoco", "torch", "gymnasium", "array_api_compat")
"""Modules of the extra [train] that families import."""
HINT = "; pip install 'reptile-agent[train]'"
"""What to do where one of them is missing."""


def names() -> list[str]:
    """Every registered family."""
    return sorted(_points())


@cache
def get(name: str) -> TaskFamily:
    """The family of that name.

    Raises:
        LookupError: there is none, or its entry point leads nowhere.
        ValueError: two packages register it, or it contradicts itself.
    """
    if name.startswith(PREFIX):
        return _of_gymnasium(name)
    points = _points()
    if name not in points:
        raise LookupError(
            f"no task family '{name}' (there are: {', '.join(sorted(points))}); a package "
            f"registers its own by an entry point of the group '{GROUP}', and '{PREFIX}ID' is any "
            f"environment of gymnasium"
        )
    point, *others = points[name]
    if others:
        raise ValueError(
            f"task family '{name}' is registered twice: by {_of(point)} and by {_of(others[0])}; "
            f"rename one entry point, or uninstall one package"
        )
    try:
        module = import_module(point.module)
    except ImportError as error:
        raise LookupError(
            f"task family '{name}', {_of(point)}, cannot be imported: {error}"
            + (HINT if getattr(error, "name", None) in TRAIN else "")
        ) from error
    if not hasattr(module, point.attr):
        raise LookupError(
            f"task family '{name}' is registered as '{point.value}', and that module has no "
            f"'{point.attr}'; mend the entry point and install the package again"
        )
    try:
        return getattr(module, point.attr)()
    except TypeError as error:  # an abstract method that is still missing
        raise LookupError(f"task family '{name}', {_of(point)}: {error}") from error


def _of_gymnasium(name: str) -> TaskFamily:
    try:
        from sim.gymnasium_family import from_name
    except ModuleNotFoundError as error:
        raise LookupError(f"family '{name}' needs gymnasium: {error}{HINT}") from error
    return from_name(name)


@cache
def _points() -> dict[str, list[EntryPoint]]:
    """Entry points by name; more than one where two packages take the same name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        others = found.setdefault(point.name, [])
        # An editable install can list its entry points twice.
        if point.value not in [other.value for other in others]:
            others.append(point)
    return found


def _of(point: EntryPoint) -> str:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return f"'{point.value}'{package}"
