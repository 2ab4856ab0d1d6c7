"""What a run's checkpoint holds: the trainer that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reptile_agent.meta import checkpoint
from reptile_agent.meta.on_policy_trainer import ON_POLICY, OnPolicyTrainer
from reptile_agent.meta.trainer import Trainer
from reptile_agent.task import TaskFamily
from sim import registry

if TYPE_CHECKING:
    from reptile_agent.meta.trainer import Log

COMMANDS: dict[type, str] = {Trainer: "train", OnPolicyTrainer: "train-on-policy"}
"""Which command makes a run of which trainer."""


def load(
    path: Path, family: TaskFamily | None = None, log: Log = lambda *_: None
) -> Trainer | OnPolicyTrainer:
    """The trainer that wrote a checkpoint, as it stood.

    Args:
        path: of the checkpoint.
        family: that it must be of; default: the one it names.
        log: called with (metric name, value, step).

    Raises:
        CheckpointError: the file is damaged, or of another family.
    """
    _, progress = checkpoint.read(path)
    kind = OnPolicyTrainer if progress.get("kind") == ON_POLICY else Trainer
    return kind.resume(family or registry.get(progress["family"]), path, log)
