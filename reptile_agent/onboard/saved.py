"""Parameters kept on disk: what a robot adapted, or a start that it consolidated.

A safetensors file beside the bundle, never in it. All that is read is checked as if it came from
outside: sizes, hash, names and shapes, finiteness, whose start it belongs to, the trust region.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reptile_agent.atomic import atomic_write
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.manifest import MAX_FILE_BYTES
from reptile_agent.trust_region import breach

Role = Literal["adapted", "start"]
"""What drives the robot, or what adaptations begin at (`Adapter.consolidate`)."""


class SavedError(ValueError):
    """Saved parameters were refused; the message names the file, what is wrong, and the mend."""


class About(BaseModel):
    """What a file says of its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    start_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the bundle's start, which distances are measured from; a consolidated one's as well."""
    version: int = Field(ge=0, lt=2**63)
    evidence: dict[str, float | None]
    """Figures of the gate's verdict; null where one is not finite."""
    created: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Saved:
    """Parameters and what is known of them."""

    parameters: np.ndarray
    """Flat float32."""
    about: About


def save_parameters(
    path: Path,
    bundle: Bundle,
    flat: np.ndarray,
    role: Role,
    version: int,
    figures: Mapping[str, float] | None = None,
) -> None:
    """Write parameters so that the file holds the old ones or these, whenever it ends.

    Args:
        path: of the file; its folder exists.
        bundle: that they belong to.
        flat: float32 [parameters].
        role: what they are.
        version: of their own, so that a reader can tell them apart.
        figures: of the gate's verdict.

    Raises:
        ValueError: they do not fit the bundle.
        OSError: the disk refuses; what was there stays.
    """
    finite = {n: v if np.isfinite(v) else None for n, v in (figures or {}).items()}
    about = About(
        role=role,
        start_sha256=bundle.manifest.start_sha256,
        version=version,
        evidence=finite,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    ).model_dump_json()
    metadata = {"about": about, "sha256": _digest(flat, about)}
    tensors = parameters.views(np.ascontiguousarray(flat, np.float32), bundle.manifest.parameters)
    atomic_write(Path(path), save(tensors, metadata))


def load_parameters(path: Path, bundle: Bundle, role: Role) -> Saved:
    """Read and check what `save_parameters` wrote.

    Raises:
        SavedError: anything about it is not as it should be.
        OSError: it cannot be read, or is not there.
    """
    path = Path(path)
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(f"{path} is missing or no plain file; save parameters first")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SavedError(f"{path} is larger than {MAX_FILE_BYTES} bytes; remove it and save again")
    data = path.read_bytes()
    try:
        flat = parameters.flatten(load(data), bundle.manifest.parameters)
        metadata = _metadata(data)
        about = About.model_validate_json(metadata["about"])
    except (SafetensorError, ValidationError, KeyError, TypeError, ValueError) as error:
        raise SavedError(
            f"{path} does not hold parameters of this bundle: {error}; remove it and save again"
        ) from None
    if _digest(flat, metadata["about"]) != metadata.get("sha256"):
        raise SavedError(f"{path} was damaged: it does not have its own sha256; remove it")
    wanted = bundle.manifest.start_sha256
    if about.start_sha256 != wanted:
        raise SavedError(
            f"{path} was adapted from start {about.start_sha256[:12]}, this bundle's is "
            f"{wanted[:12]}; give the bundle that it belongs to, or remove it"
        )
    if about.role != role:
        raise SavedError(f"{path} holds role '{about.role}', not '{role}'; roles: {get_args(Role)}")
    outside = breach(
        *parameters.distances(flat, bundle.start, bundle.manifest), bundle.manifest.adaptation
    )
    if outside is not None:
        raise SavedError(f"{path} is outside the trust region: {outside[1]}; remove it")
    return Saved(flat, about)


def _metadata(data: bytes) -> dict[str, str]:
    """The `__metadata__` of a file that safetensors could read: it gives tensors alone."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def _digest(flat: np.ndarray, about: str) -> str:
    """Hash of the numbers and of all that is said of them: safetensors has no checksum."""
    return hashlib.sha256(np.ascontiguousarray(flat, "<f4").tobytes() + about.encode()).hexdigest()
