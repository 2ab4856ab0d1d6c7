"""See a task and a policy with one's own eyes: a video, a window, and what came of it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reptile_agent.commands.console import UserError, console, table
from reptile_agent.commands.interrupt import Interrupt
from reptile_agent.commands.players import OnBoard, Player, Random, Zero, check_fits
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.spec import RobotSpec
from reptile_agent.task import Task, TaskFamily, VecSim
from sim import registry, render

PolicyName = Literal["zero", "random", "bundle"]


@dataclass
class Command:
    """See a task and a policy with one's own eyes: a video, a window, and what came of it.

    The robot is the nominal one unless --task or --split says otherwise. A green ghost shows what
    is to be followed, where that is a position. An episode that ends is followed by another.
    """

    family: Annotated[str, tyro.conf.Positional] = "arm"
    """Task family; `reptile-agent tasks` lists them."""
    policy: PolicyName | None = None
    """'zero' sends zeros, 'random' draws anew within the limits every period, 'bundle' acts as the
    robot does, guards included; default: bundle where --bundle is given, else zero."""
    bundle: Path | None = None
    """Folder that `reptile-agent export` wrote."""
    adapt: bool = False
    """Take the bundle's k steps as on board, with gate and probation, every few periods."""
    task: dict[str, float] = field(default_factory=dict)
    """Variations and values, as `reptile-agent tasks FAMILY` lists them: payload_kg 0.3."""
    split: str | None = None
    """Take the task from this split instead."""
    task_index: int = 0
    """Which of the split's tasks, from 0."""
    seconds: float = 10.0
    """Simulated time."""
    seed: int = 0
    """Of initial state, course and the policy's noise."""
    video: Path | None = None
    """Write a film of it, .mp4 or .gif."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the film in pixels, even."""
    viewer: bool = False
    """Open a window instead, in real time."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Play; 130 if interrupted, with the file finished."""
        self._check()
        if self.video:
            render.choose_backend()  # before a family imports mujoco
        family = registry.get(self.family)
        task = self._task(family.splits())
        sim = family.make_sim([task])
        from sim.backends.batch import BatchSim  # mujoco: after the choice of OpenGL

        if isinstance(sim, BatchSim):
            sim.unstable = "raise"  # a robot that diverges is to be seen as such
        sim.reset(self.seed)
        player = self._player(family)
        record = Record(family.robot, family.feasible(task))
        steps = max(1, round(self.seconds / family.robot.control_period_s))
        with Interrupt() as interrupt, self._screen(family, sim) as screen:
            for done in self._progress(steps):
                if interrupt.asked or (isinstance(screen, render.Window) and not screen.open):
                    break
                if record.over:
                    sim.reset(self.seed + record.episodes)
                    player.reset()
                    record.next_episode()
                record.period(*_step(sim, family.robot, player, done))
                _show(sim, screen)
        document = {
            "family": family.name,
            "task": task,
            "policy": self._policy,
            "seed": self.seed,
            "interrupted": interrupt.asked,
            **record.summary(),
            **player.summary(),
        }
        if isinstance(screen, render.Film):
            film = {"path": str(screen.path), "frames": screen.frames, "fps": round(screen.fps, 3)}
            document["video"] = film
        if self.json:
            print(json.dumps(document, indent=1))
        else:
            _print(document)
        return 130 if interrupt.asked else 0

    @property
    def _policy(self) -> PolicyName:
        return self.policy or ("bundle" if self.bundle else "zero")

    def _check(self) -> None:
        """Refuse arguments that cannot work, before anything is loaded or written."""
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"--seconds must be above 0, got {self.seconds:g}")
        if self._policy == "bundle" and self.bundle is None:
            raise UserError("--policy bundle needs --bundle FOLDER")
        if self.adapt and not self.bundle:
            raise UserError("--adapt needs a bundle to adapt: add --bundle FOLDER")
        if self._policy != "bundle" and (self.bundle or self.adapt):
            raise UserError(
                f"--policy {self._policy} uses no bundle and cannot adapt; leave it out"
            )
        if self.task and self.split:
            raise UserError("--task and --split both name the task; give one of them")
        if self.video and self.viewer:
            raise UserError("--video and --viewer: give one of them")
        if self.video:
            self._check_video(self.video)

    def _check_video(self, path: Path) -> None:
        if path.suffix not in render.SUFFIXES:
            raise UserError(f"{path} ends in neither {' nor '.join(render.SUFFIXES)}; name it so")
        if any(side < 2 or side % 2 for side in self.size):
            raise UserError(f"--size {self.size[0]} {self.size[1]}: H.264 needs even numbers")
        was_there = path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
            if not was_there:  # what comes next may still be refused
                path.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}; name another --video"
            ) from None

    def _task(self, splits: dict[str, list[Task]]) -> Task:
        if self.split is None:
            return dict(self.task)
        if self.split not in splits:
            raise LookupError(f"no split '{self.split}' (there are: {', '.join(splits)})")
        tasks = splits[self.split]
        if not 0 <= self.task_index < len(tasks):
            has = f"0..{len(tasks) - 1}" if tasks else "no tasks at all"
            raise LookupError(f"--task-index {self.task_index}: split '{self.split}' has {has}")
        return tasks[self.task_index]

    def _player(self, family: TaskFamily) -> Player:
        robot = family.robot
        if self._policy == "random":
            return Random(robot, self.seed)
        if self.bundle is None:
            return Zero(robot)
        bundle = Bundle.load(self.bundle)
        check_fits(bundle, family.name, robot)
        return OnBoard(bundle, self.adapt, self.seed)

    @contextlib.contextmanager
    def _screen(self, family: TaskFamily, sim: Any) -> Iterator[render.Film | render.Window | None]:
        """Where the robot is shown, if anywhere; finished whatever happens inside."""
        if not (self.viewer or self.video):
            yield None
            return
        from sim.backends.batch import BatchSim

        if not isinstance(sim, BatchSim):
            raise UserError(
                f"family '{family.name}' has no pictures: only robots in MuJoCo do; leave out "
                f"--{'viewer' if self.viewer else 'video'}"
            )
        scene, period_s = render.Scene(sim.family, sim.tasks[0]), family.robot.control_period_s
        _pose(scene, sim)
        if self.video:
            screen = render.Film(scene, self.video, period_s, self.size)
        else:
            screen = render.Window(scene, period_s)
        try:
            yield screen
        finally:
            screen.close()

    def _progress(self, steps: int) -> Iterator[int]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        quiet = self.json or not console.is_terminal
        with Progress(*columns, console=console, disable=quiet) as progress:
            doing = "filming" if self.video else "playing"
            yield from progress.track(range(steps), description=doing)


