"""Meta-train a start in simulation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro
from pydantic import TypeAdapter
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reptile_agent.commands import post_mortem, trained
from reptile_agent.commands.console import UserError, console
from reptile_agent.commands.interrupt import Interrupt
from reptile_agent.commands.settings import by_name, option, typed
from reptile_agent.commands.train_log import TrainLog
from reptile_agent.commands.validation import BEST, Validated, Validation
from reptile_agent.meta.droppable import Droppable
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from reptile_agent.provenance import git_commit, versions
from reptile_agent.task import TaskFamily
from sim import registry

CHECKPOINT = "checkpoint.safetensors"
CONFIG = "config.json"
SAVE_PERIOD_S = 30.0


class Trainable(Validated, Protocol):
    """A trainer, as this command sees it."""

    @property
    def family(self) -> TaskFamily:
        """What is trained on."""
        ...

    @property
    def config(self) -> Any:
        """A dataclass."""
        ...

    @property
    def droppable(self) -> Droppable:
        """Whether what is done now may be broken off."""
        ...

    def run(self) -> Iterator[str]:
        """Train to the end; yields what is being done after every iteration."""
        ...


@dataclass
class Training:
    """What training has in common, whatever is trained."""

    family: Annotated[str, tyro.conf.Positional] = "arm"
    """Task family; `reptile-agent tasks` lists them."""
    out: Path | None = None
    """Folder of the run; default: runs/FAMILY."""
    resume: bool = False
    """Go on from the checkpoint in --out; the settings are those that it began with."""
    validate_every: int | None = None
    """Iterations between two looks at the validation split, at the reward in the second half of a
    short run on its first tasks; 0: none. Default: at the end, and before it as often as takes less
    than a tenth of the time."""
    wandb: str | None = None
    """Project at Weights & Biases to log to as well; WANDB_MODE=offline keeps it in --out."""

    def start(self, kind: type[Trainer] | type[OnPolicyTrainer], config: Any) -> int:
        """Train one kind of trainer by its configuration, or go on with it; the exit code."""
        if self.validate_every is not None and self.validate_every < 0:
            raise UserError(f"--validate-every must be 0 or more, got {self.validate_every}")
        out = self.out or Path("runs") / re.sub(r"[^\w.=,-]+", "_", self.family)
        family = registry.get(self.family)
        if not self.resume and (out / CHECKPOINT).exists():
            raise UserError(
                f"{out} holds a run already; add --resume to go on with it, or name another --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        with TrainLog(out, self.wandb, self.resume) as log:
            if self.resume:
                trainer = trained.load(out / CHECKPOINT, family, log)
                if not isinstance(trainer, kind):
                    command = f"reptile-agent {trained.COMMANDS[type(trainer)]} {self.family}"
                    raise UserError(f"{out} is a run of `{command}`; go on with that command")
                self._refuse_changes(config, trainer.config, out)
                console.print(f"going on at {trainer.done_iterations}/{trainer.total_iterations}")
            else:
                trainer = kind(family, config, log)
            log.describe(_ran(trainer))
            validation = Validation(trainer, out, CHECKPOINT, self.validate_every, log)
            return train(trainer, out, validation)

    def _refuse_changes(self, config: Any, began_with: Any, out: Path) -> None:
        """A run goes on as it began: what was set otherwise than usual would be ignored."""
        asked, began, usual = (by_name(c) for c in (config, began_with, type(config)()))
        changed = ", ".join(
            f"{option(name)} {typed(value)} (it is {typed(began.get(name))})"
            for name, value in asked.items()
            if value not in (usual.get(name), began.get(name))
        )
        if changed:
            raise UserError(
                f"{out} goes on with the settings that it began with, not with {changed}; leave "
                f"that out, or train anew with another --out"
            )


@dataclass
class Command(Training):
    """Meta-train a start in simulation.

    Writes config.json, checkpoint.safetensors (the last), best.safetensors (the best on the
    validation split) and tensorboard/ into --out. Ctrl-C saves and stops; --resume goes on from
    there to the same last checkpoint.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """What to do."""

    def run(self) -> int:
        """Train."""
        return self.start(Trainer, self.config)


def train(trainer: Trainable, out: Path, validation: Validation | None = None) -> int:
    """Run a trainer to its end with a progress bar, saving as it goes.

    Returns:
        Exit code: 130 if interrupted, 1 if a loss was not finite.
    """
    ran = _ran(trainer)
    (out / CONFIG).write_text(json.dumps(ran, indent=1) + "\n")
    checkpoint = out / CHECKPOINT
    (out / post_mortem.POST_MORTEM).unlink(missing_ok=True)  # of an earlier try
    try:
        finished = _run(trainer, checkpoint, validation)
    except LossNotFinite as error:
        at = {"iteration": trainer.done_iterations}
        path = post_mortem.write(out, error, at | ran)
        robot, resumable = trainer.family.robot, checkpoint.exists()
        said = post_mortem.sentence(error, path, robot, ran["config"], resumable)
        console.print(f"[bold red]training stopped:[/] {escape(said)}", soft_wrap=True)
        return 1
    trainer.save(checkpoint)
    if not finished:
        console.print(f"stopped and saved; go on with the same command and --resume ({out})")
        return 130
    if validation is not None and validation.best is not None:
        cost, at = validation.best
        console.print(
            f"best on the validation split: mean reward {-cost:.4g} per control period, adapting, "
            f"at iteration {at} ({out / BEST})",
            soft_wrap=True,
        )
    console.print(f"trained: {checkpoint} (tensorboard --logdir {out})")
    return 0


def _run(trainer: Trainable, checkpoint: Path, validation: Validation | None) -> bool:
    """Train under a progress bar; False if interrupted."""
    columns = (
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    saved_s = time.monotonic()
    # Without a terminal a bar would be lines and lines: then one line per stage.
    quiet = not console.is_terminal
    stage = ""
    interrupt = Interrupt(lambda: bool(trainer.droppable))
    with Progress(*columns, console=console, disable=quiet) as progress, interrupt:
        bar = progress.add_task("starting", total=trainer.total_iterations)

        def tell(done: int, of: int) -> None:
            progress.update(bar, description=f"{stage}, {done}/{of}")

        trainer.droppable.tell = tell
        try:
            for doing in trainer.run():
                progress.update(bar, description=doing, completed=trainer.done_iterations)
                if quiet and doing != stage:
                    console.print(
                        f"{trainer.done_iterations:6d}/{trainer.total_iterations} {doing}"
                    )
                stage = doing
                if interrupt.asked:
                    return False
                if validation is not None:
                    validation.look()
                if time.monotonic() - saved_s > SAVE_PERIOD_S:
                    trainer.save(checkpoint)
                    saved_s = time.monotonic()
                if interrupt.asked:  # in the meantime: what comes next may be a long round
                    return False
        except KeyboardInterrupt:
            if not trainer.droppable.dropped:
                raise
            return False
    return True


def _ran(trainer: Trainable) -> dict[str, Any]:
    """What ran, in plain types."""
    config = TypeAdapter(type(trainer.config)).dump_python(trainer.config, mode="json")
    command = trained.COMMANDS.get(type(trainer), "train")
    came = {"command": command, "family": trainer.family.name}
    return came | {"git_commit": git_commit(), "versions": versions(), "config": config}
