"""Where a run's curves go: TensorBoard always, Weights & Biases if asked."""

from __future__ import annotations

import importlib
import uuid
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from reptile_agent.commands.console import UserError

EVENTS = "tensorboard"
WANDB_ID = "wandb-id.txt"
"""Name of the run at W&B, so that --resume goes on with the same curves."""


class TrainLog:
    """A `reptile_agent.meta.trainer.Log` that fans out; a context manager.

    Args:
        folder: of the run.
        wandb_project: project at W&B; None: TensorBoard alone. WANDB_MODE=offline keeps it here.
        resume: go on with the W&B run of this folder, where there is one.

    Raises:
        UserError: W&B is asked for and is not installed or does not start.
    """

    def __init__(
        self, folder: Path, wandb_project: str | None = None, resume: bool = False
    ) -> None:
        self._wandb = _start_wandb(folder, wandb_project, resume) if wandb_project else None
        self._groups: set[str] = set()
        self._writer = SummaryWriter(str(folder / EVENTS))

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def __call__(self, name: str, value: float, step: int) -> None:
        """Note one value of a curve."""
        self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            # W&B has one step for everything and drops what goes back; ours count by group.
            group = name.partition("/")[0]
            if group not in self._groups:
                self._groups.add(group)
                self._wandb.define_metric(f"{group}/*", step_metric=f"{group}/step")
            self._wandb.log({name: value, f"{group}/step": step})

    def describe(self, ran: dict[str, Any]) -> None:
        """Note what runs: its configuration and where it comes from."""
        if self._wandb is not None:
            self._wandb.config.update(ran, allow_val_change=True)


def _start_wandb(folder: Path, project: str, resume: bool) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        raise UserError(f"--wandb: {error}; pip install wandb, or leave --wandb out") from None
    name = folder / WANDB_ID
    if not (resume and name.is_file()):
        name.write_text(uuid.uuid4().hex[:8] + "\n")
    try:
        return wandb.init(
            project=project,
            dir=str(folder),
            id=name.read_text().strip(),
            name=folder.name,
            resume="allow" if resume else None,
        )
    except wandb.Error as error:
        raise UserError(
            f"--wandb: W&B does not start ({error}); WANDB_MODE=offline keeps the run here"
        ) from None
