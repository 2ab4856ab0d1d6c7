"""Checkpoints: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reptile_agent.atomic import atomic_write

FORMAT = "reptile-agent-checkpoint-1"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def write(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Write atomically: a reader finds the old file or the new one, never a part.

    Args:
        path: of the file.
        arrays: tensors by name.
        state: whatever else is needed, as JSON.
    """
    data = save(
        {name: np.asarray(a, order="C") for name, a in arrays.items()},
        metadata={"format": FORMAT, "state": json.dumps(state)},
    )
    atomic_write(path, data)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and state as written.

    Raises:
        CheckpointError: the file is missing, cut, or something else.
    """
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; `reptile-agent train FAMILY --out {path.parent}` makes one"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged ({error}; {path.stat().st_size} bytes on disk); "
            f"train again, or restore the file from a copy"
        ) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no {FORMAT} (it says: {metadata.get('format')}); "
            f"name the checkpoint.safetensors of a `reptile-agent train` run"
        )
    return arrays, json.loads(metadata["state"])


def read_run(path: Path, family: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Arrays as `<group>` -> `<rest of the name>`, and state, of a run of `family`.

    Raises:
        CheckpointError: as `read`, or the run is of another family.
    """
    arrays, state = read(path)
    if state["family"] != family:
        raise CheckpointError(f"{path} is a run of family '{state['family']}', not of '{family}'")
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = value
    return groups, state
