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


def names() -> list[str]:
    """Every registered family."""
    return sorted(_points())


@cache
def get(name: str) -> TaskFamily:
    """The family of that name.

    Raises:
        LookupError: there is none.
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
    point = points[name]
    if not hasattr(import_module(point.module), point.attr):
        raise LookupError(
            f"task family '{name}' is registered as '{point.value}', and that module has no "
            f"'{point.attr}'; mend the entry point and install the package again"
        )
    return point.load()()


def _of_gymnasium(name: str) -> TaskFamily:
    try:
        from sim.gymnasium_family import from_name
    except ModuleNotFoundError as error:
        raise LookupError(
            f"family '{name}' needs gymnasium: {error}; pip install 'reptile-agent[train]'"
        ) from error
    return from_name(name)


@cache
def _points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise ValueError(
                f"task family '{point.name}' is registered twice: by '{found[point.name].value}' "
                f"and by '{point.value}'; rename one entry point"
            )
        found[point.name] = point
    return found
