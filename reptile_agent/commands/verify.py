"""Check a bundle: hashes, operators, and its graphs against torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.export import parity
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.task import objective_of
from sim import registry


@dataclass
class Command:
    """Check a bundle: hashes, operators, and its graphs against torch.

    The comparison uses parameters, minibatches and step sizes other than the traced ones. Exit
    code 1 where a check fails.
    """

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle."""
    inner_steps: tuple[int, ...] = (1, 5, 20)
    """Numbers of inner steps (k) to compare over."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Load, which checks sizes and hashes, then compare."""
        bundle = Bundle.load(self.bundle)
        family = bundle.manifest.provenance.family
        try:
            objective = objective_of(registry.get(family))
        except LookupError:
            objective = None
        rows = parity.verify(bundle, objective, self.inner_steps)
        files = [parity.Row(f"{name}: size and sha256", 0.0, 0.0) for name in bundle.manifest.files]
        rows = [*files, *rows]
        passed = all(row.passed for row in rows)
        if self.json:
            document = {
                "bundle": str(self.bundle),
                "passed": passed,
                "start_sha256": bundle.manifest.start_sha256,
                "planner_compared": objective is not None,
                "rows": [row.as_dict() for row in rows],
            }
            print(json.dumps(document, indent=1))
            return 0 if passed else 1
        shown = [
            [row.check, f"{row.value:.2g}", f"{row.limit:.2g}", "ok" if row.passed else "FAILED"]
            for row in rows
        ]
        columns = ["check", "relative error", "limit", "verdict"]
        console.print(table(str(self.bundle), columns, shown))
        if objective is None:
            console.print(
                f"the planner was not compared: task family '{family}' is not installed here"
            )
        console.print("all checks passed" if passed else "[bold red]do not use this bundle")
        return 0 if passed else 1
