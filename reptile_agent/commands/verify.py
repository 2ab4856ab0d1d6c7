"""Check a bundle: all that loading checks, its signature, and its graphs against torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.commands.console import console, table
from reptile_agent.export import parity
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.checks import Checks
from reptile_agent.task import objective_of
from sim import registry


@dataclass
class Command:
    """Check a bundle: all that loading checks, its signature, and its graphs against torch.

    Everything that a robot checks when it loads the bundle is made and shown, then the graphs are
    compared, on parameters, minibatches and step sizes other than the traced ones. Exit code 1
    where a comparison fails, 2 where the bundle is refused before.
    """

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle."""
    inner_steps: tuple[int, ...] = (1, 5, 20)
    """Numbers of inner steps (k) to compare over."""
    key: Path | None = None
    """File with a public key (PEM): the bundle must be signed with its private one (see
    `reptile-agent sign --help`)."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Load, which makes every check but the comparisons, then compare."""
        checks = Checks()
        try:
            bundle = Bundle.load(self.bundle, self.key, checks)
        except BundleError as error:
            self._refused(checks, error)
            raise
        family = bundle.manifest.provenance.family
        try:
            found = registry.get(family)
            objective, reward = objective_of(found), found.reward
        except LookupError:
            objective = reward = None
        rows = parity.verify(bundle, objective, self.inner_steps, reward)
        rows = [*_rows(checks), *rows]
        passed = all(row.passed for row in rows)
        if self.json:
            self._print_json(
                passed, rows, bundle.manifest.start_sha256, planner_compared=objective is not None
            )
            return 0 if passed else 1
        self._print_table(rows)
        if self.key is None:
            console.print("the signature was not looked at: name a public key with --key")
        if objective is None:
            console.print(
                f"what hangs on the task's reward (a planner, a model_policy's steps) was not "
                f"compared: task family '{family}' is not installed here"
            )
        console.print("all checks passed" if passed else "[bold red]do not use this bundle")
        return 0 if passed else 1

    def _refused(self, checks: Checks, error: BundleError) -> None:
        """Show what was checked up to the refusal, where there was anything to check."""
        rows = _rows(checks)
        if self.json:
            self._print_json(False, rows, None, planner_compared=False, refused=str(error))
        elif checks.passed:
            self._print_table(rows)
            console.print("[bold red]do not use this bundle")

    def _print_json(
        self, passed: bool, rows: list[parity.Row], start_sha256: str | None, **more: object
    ) -> None:
        document = {
            "bundle": str(self.bundle),
            "passed": passed,
            "start_sha256": start_sha256,
            **more,
            "rows": [row.as_dict() for row in rows],
        }
        print(json.dumps(document, indent=1))

    def _print_table(self, rows: list[parity.Row]) -> None:
        shown = [
            [row.check, f"{row.value:.2g}", f"{row.limit:.2g}", "ok" if row.passed else "FAILED"]
            for row in rows
        ]
        columns = ["check", "relative error", "limit", "verdict"]
        console.print(table(str(self.bundle), columns, shown))


def _rows(checks: Checks) -> list[parity.Row]:
    failed = [parity.Row(checks.failed, 1.0, 0.0)] if checks.failed else []
    return [*(parity.Row(name, 0.0, 0.0) for name in checks.passed), *failed]