class Record:
    """What happened, control period by control period."""

    def __init__(self, robot: RobotSpec, feasible: bool) -> None:
        self._robot, self._feasible = robot, feasible
        self._rewards: list[float] = []
        self._errors: list[float] = []
        self._terminated_s: list[float] = []
        self.episodes, self.over = 1, False

    def period(self, reward: float, error: float, terminated: bool, truncated: bool) -> None:
        """Note one."""
        self._rewards.append(reward)
        self._errors.append(error)
        if terminated:
            self._terminated_s.append(len(self._rewards) * self._robot.control_period_s)
        self.over = terminated or truncated

    def next_episode(self) -> None:
        """The robot was put back to a start."""
        self.episodes, self.over = self.episodes + 1, False

    def summary(self) -> dict[str, Any]:
        """Everything, in plain types."""
        units = dict.fromkeys(signal.unit for signal in self._robot.references)
        return {
            "feasible": bool(self._feasible),
            "periods": len(self._rewards),
            "seconds": round(len(self._rewards) * self._robot.control_period_s, 6),
            "episodes": self.episodes,
            "terminated_s": [round(at, 6) for at in self._terminated_s],
            "return": float(np.sum(self._rewards)),
            "tracking_error": float(np.mean(self._errors)) if self._errors else None,
            "tracking_error_unit": ", ".join(units),
        }


def _step(
    sim: VecSim, robot: RobotSpec, player: Player, done: int
) -> tuple[float, float, bool, bool]:
    """One control period: reward, tracking error, terminated, truncated."""
    reference = sim.reference(player.horizon)[0]
    action = player.act(done * robot.control_period_s, sim.obs[0], reference)
    obs, reward, terminated, truncated = sim.step(np.asarray(action, np.float32)[None])
    error = np.abs(obs[0, robot.reference_columns] - reference[0]).mean()
    return float(reward[0]), float(error), bool(terminated[0]), bool(truncated[0])


def _pose(scene: render.Scene, sim: Any) -> None:
    scene.pose(sim.batch.qpos[0], sim.batch.qvel[0], sim.reference(1)[0, 0])


def _show(sim: VecSim, screen: render.Film | render.Window | None) -> None:
    if screen is not None:
        _pose(screen.scene, sim)
        screen.period()


def _print(document: dict[str, Any]) -> None:
    task = ", ".join(f"{name} {value:g}" for name, value in document["task"].items())
    error, unit = document["tracking_error"], document["tracking_error_unit"]
    ended = ", ".join(f"{at:g} s" for at in document["terminated_s"])
    rows = [
        ["task", task or "nominal"],
        ["policy", document["policy"]],
        ["simulated", f"{document['seconds']:g} s in {document['episodes']} episode(s)"],
        ["terminated", f"at {ended}" if ended else "never"],
        ["return", f"{document['return']:.3f}"],
        ["mean tracking error", "none" if error is None else f"{error:.4f} {unit}"],
    ]
    on_board = document.get("on_board", {})
    rows += [[name.replace("_", " "), _words(value)] for name, value in on_board.items()]
    if film := document.get("video"):
        rows.append(
            ["video", f"{film['path']} ({film['frames']} frames, {film['fps']:g} a second)"]
        )
    console.print(table(document["family"], ["", ""], rows))
    if not document["feasible"]:
        console.print("note: by the family's static test no controller can solve this task")


def _words(value: Any) -> str:
    return "; ".join(value) or "none" if isinstance(value, list) else str(value)
