"""All of it: train, export, verify, and a ROS 2 robot that breaks and adapts."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from torch.utils.tensorboard import SummaryWriter

from reptile_agent.commands.console import UserError, console, table
from reptile_agent.commands.train import train
from reptile_agent.demo import report
from reptile_agent.demo.conductor import Conductor
from reptile_agent.demo.processes import DemoError, Nodes
from reptile_agent.demo.recording import Recording
from reptile_agent.export import parity
from reptile_agent.export.write_bundle import write_bundle
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.provenance import versions
from reptile_agent.task import objective_of
from sim import registry

FAULT = {"gain_elbow_flex": 0.45, "payload_kg": 0.25}
"""A servo loses most of its gain and a payload is attached: both outside the training range, and
the servos could still follow."""


@dataclass
class Command:
    """All of it: train, export, verify, and a ROS 2 robot that breaks and adapts.

    Trains a start for the arm, makes a bundle, then runs policy_node, adapter_node,
    reference_node and mujoco_robot as processes of their own, twice: without adaptation and with
    it. Half-way a fault drops in. Leaves report.png and report.json. The exit code is 1 where
    adaptation did not happen or made it worse.
    """

    out: Path = Path("runs/demo")
    """Folder of everything that is written; an older demo in it is overwritten."""
    bundle: Path | None = None
    """Use this bundle instead of training one."""
    before_s: float = 10.0
    """Seconds before the fault."""
    after_s: float = 16.0
    """Seconds after it."""
    fault: dict[str, float] = field(default_factory=dict)
    """Variations and values, as `reptile-agent tasks arm` lists them; default: gain_elbow_flex
    0.45 payload_kg 0.25."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="train")] = field(
        default_factory=lambda: TrainConfig(fit_iterations=700, iterations=150)
    )
    """How to train: somewhat shorter than `reptile-agent train` does."""

    def run(self) -> int:
        """Run all stages, print the table, judge."""
        params_file = _workspace_file("config/arm.yaml")
        family = registry.get("arm")
        if self.before_s < report.SETTLE_S or self.after_s < 2 * report.SETTLE_S:
            raise UserError(
                f"before_s must be at least {report.SETTLE_S:g}, after_s {2 * report.SETTLE_S:g}"
            )
        self.fault = self.fault or FAULT
        family.make_sim([self.fault])  # refuses what the family does not know
        if not family.feasible(self.fault):
            console.print("note: by the static test this robot's motors cannot hold that fault")
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.bundle or self._train()
        if path is None:
            return 130
        bundle = Bundle.load(path)
        rows = parity.verify(bundle, objective_of(family), (1, 5, 20))
        if not all(row.passed for row in rows):
            raise UserError(f"{path} fails `reptile-agent verify`; it was not put on the robot")
        worst = max(row.value for row in rows)
        console.print(f"verified: {len(rows)} checks, largest relative error {worst:.1e}")

        try:
            recordings = {
                name: self._episode(name, params_file, path) for name in ("unadapted", "adapted")
            }
        except DemoError as error:
            console.print(f"[bold red]demo failed:[/] {error}")
            return 1
        summaries = {name: report.summary(recording) for name, recording in recordings.items()}
        text = ", ".join(f"{name} {value:g}" for name, value in self.fault.items())
        about = {
            "robot": bundle.manifest.robot.name,
            "fault": self.fault,
            "fault_text": text,
            "start_sha256": bundle.manifest.start_sha256,
            "provenance": bundle.manifest.provenance.model_dump(),
            "versions": versions(),
        }
        picture = report.write(self.out, recordings, summaries, about)
        _print(summaries)
        console.print(f"report: {picture}, {self.out / 'report.json'}")
        wrong = report.verdict(summaries["unadapted"], summaries["adapted"])
        for sentence in wrong:
            console.print(f"[bold red]demo failed:[/] {sentence}")
        return 1 if wrong else 0

    def _train(self) -> Path | None:
        """Train and export; None if interrupted."""
        for old in ("checkpoint.safetensors", "tensorboard"):
            target = self.out / old
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        writer = SummaryWriter(str(self.out / "tensorboard"))
        try:
            trainer = Trainer(registry.get("arm"), self.config, writer.add_scalar)
            if train(trainer, self.out):
                return None
        finally:
            writer.close()
        with console.status("looking at what was trained") as status:
            write_bundle(trainer, self.out / "bundle", status.update)
        console.print(f"bundle: {self.out / 'bundle'}")
        return self.out / "bundle"

    def _episode(self, name: str, params_file: Path, bundle: Path) -> Recording:
        """One run of the robot: real processes over DDS."""
        domain = 20 + (2 * os.getpid() + (name == "adapted")) % 80
        console.print(f"[bold]{name}[/bold]: starting the nodes (ROS domain {domain})")
        with Nodes(params_file, self.out / "logs" / name, domain) as nodes:
            absolute = bundle.resolve()
            nodes.start("reptile_agent_mujoco", "mujoco_robot")
            nodes.start("reptile_agent", "policy_node", bundle=absolute)
            lifecycle = ["policy_node"]
            if name == "adapted":
                nodes.start("reptile_agent", "adapter_node", bundle=absolute)
                lifecycle.append("adapter_node")
            conductor = Conductor(nodes, domain)
            try:
                for node in lifecycle:
                    conductor.bring_up(node)
                nodes.start("reptile_agent", "reference_node")
                return conductor.record(
                    self.fault, self.before_s, self.after_s, lambda text: console.print(text)
                )
            finally:
                conductor.close()


def _workspace_file(name: str) -> Path:
    """A file of the built ROS package.

    Raises:
        UserError: ROS, or the workspace, is not there.
    """
    try:
        importlib.import_module("rclpy")
        index = importlib.import_module("ament_index_python.packages")
        importlib.import_module("reptile_agent_msgs.msg")
        share = index.get_package_share_directory("reptile_agent")
    except (ImportError, LookupError) as error:
        raise UserError(
            f"the ROS workspace is not there ({error}); run `make demo`, or `make workspace` and "
            f"`source ros2_ws/install/local_setup.bash` first"
        ) from None
    return Path(share) / name


def _print(summaries: dict[str, dict]) -> None:
    labels = {"unadapted": "no adaptation", "adapted": "adaptation"}
    keys = ("error_before_fault", "error_at_fault", "error_after_fault")
    rows = [[labels[n], *(f"{run[key]:.4f}" for key in keys)] for n, run in summaries.items()]
    after = f"from {report.SETTLE_S:g} s after the fault"
    columns = ["mean joint error [rad]", "before fault", "at fault", after]
    console.print(table("", columns, rows))
    run, other = summaries["adapted"], summaries["unadapted"]
    refused = run["adaptations_after_fault"] - run["accepted_after_fault"]
    console.print(
        f"after the fault {run['accepted_after_fault']} adaptations were accepted, {refused} "
        f"refused by the gate, {run['rollbacks']} rolled back in probation; "
        f"{run['adaptation_ms_p50'] or 0:.0f} ms each (median); control periods missed: "
        f"{other['missed']} of {other['ticks']} without, {run['missed']} of {run['ticks']} with"
    )
    before, now = other["error_after_fault"], run["error_after_fault"]
    console.print(
        f"error {after}, without and with adaptation: {before:.4f} and {now:.4f} rad "
        f"({now / before - 1:+.0%})"
    )
