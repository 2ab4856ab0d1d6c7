"""Writes a bundle: graphs, start, rehearsal and the manifest that names them all."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from reptile_agent.atomic import atomic_write_folder
from reptile_agent.export import dynamics_graphs
from reptile_agent.meta.inner_loop import step_sizes
from reptile_agent.meta.planner import Planner
from reptile_agent.meta.trainer import Trainer
from reptile_agent.onboard import parameters
from reptile_agent.onboard.manifest import (
    FileEntry,
    Manifest,
    PlanShape,
    Provenance,
    TensorEntry,
)
from reptile_agent.provenance import git_commit, versions


def write_bundle(trainer: Trainer, path: Path) -> Manifest:
    """Export a trained start; an older bundle at `path` is replaced whole.

    Args:
        trainer: at the end of its run.
        path: of the bundle's folder.

    Raises:
        FileExistsError: `path` is there and no bundle.
        ValueError: the run's learner or inner loop has no graphs.
    """
    if path.exists() and not (path / "manifest.json").is_file():
        raise FileExistsError(f"{path} exists and is no bundle; name another folder with --out")
    config, planner, params = trainer.config, trainer.agent.driver, trainer.params
    if not isinstance(planner, Planner):
        raise ValueError(
            f"only the learner dynamics can be exported yet, this run's is {config.learner}"
        )
    if config.inner.proximal > 0:
        raise ValueError("an inner loop with a proximal term cannot be exported yet")
    start = {name: np.ascontiguousarray(value.numpy()) for name, value in params.items()}
    files = dynamics_graphs.build(planner, config.inner, params)
    files["start.safetensors"] = save(start)
    files["rehearsal.safetensors"] = save(dict(trainer.rehearsal()))
    entries = _entries(start)
    scale = step_sizes(params, 1.0, trainer.lr_scale)
    manifest = Manifest(
        files={
            name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            for name, data in files.items()
        },
        robot=trainer.family.robot,
        learner="dynamics",
        hyperparameters={
            "model": asdict(config.model),
            "planner": asdict(planner.config),
            "inner": asdict(config.inner),
        },
        normaliser={
            name: [float(x) for x in array]
            for name, array in asdict(planner.learner.normaliser).items()
        },
        parameters=entries,
        optimizer_state=_entries({n: v.numpy() for n, v in config.inner.init(params).items()}),
        plan=PlanShape(horizon=planner.config.horizon, samples=planner.config.samples),
        segment=config.model.segment,
        adaptation=config.adaptation,
        lr_scale={name: float(value) for name, value in scale.items()},
        start_sha256=parameters.sha256(parameters.flatten(start, entries)),
        provenance=Provenance(
            family=trainer.family.name,
            split="train",
            algorithm=config.algorithm,
            seed=config.seed,
            git_commit=git_commit(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
        ),
    )
    files["manifest.json"] = manifest.model_dump_json(indent=1).encode()
    atomic_write_folder(path, files)
    return manifest


def _entries(tensors: dict[str, np.ndarray]) -> tuple[TensorEntry, ...]:
    return tuple(TensorEntry(name=n, shape=tuple(t.shape)) for n, t in tensors.items())
