"""Make a bundle of a trained start: the folder that a robot needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.commands import trained
from reptile_agent.commands.console import UserError, console
from reptile_agent.commands.train import CHECKPOINT
from reptile_agent.export.write_bundle import write_bundle
from reptile_agent.meta.trainer import Trainer


@dataclass
class Command:
    """Make a bundle of a trained start: the folder that a robot needs."""

    run_folder: Annotated[Path, tyro.conf.Positional] = Path("runs/arm")
    """Folder that `reptile-agent train` wrote."""
    out: Path | None = None
    """Folder of the bundle; default: RUN_FOLDER/bundle."""

    def run(self) -> int:
        """Export."""
        trainer = trained.load(self.run_folder / CHECKPOINT)
        family = trainer.family
        if not isinstance(trainer, Trainer):
            raise UserError(
                f"{self.run_folder} is a run of train-on-policy, of which there is no bundle"
            )
        if trainer.done_iterations < trainer.total_iterations:
            raise UserError(
                f"training stands at {trainer.done_iterations} of {trainer.total_iterations} "
                f"iterations; finish it with `reptile-agent train {family.name} --resume --out "
                f"{self.run_folder}`"
            )
        out = self.out or self.run_folder / "bundle"
        console.print("tracing the plan and the k-step update into ONNX: about a minute")
        with console.status("looking at what was trained") as status:
            manifest = write_bundle(trainer, out, status.update)
        size = sum(entry.bytes for entry in manifest.files.values())
        console.print(
            f"bundle: {out} ({size / 1024:.0f} KiB, start {manifest.start_sha256[:12]}); "
            f"check it with `reptile-agent verify {out}`"
        )
        return 0
