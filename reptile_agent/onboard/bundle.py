"""Loads a bundle, trusting nothing: sizes and hashes are checked before a byte is parsed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from reptile_agent.onboard import parameters
from reptile_agent.onboard.manifest import GRAPHS, MAX_FILE_BYTES, Manifest
from reptile_agent.transition import Batch

MAX_MANIFEST_BYTES = 2**20


class BundleError(ValueError):
    """A bundle was refused; the message names the file, what is wrong, and the mend."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its manifest, its start and its files' bytes."""

    path: Path
    manifest: Manifest
    start: np.ndarray
    """The meta-learned start, flat float32 [parameters]."""
    rehearsal: Batch
    """Segments from simulation, [n, ...]."""
    _graphs: dict[str, bytes]

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read and check a bundle folder.

        Raises:
            BundleError: anything about it is not as its manifest says.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        data = {name: _read_checked(path, name, manifest) for name in manifest.files}
        tensors = _load_tensors(path, "start.safetensors", data)
        try:
            start = parameters.flatten(tensors, manifest.parameters)
        except ValueError as error:
            raise BundleError(f"{path / 'start.safetensors'}: {error}; export again") from None
        if parameters.sha256(start) != manifest.start_sha256:
            raise BundleError(
                f"{path / 'start.safetensors'} does not hash to the manifest's start_sha256; "
                f"export again"
            )
        rehearsal = _load_tensors(path, "rehearsal.safetensors", data)
        _check_rehearsal(path, rehearsal, manifest)
        graphs = {name: data[name] for name in GRAPHS}
        return cls(path, manifest, start, rehearsal, graphs)

    def session(self, graph: str) -> ort.InferenceSession:
        """An onnxruntime session of `act.onnx`, `adapt.onnx` or `evaluate.onnx`, one thread.

        Made from bytes, so that a graph cannot reach for files beside it.

        Raises:
            BundleError: onnxruntime refuses the graph.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return ort.InferenceSession(
                self._graphs[graph], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises many unrelated types
            raise BundleError(f"{self.path / graph}: onnxruntime refuses it: {error}") from error


def step_sizes(manifest: Manifest, lr: float) -> dict[str, np.ndarray]:
    """Inner step size of each parameter, float32 scalars, for the inputs `lr.<name>`."""
    return {
        entry.name: np.array(lr * manifest.lr_scale[entry.name], np.float32)
        for entry in manifest.parameters
    }


def _read_manifest(path: Path) -> Manifest:
    file = path / "manifest.json"
    if not file.is_file():
        raise BundleError(
            f"no bundle at {path}: it has no manifest.json; name a folder that "
            f"`reptile-agent export` wrote"
        )
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{file} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest; export again"
        )
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{file}: {where}: {first['msg']}; export the bundle again") from None


def _read_checked(path: Path, name: str, manifest: Manifest) -> bytes:
    entry, file = manifest.files[name], path / name
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{file} is missing or no plain file; copy the whole bundle again")
    size = os.stat(file).st_size
    if size != entry.bytes or size > MAX_FILE_BYTES:
        raise BundleError(
            f"{file} has {size} bytes, the manifest says {entry.bytes}; copy the bundle again"
        )
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(
            f"{file} does not have the sha256 of the manifest: it was damaged or changed; copy the "
            f"bundle again, or export it again"
        )
    return data


def _load_tensors(path: Path, name: str, data: dict[str, bytes]) -> dict[str, np.ndarray]:
    try:
        return load(data[name])
    except SafetensorError as error:
        raise BundleError(f"{path / name}: {error}; export again") from None


def _check_rehearsal(path: Path, tensors: dict[str, np.ndarray], manifest: Manifest) -> None:
    robot = manifest.robot
    obs, act, segment = len(robot.observations), len(robot.actions), manifest.segment
    rows = tensors["obs"].shape[0] if "obs" in tensors else 0
    wanted = {
        "obs": (rows, obs),
        "action": (rows, segment, act),
        "next_obs": (rows, segment, obs),
        "weight": (rows,),
    }
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if rows == 0 or found != wanted:
        raise BundleError(
            f"{path / 'rehearsal.safetensors'} should hold {wanted}, it holds {found}; export again"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise BundleError(
            f"{path / 'rehearsal.safetensors'} has values that are not finite; export again"
        )
