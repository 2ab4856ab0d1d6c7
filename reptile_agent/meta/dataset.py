"""Recorded robots to train on, in one file: a task for each, checked against a family's robot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reptile_agent.atomic import atomic_write
from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.transition import Transition

FORMAT = "reptile-agent-dataset-1"
ARRAYS = ("obs", "action", "next_obs", "reference", "next_reference", "first")


class DatasetError(ValueError):
    """A dataset cannot be used; the message names it, what is wrong, and the mend."""


@dataclass(frozen=True)
class RecordedTask:
    """What one robot did, in order."""

    name: str
    obs: np.ndarray
    """float32 [n, obs_dim]."""
    action: np.ndarray
    """float32 [n, act_dim]."""
    next_obs: np.ndarray
    """float32 [n, obs_dim]."""
    reference: np.ndarray
    """What was to be followed, float32 [n, ref_dim]."""
    next_reference: np.ndarray
    """What was to be followed one period later, float32 [n, ref_dim]."""
    first: np.ndarray
    """Where no unbroken stretch leads, bool [n]."""

    def __len__(self) -> int:
        """Transitions."""
        return len(self.first)


@dataclass(frozen=True)
class Dataset:
    """Robots of one kind, a task each."""

    robot: RobotSpec
    tasks: tuple[RecordedTask, ...]


def recorded_task(name: str, robot: RobotSpec, transitions: Iterable[Transition]) -> RecordedTask:
    """A task of one-lane transitions; those that do not fit or are not finite are left out.

    Raises:
        DatasetError: none is left, or nobody knew what was to be followed.
    """
    shapes = _widths(robot)
    rows: list[dict[str, np.ndarray]] = []
    broken = True
    for transition in transitions:
        reference = transition.reference
        if reference is None:
            raise DatasetError(f"{name}: a transition has no reference; nothing is learned from it")
        row = {name: getattr(transition, name)[0] for name in ("obs", "action", "next_obs")}
        row["reference"] = reference[0, 0]
        row["next_reference"] = reference[0, min(1, reference.shape[1] - 1)]
        broken |= bool(transition.first[0])
        if all(v.shape == (shapes[n],) and np.isfinite(v).all() for n, v in row.items()):
            rows.append(row | {"first": np.array(broken)})
            broken = False
        else:
            broken = True
    if not rows:
        raise DatasetError(f"{name}: no transition fits robot '{robot.name}' and is finite")
    return RecordedTask(name, **{key: np.stack([row[key] for row in rows]) for key in ARRAYS})


def write(path: Path, dataset: Dataset) -> None:
    """Write atomically: a reader finds the old file or the new one.

    Raises:
        OSError: the disk refuses.
    """
    arrays = {
        f"{number}.{name}": np.ascontiguousarray(getattr(task, name))
        for number, task in enumerate(dataset.tasks)
        for name in ARRAYS
    }
    about = {"format": FORMAT, "robot": dataset.robot.model_dump_json()}
    about |= {f"{number}.name": task.name for number, task in enumerate(dataset.tasks)}
    atomic_write(path, save(arrays, about))


def read(path: Path, robot: RobotSpec) -> Dataset:
    """Read and check what `write` wrote.

    Args:
        path: of the file.
        robot: of the family that is to learn from it.

    Raises:
        DatasetError: it is missing, damaged, something else, or of another robot.
    """
    if not path.is_file():
        raise DatasetError(f"no dataset at {path}; `reptile-agent dataset BAG` makes one")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DatasetError(f"dataset {path} is damaged or none ({error}); make it anew") from None
    if about.get("format") != FORMAT:
        raise DatasetError(
            f"{path} is no {FORMAT} (it says: {about.get('format')}); name a file that "
            f"`reptile-agent dataset` made"
        )
    try:
        of = RobotSpec.model_validate_json(about["robot"])
        _check_robot(path, of, robot)
        names = [about[f"{i}.name"] for i in range(len(arrays) // len(ARRAYS))]
        tasks = tuple(
            RecordedTask(task, **{name: arrays[f"{i}.{name}"] for name in ARRAYS})
            for i, task in enumerate(names)
        )
    except (KeyError, ValidationError) as error:
        raise DatasetError(f"dataset {path} is incomplete ({error}); make it anew") from None
    for task in tasks:
        _check_arrays(path, task, of)
    if not tasks:
        raise DatasetError(f"dataset {path} holds no task; make it anew")
    return Dataset(of, tasks)


def _check_robot(path: Path, of: RobotSpec, robot: RobotSpec) -> None:
    """Whether signals mean the same: names, units and order, and the period of control."""
    for role in ("observations", "actions", "references"):
        theirs, ours = (_signals(getattr(spec, role)) for spec in (of, robot))
        if theirs != ours:
            odd = [name for name in theirs if name not in ours]
            odd += [f"no {name}" for name in ours if name not in theirs]
            raise DatasetError(
                f"dataset {path} is of robot '{of.name}', whose {role} are not those of "
                f"'{robot.name}': it has {', '.join(odd) or f'another order: {theirs}'}"
            )
    if of.control_period_s != robot.control_period_s:
        raise DatasetError(
            f"dataset {path} was recorded at periods of {of.control_period_s} s, robot "
            f"'{robot.name}' is controlled every {robot.control_period_s} s"
        )


def _signals(signals: tuple[Signal, ...]) -> list[str]:
    return [f"{signal.name} [{signal.unit}]" for signal in signals]


def _widths(robot: RobotSpec) -> dict[str, int]:
    """Numbers in a row of each array but `first`."""
    obs, references = len(robot.observations), len(robot.references)
    return {
        "obs": obs,
        "action": len(robot.actions),
        "next_obs": obs,
        "reference": references,
        "next_reference": references,
    }


def _check_arrays(path: Path, task: RecordedTask, robot: RobotSpec) -> None:
    if task.first.dtype != bool or task.first.ndim != 1 or not len(task):
        raise DatasetError(f"dataset {path}: 'first' of '{task.name}' should be bool [n], n > 0")
    for name, width in _widths(robot).items():
        found, wanted = getattr(task, name), (len(task), width)
        if found.dtype != np.float32 or found.shape != wanted:
            raise DatasetError(
                f"dataset {path}: '{name}' of '{task.name}' should be float32 {wanted}, it is "
                f"{found.dtype} {found.shape}"
            )
        if not np.isfinite(found).all():
            raise DatasetError(f"dataset {path}: '{name}' of '{task.name}' is not finite")
