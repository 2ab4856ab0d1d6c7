"""Writes a bundle: graphs, start, rehearsal and the manifest that names them all."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from reptile_agent.atomic import atomic_write_folder
from reptile_agent.export import learner_graphs
from reptile_agent.meta.agent import SETTINGS_OF, Agent
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
from reptile_agent.spec import choices
from reptile_agent.task import TaskFamily
from reptile_agent.transition import Batch

MAX_UNKNOWN_REWARD = 0.1
"""Share of the rewards' variance that the robot may not be able to know."""


def write_bundle(
    trainer: Trainer, path: Path, tell: Callable[[str], None] = lambda _: None
) -> Manifest:
    """Export a trained start; an older bundle at `path` is replaced whole.

    Args:
        trainer: at the end of its run.
        path: of the bundle's folder.
        tell: called with what is done next.

    Raises:
        FileExistsError: `path` is there and no bundle.
        ValueError: what was trained cannot run on a robot; the message says why.
    """
    if path.exists() and not (path / "manifest.json").is_file():
        raise FileExistsError(f"{path} exists and is no bundle; name another folder with --out")
    config, family, params = trainer.config, trainer.family, trainer.params
    learner, driver = trainer.agent.learner, trainer.agent.driver
    if config.inner.proximal > 0:
        raise ValueError("an inner loop with a proximal term cannot be exported yet")
    if choices(family.robot):
        raise ValueError(
            f"the action of robot '{family.robot.name}' is a choice, for which a robot's guards "
            f"have no safe command: holding still would be choice {family.robot.actions[0].low:g} "
            f"for ever; a bundle needs continuous actions"
        )
    rehearsal = trainer.rehearsal()
    if "reward" in rehearsal:
        _check_reward(family, rehearsal)
    start = {name: np.ascontiguousarray(value.numpy()) for name, value in params.items()}
    files = learner_graphs.build(learner, driver, family.reward, config.inner, params, tell)
    files["start.safetensors"] = save(start)
    files["rehearsal.safetensors"] = save(dict(rehearsal))
    entries = _entries(start)
    scale = step_sizes(params, 1.0, trainer.lr_scale)
    manifest = Manifest(
        files={
            name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            for name, data in files.items()
        },
        robot=family.robot,
        learner=config.learner,
        hyperparameters=_hyperparameters(trainer),
        normaliser=_normaliser(trainer.agent, config.learner),
        parameters=entries,
        optimizer_state=_entries({n: v.numpy() for n, v in config.inner.init(params).items()}),
        plan=PlanShape(horizon=driver.horizon, samples=driver.noise_shape[0]),
        segment=learner.segment,
        experience=learner.experience,
        adaptation=config.adaptation,
        lr_scale={name: float(value) for name, value in scale.items()},
        start_sha256=parameters.sha256(parameters.flatten(start, entries)),
        provenance=Provenance(
            family=family.name,
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


def _hyperparameters(trainer: Trainer) -> dict[str, Any]:
    config, driver = trainer.config, trainer.agent.driver
    found = {"model": asdict(getattr(config, SETTINGS_OF[config.learner]))}
    if isinstance(driver, Planner):
        found["planner"] = asdict(driver.config)
    return found | {"inner": asdict(config.inner)}


def _normaliser(agent: Agent, learner: str) -> dict[str, list[float]]:
    """Of the model, of the policy, or of both with their prefixes."""
    parts = {"dynamics": ("model.",), "actor_critic": ("policy.",)}.get(
        learner, ("model.", "policy.")
    )
    found = {n: a.tolist() for n, a in agent.normaliser.items() if n.startswith(parts)}
    if learner != "dynamics":
        return found
    return {name.removeprefix("model."): value for name, value in found.items()}


def _check_reward(family: TaskFamily, rehearsal: Batch) -> None:
    """Whether the robot can know the reward that was learned from.

    It has the family's formula and its sensors; a simulator may reward by what only it knows.

    Raises:
        ValueError: it cannot.
    """
    robot, seen = family.robot, rehearsal["obs"]
    size = len(robot.observations)
    first = (
        seen[:, :size],
        rehearsal["action"][:, 0],
        rehearsal["next_obs"][:, 0, :size],
        seen[:, size:],
    )
    known = family.reward(*map(torch.from_numpy, first)).numpy()
    trained = rehearsal["reward"][:, 0]
    # Sensors are not perfect in every family: the rewards are much alike, not the same.
    off = np.square(known - trained).mean()
    if off > MAX_UNKNOWN_REWARD * trained.var() + 1e-8:
        raise ValueError(
            f"family '{family.name}' was trained on rewards that its method `reward` does not "
            f"give, so the robot could not know them; make its simulator reward by that method"
        )


def _entries(tensors: dict[str, np.ndarray]) -> tuple[TensorEntry, ...]:
    return tuple(TensorEntry(name=n, shape=tuple(t.shape)) for n, t in tensors.items())
