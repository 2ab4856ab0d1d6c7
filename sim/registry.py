"""Task families by name: this project's own, and those of any installed package.

A package of yours joins by an entry point of the group `reptile_agent.families`:

    [project.entry-points."reptile_agent.families"]
    my_robot = "my_package.family:MyFamily"
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from reptile_agent.task import TaskFamily

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
    points = _points()
    if name not in points:
        raise LookupError(
            f"no task family '{name}' (there are: {', '.join(sorted(points))}); a package "
            f"registers its own by an entry point of the group '{GROUP}'"
        )
    return points[name].load()()


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
