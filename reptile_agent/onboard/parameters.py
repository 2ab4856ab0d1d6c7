"""Parameters as the robot handles them: one flat float32 vector, with a view per tensor."""

from __future__ import annotations

import hashlib

import numpy as np

from reptile_agent.onboard.manifest import Manifest, TensorEntry
from reptile_agent.trust_region import layer_distances


def views(flat: np.ndarray, entries: tuple[TensorEntry, ...]) -> dict[str, np.ndarray]:
    """Views of `flat` [size] by tensor name.

    Raises:
        ValueError: the length does not fit.
    """
    wanted = sum(entry.size for entry in entries)
    if flat.shape != (wanted,):
        raise ValueError(f"got {flat.shape} parameters, the bundle has {wanted}")
    found, at = {}, 0
    for entry in entries:
        found[entry.name] = flat[at : at + entry.size].reshape(entry.shape)
        at += entry.size
    return found


def flatten(tensors: dict[str, np.ndarray], entries: tuple[TensorEntry, ...]) -> np.ndarray:
    """A new flat vector in the order of `entries`.

    Raises:
        ValueError: a tensor is missing, has another shape, or is not finite.
    """
    for entry in entries:
        found = tensors.get(entry.name)
        if found is None or found.shape != entry.shape or found.dtype != np.float32:
            is_there = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise ValueError(f"'{entry.name}' should be float32 {entry.shape}, there is {is_there}")
        if not np.isfinite(found).all():
            raise ValueError(f"'{entry.name}' has values that are not finite")
    return np.concatenate([tensors[entry.name].ravel() for entry in entries])


def sha256(flat: np.ndarray) -> str:
    """Hash of the vector's bytes, little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(flat, "<f4").tobytes()).hexdigest()


def distances(
    flat: np.ndarray, start: np.ndarray, manifest: Manifest
) -> tuple[float, dict[str, float]]:
    """Euclidean distance of `flat` from `start`, and the relative one of each tensor."""
    new, old = views(flat, manifest.parameters), views(start, manifest.parameters)
    # What is not finite gives a distance that is not: the caller refuses it.
    with np.errstate(over="ignore", invalid="ignore"):
        layers = layer_distances(new, old, manifest.lr_scale)
        return float(np.linalg.norm(flat - start)), layers
