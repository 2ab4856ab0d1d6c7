"""Models that gymnasium carries in its wheel: read from there, so that nothing is copied."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def asset(name: str) -> str:
    """Text of gymnasium's MJCF of that name; gymnasium itself is not imported.

    Raises:
        ModuleNotFoundError: gymnasium is not installed.
    """
    found = find_spec("gymnasium")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            f"the model '{name}.xml' comes with gymnasium, which is not installed; "
            f"`pip install gymnasium`"
        )
    return (Path(found.origin).parent / "envs/mujoco/assets" / f"{name}.xml").read_text()
