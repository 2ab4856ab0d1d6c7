"""Recorded robots as lanes beside the simulated ones: in step with them, and driven by nobody."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from reptile_agent.meta import dataset
from reptile_agent.meta.collect import Rollout
from reptile_agent.meta.dataset import DatasetError, RecordedTask
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.train_state import TrainState
from reptile_agent.task import TaskFamily


class RecordedLanes:
    """The tasks of a dataset, cut and repeated to the length of a run's lanes.

    A task that is longer than a lane takes several; what is shorter is repeated from its beginning,
    which counts as a new stretch.

    Args:
        path: of the dataset.
        family: that trains; its reward is computed anew.
        config: of the run.

    Raises:
        DatasetError: the file is not to be used, or a task is too short.
    """

    def __init__(self, path: Path, family: TaskFamily, config: TrainConfig) -> None:
        if config.dataset_lanes < 1:
            raise DatasetError(f"dataset_lanes must be 1 or more, got {config.dataset_lanes}")
        found = dataset.read(path, family.robot)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._steps, length = config.round_steps, config.rounds * config.round_steps
        least = config.adaptation.window + config.query_window
        for task in found.tasks:
            if len(task) < least:
                raise DatasetError(
                    f"dataset {path}: '{task.name}' has {len(task)} transitions, fewer than the "
                    f"{least} that an inner loop looks at (adaptation.window and query_window); "
                    f"record for longer"
                )
        pieces = [
            (task, rows)
            for task in found.tasks
            for rows in np.array_split(np.arange(len(task)), -(-len(task) // length))
        ]
        lanes = [_lane(family, task, rows, length) for task, rows in pieces]
        self._whole = {
            name: np.stack([lane[name] for lane in lanes for _ in range(config.dataset_lanes)])
            for name in lanes[0]
        }

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self._whole["obs"])

    def join(self, rollout: Rollout, number: int) -> Rollout:
        """A round's rollout with these lanes behind those that were simulated.

        Args:
            rollout: of the simulated lanes.
            number: of the round.
        """
        part = slice(number * self._steps, (number + 1) * self._steps)
        joined = {
            field.name: np.concatenate([value, self._whole[field.name][:, part]])
            for field in fields(rollout)
            if (value := getattr(rollout, field.name)) is not None
        }
        return dataclasses.replace(rollout, **joined)


def recorded_lanes(
    family: TaskFamily, config: TrainConfig, state: TrainState
) -> RecordedLanes | None:
    """The recorded robots that a run trains on, noted in its state; None where it has none.

    Raises:
        DatasetError: the file is not to be used, or is not the one that the run began with.
    """
    if config.dataset is None:
        return None
    found = RecordedLanes(config.dataset, family, config)
    if state.dataset_sha256 not in ("", found.sha256):
        raise DatasetError(
            f"dataset {config.dataset} is not the one that this run began with; put that one back, "
            f"or begin anew"
        )
    state.dataset_sha256 = found.sha256
    return found


def _lane(
    family: TaskFamily, task: RecordedTask, rows: np.ndarray, length: int
) -> dict[str, np.ndarray]:
    """Rows of a task as one lane of a `Rollout`, arrays [length, ...]."""
    at = np.resize(rows, length)
    lane = {name: getattr(task, name)[at] for name in dataset.ARRAYS}
    lane["first"] = lane["first"] | (np.arange(length) % rows.size == 0)
    tensors = (torch.from_numpy(lane[n]) for n in ("obs", "action", "next_obs", "reference"))
    lane["reward"] = family.reward(*tensors).numpy().astype(np.float32)
    lane["terminated"] = np.zeros(length, bool)
    columns = family.robot.reference_columns
    lane["tracking_error"] = np.abs(lane["next_obs"][:, columns] - lane["reference"]).mean(axis=1)
    return lane
