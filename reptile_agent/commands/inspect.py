"""Show what is in a bundle: robot, limits, learner, adaptation, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.manifest import Manifest


@dataclass
class Command:
    """Show what is in a bundle: robot, limits, learner, adaptation, where it comes from."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle."""
    json: bool = False
    """Print the manifest as JSON instead of tables."""

    def run(self) -> int:
        """Load and print."""
        manifest = Bundle.load(self.bundle).manifest
        if self.json:
            print(manifest.model_dump_json(indent=1))
            return 0
        _print(manifest)
        return 0


def _print(manifest: Manifest) -> None:
    robot, source = manifest.robot, manifest.provenance
    count = sum(entry.size for entry in manifest.parameters)
    console.print(
        f"[bold]{robot.name}[/bold] at {1 / robot.control_period_s:g} Hz; learner "
        f"{manifest.learner} with {count} parameters, start {manifest.start_sha256[:12]}\n"
        f"trained by {source.algorithm} on {source.family}/{source.split}, seed {source.seed}, "
        f"{source.created}, commit {source.git_commit[:12]}"
    )
    learned = ", ".join(manifest.experience.fields)
    if manifest.experience.sees_reference:
        learned += "; obs with what is to be followed behind them"
    acts = "plans" if manifest.plans else "acts by a policy"
    console.print(f"it {acts}, and learns from {learned}")
    for role in ("observations", "actions", "references"):
        rows = [
            [
                signal.name,
                signal.unit,
                f"{signal.low:g}",
                f"{signal.high:g}",
                "" if signal.max_rate is None else f"{signal.max_rate:g}",
            ]
            for signal in getattr(robot, role)
        ]
        console.print(table(role, ["signal", "unit", "low", "high", "change per s"], rows))
    settings = manifest.adaptation
    rows = [
        [name, str(getattr(settings, name)), " ".join((field.description or "").split())]
        for name, field in type(settings).model_fields.items()
    ]
    console.print(table("adaptation", ["setting", "value", "meaning"], rows))
    rows = [[name, f"{entry.bytes}", entry.sha256[:16]] for name, entry in manifest.files.items()]
    console.print(table("files", ["file", "bytes", "sha256"], rows))
