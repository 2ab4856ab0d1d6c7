"""Loads a bundle, trusting nothing: sizes and hashes are checked before a byte is parsed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from reptile_agent.onboard import parameters, session, signature
from reptile_agent.onboard.checks import BundleError as BundleError
from reptile_agent.onboard.checks import Checks
from reptile_agent.onboard.folder import Folder
from reptile_agent.onboard.interface import Interface, interfaces
from reptile_agent.onboard.manifest import MAX_FILE_BYTES, SCHEMA_VERSION, Manifest
from reptile_agent.onboard.trial import try_graphs
from reptile_agent.transition import Batch

MAX_MANIFEST_BYTES = 2**20
TRIES = 10
"""Readings of a folder that is replaced while it is read."""


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
    def load(
        cls, path: str | Path, key: str | Path | None = None, checks: Checks | None = None
    ) -> Bundle:
        """Read and check a bundle folder.

        Graphs are tried in a process of their own first (`trial`): some tenths of a second, once
        per process and bundle.

        Args:
            path: of the folder.
            key: file with the public key (PEM) that the bundle must be signed for; None: its
                signature is not looked at. Needs the extra `sign`.
            checks: is told of every check that was made.

        Raises:
            BundleError: anything about it is not as its manifest says.
        """
        path, checks = Path(path), checks or Checks()
        files, manifest = _read(path, checks, signed=key is not None)
        if key is not None:
            with checks.of(f"{signature.FILE}: signed for the key"):
                signature.check(path, files, Path(key))
        with checks.of("start.safetensors: tensors of the manifest, finite, start_sha256"):
            start = _start(path, manifest, files)
        with checks.of("rehearsal.safetensors: shapes of the robot, finite"):
            rehearsal = _load_tensors(path, "rehearsal.safetensors", files)
            _check_rehearsal(path, rehearsal, manifest)
        with checks.of("manifest.json: sizes of the graphs' tensors"):
            wanted = _interfaces(path, manifest)
        graphs = {name: files[name] for name in manifest.graphs}
        try_graphs(path, graphs, wanted, checks)
        return cls(path, manifest, start, rehearsal, graphs)

    def session(self, graph: str) -> ort.InferenceSession:
        """An onnxruntime session of one of its graphs (`manifest.graphs`), one thread.

        Raises:
            BundleError: onnxruntime refuses the graph.
        """
        try:
            return session.make(self._graphs[graph])
        except Exception as error:  # onnxruntime raises many unrelated types
            raise BundleError(f"{self.path / graph}: onnxruntime refuses it: {error}") from error


def step_sizes(manifest: Manifest, lr: float) -> dict[str, np.ndarray]:
    """Inner step size of each parameter, float32 scalars, for the inputs `lr.<name>`."""
    return {
        entry.name: np.array(lr * manifest.lr_scale[entry.name], np.float32)
        for entry in manifest.parameters
    }


def _read(path: Path, checks: Checks, signed: bool) -> tuple[dict[str, bytes], Manifest]:
    """All files of one bundle, and the manifest; read again where another bundle replaced it."""
    for attempt in range(1, TRIES + 1):
        made = Checks()
        with Folder(path) as folder:
            try:
                return _read_once(folder, made, signed)
            except BundleError:
                if not folder.replaced or attempt == TRIES:
                    raise
                made = Checks()
            finally:
                checks.passed += made.passed
                checks.failed = made.failed
    raise AssertionError("the last attempt returns or raises")


def _read_once(folder: Folder, checks: Checks, signed: bool) -> tuple[dict[str, bytes], Manifest]:
    with checks.of(f"manifest.json: schema version {SCHEMA_VERSION}, fields, ranges"):
        data = _read_manifest(folder)
        manifest = parse_manifest(folder.path / "manifest.json", data)
    files = {"manifest.json": data}
    for name in manifest.files:
        with checks.of(f"{name}: size and sha256"):
            files[name] = _read_checked(folder, name, manifest)
    if signed:
        with checks.of(f"{signature.FILE}: is there"):
            files[signature.FILE] = signature.read(folder)
    return files, manifest


def _read_manifest(folder: Folder) -> bytes:
    data, file = folder.read("manifest.json", MAX_MANIFEST_BYTES), folder.path / "manifest.json"
    if data is None:
        raise BundleError(
            f"no bundle at {folder.path}: it has no manifest.json, or one that is no plain file; "
            f"name a folder that `reptile-agent export` wrote"
        )
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{file} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest; export again"
        )
    return data


def parse_manifest(file: Path, data: bytes) -> Manifest:
    """The manifest in some bytes.

    Args:
        file: where they come from, for messages.
        data: JSON.

    Raises:
        BundleError: it is none, of another schema version, or says what cannot be.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"][:8]) or "the file"
        said = " ".join(f"{where}: {first['msg'][:300]}".split())
        raise BundleError(f"{file}: {said}; export the bundle again") from None


def _read_checked(folder: Folder, name: str, manifest: Manifest) -> bytes:
    entry, file = manifest.files[name], folder.path / name
    data = folder.read(name, min(entry.bytes, MAX_FILE_BYTES))
    if data is None:
        raise BundleError(f"{file} is missing or no plain file; copy the whole bundle again")
    if len(data) != entry.bytes:
        has = f"{len(data)}" if len(data) < entry.bytes else "more"
        raise BundleError(
            f"{file} has {has} bytes, the manifest says {entry.bytes}; copy the bundle again"
        )
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(
            f"{file} does not have the sha256 of the manifest: it was damaged or changed; copy the "
            f"bundle again, or export it again"
        )
    return data


def _start(path: Path, manifest: Manifest, files: dict[str, bytes]) -> np.ndarray:
    tensors = _load_tensors(path, "start.safetensors", files)
    try:
        start = parameters.flatten(tensors, manifest.parameters)
    except ValueError as error:
        raise BundleError(f"{path / 'start.safetensors'}: {error}; export again") from None
    if parameters.sha256(start) != manifest.start_sha256:
        raise BundleError(
            f"{path / 'start.safetensors'} does not hash to the manifest's start_sha256; "
            f"export again"
        )
    return start


def _interfaces(path: Path, manifest: Manifest) -> dict[str, Interface]:
    try:
        return interfaces(manifest)
    except ValueError as error:
        raise BundleError(f"{path / 'manifest.json'}: {error}; export again") from None


def _load_tensors(path: Path, name: str, data: dict[str, bytes]) -> dict[str, np.ndarray]:
    try:
        return load(data[name])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path / name}: {error}; export again") from None


def _check_rehearsal(path: Path, tensors: dict[str, np.ndarray], manifest: Manifest) -> None:
    rows = tensors["obs"].shape[0] if "obs" in tensors else 0
    shapes = manifest.experience.segments(manifest.robot, manifest.segment) | {"weight": ()}
    wanted = {name: (rows, *shape) for name, shape in shapes.items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise BundleError(
            f"{path / 'rehearsal.safetensors'} should hold float32 alone; export again"
        )
    if rows == 0 or found != wanted:
        raise BundleError(
            f"{path / 'rehearsal.safetensors'} should hold {wanted}, it holds {found}; export again"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise BundleError(
            f"{path / 'rehearsal.safetensors'} has values that are not finite; export again"
        )
