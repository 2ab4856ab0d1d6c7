"""Meta-train a start in simulation."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import TypeAdapter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from reptile_agent.commands.console import UserError, console
from reptile_agent.commands.interrupt import Interrupt
from reptile_agent.meta.trainer import TrainConfig, Trainer
from reptile_agent.provenance import git_commit, versions
from sim import registry

CHECKPOINT = "checkpoint.safetensors"
SAVE_PERIOD_S = 30.0


@dataclass
class Command:
    """Meta-train a start in simulation.

    Writes config.json, checkpoint.safetensors and tensorboard/ into --out. Ctrl-C saves and
    stops; --resume goes on from there to the same result.
    """

    family: Annotated[str, tyro.conf.Positional] = "arm"
    """Task family; `reptile-agent tasks` lists them."""
    out: Path | None = None
    """Folder of the run; default: runs/FAMILY."""
    resume: bool = False
    """Go on from the checkpoint in --out; the other arguments are those of its config.json."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """What to do."""

    def run(self) -> int:
        """Train."""
        out = self.out or Path("runs") / re.sub(r"[^\w.=,-]+", "_", self.family)
        family = registry.get(self.family)
        out.mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(out / "tensorboard"))
        try:
            if self.resume:
                trainer = Trainer.resume(family, out / CHECKPOINT, writer.add_scalar)
                console.print(f"going on at {trainer.done_iterations}/{trainer.total_iterations}")
            else:
                if (out / CHECKPOINT).exists():
                    raise UserError(
                        f"{out} holds a run already; add --resume to go on with it, or name "
                        f"another --out"
                    )
                trainer = Trainer(family, self.config, writer.add_scalar)
            return train(trainer, out)
        finally:
            writer.close()


def train(trainer: Trainer, out: Path) -> int:
    """Run a trainer to its end with a progress bar, saving as it goes; 130 if interrupted."""
    config = TypeAdapter(TrainConfig).dump_python(trainer.config, mode="json")
    ran = {"family": trainer.family.name, "git_commit": git_commit(), "versions": versions()}
    (out / "config.json").write_text(json.dumps(ran | {"config": config}, indent=1) + "\n")
    checkpoint = out / CHECKPOINT
    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    saved_s = time.monotonic()
    # Without a terminal a bar would be lines and lines: then one line per stage.
    quiet = not console.is_terminal
    stage = ""
    with Progress(*columns, console=console, disable=quiet) as progress, Interrupt() as interrupt:
        bar = progress.add_task("starting", total=trainer.total_iterations)
        for doing in trainer.run():
            progress.update(bar, description=doing, completed=trainer.done_iterations)
            if quiet and doing != stage:
                console.print(f"{trainer.done_iterations:6d}/{trainer.total_iterations} {doing}")
            stage = doing
            if interrupt.asked:
                trainer.save(checkpoint)
                console.print(
                    f"stopped and saved; go on with the same command and --resume ({out})"
                )
                return 130
            if time.monotonic() - saved_s > SAVE_PERIOD_S:
                trainer.save(checkpoint)
                saved_s = time.monotonic()
    trainer.save(checkpoint)
    console.print(f"trained: {checkpoint} (tensorboard --logdir {out})")
    return 0
