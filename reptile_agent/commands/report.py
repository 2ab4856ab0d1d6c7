"""Write one HTML page about a run: curves, settings, figures, and a film of a fault."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from markupsafe import Markup

from reptile_agent.commands import trained
from reptile_agent.commands.console import UserError, console
from reptile_agent.commands.run_page import fault_episode, film, page, plots, run_folder
from reptile_agent.commands.run_page.fault_episode import FaultEpisode
from reptile_agent.commands.run_page.page import Note, Section, inline
from reptile_agent.commands.run_page.run_folder import RunFolder
from reptile_agent.commands.settings import flat
from reptile_agent.commands.train import CHECKPOINT
from reptile_agent.commands.validation import BEST
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer
from reptile_agent.meta.trainer import Trainer
from reptile_agent.task import Task, TaskFamily
from sim import registry, render

SPLIT = "extrapolated"
"""Where the fault is taken from, if none is named."""


@dataclass
class Command:
    """Write one HTML page about a run: curves, settings, figures, and a film of a fault.

    The file needs nothing beside it. What the run has not made yet is named with the command that
    makes it. In the film the nominal robot breaks in mid-motion, and the start adapts online.
    """

    run_folder: Annotated[Path, tyro.conf.Positional] = Path("runs/arm")
    """Folder that `reptile-agent train` or `train-on-policy` wrote."""
    out: Path | None = None
    """The page; default: report.html in the run's folder."""
    fault: dict[str, float] = field(default_factory=dict)
    """What the robot becomes: variations and values, as `reptile-agent tasks FAMILY` lists them,
    such as payload_kg 0.3. Default: --fault-index of the split 'extrapolated'."""
    fault_index: int = 0
    """Which of that split's tasks, from 0."""
    film: bool = True
    """Film the fault; needs OpenGL."""
    size: tuple[int, int] = (640, 400)
    """Width and height of the robot in the film in pixels, even."""
    seed: int = 0
    """Of the course and of the planner's noise in the fault's episode."""

    def run(self) -> int:
        """Write the page."""
        if any(side < 2 or side % 2 for side in self.size):
            raise UserError(f"--size {self.size[0]} {self.size[1]}: H.264 needs even numbers")
        run = run_folder.read(self.run_folder)
        out = self.out or self.run_folder / "report.html"
        missing = _missing(run)
        no_film = "left out: --no-film" if not self.film else _no_opengl()
        trainer = _trainer(run, missing)
        sections = [_curves(run), *map(_evaluation, run.evaluations)]
        if isinstance(trainer, Trainer):
            sections.insert(0, self._fault(trainer, missing, no_film))
        sections += [_settings(run), _provenance(run)]
        stopped = run.stopped_by
        text = page.html(
            title=f"{run.ran['family']}: {run.path.resolve().name}",
            subtitle=_progress(run, trainer),
            wrong=[f"{stopped['what']} was not finite; training stopped"] if stopped else [],
            missing=missing,
            sections=[section for section in sections if section.rows or section.pictures],
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        for note in missing:
            console.print(f"{note.what}{': ' * bool(note.command)}{note.command}", markup=False)
        console.print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)", markup=False)
        return 0

    def _fault(self, trainer: Trainer, missing: list[Note], no_film: str) -> Section:
        """The episode in which the robot breaks; empty where there can be none."""
        section = Section("Before the fault, at the fault, and after")
        fault = self._task(trainer.family)
        trainer.family.make_sim([fault])  # one that there is not is the user's mistake
        with console.status("driving through the fault"):
            try:
                episode = fault_episode.record(trainer, fault, self.seed)
            except ValueError as error:
                missing.append(Note(f"no episode with a fault: {error}"))
                return section
        unit = trainer.family.robot.references[0].unit
        broken = ", ".join(f"{name} {value:g}" for name, value in fault.items())
        section.text = (
            f"The nominal robot becomes {broken}, {episode.fault_at * episode.period_s:g} s into "
            f"its course. The start adapts every {trainer.config.adaptation.period} control "
            f"periods, without gate and probation; 'after' begins when all that it adapts to is "
            f"from since the fault. One task and one seed: an illustration, no result."
        )
        section.pictures.append(inline(plots.png(plots.fault_errors(episode, unit)), "image/png"))
        means = episode.means()
        section.columns = [f"mean tracking error [{unit}]", *means]
        for method in next(iter(means.values())):
            section.rows.append([method, *(f"{stage[method]:.4g}" for stage in means.values())])
        try:
            section.video = self._filmed(episode, no_film)
        except render.RenderError as error:
            missing.append(Note(f"no film: {error}"))
        return section

    def _filmed(self, episode: FaultEpisode, no_film: str) -> Markup:
        """The film, to stand in the page.

        Raises:
            RenderError: there can be none; `no_film` is a reason known before.
        """
        if no_film:
            raise render.RenderError(no_film)
        if episode.motion is None:
            raise render.RenderError("the family has no pictures: only robots in MuJoCo do")
        with tempfile.TemporaryDirectory() as folder, console.status("filming"):
            path = Path(folder) / "fault.mp4"
            film.write(path, episode, episode.motion, self.size)
            return inline(path.read_bytes(), "video/mp4")

    def _task(self, family: TaskFamily) -> Task:
        if self.fault:
            return self.fault
        tasks = family.splits()[SPLIT]
        if not 0 <= self.fault_index < len(tasks):
            has = f"0..{len(tasks) - 1}" if tasks else "no tasks at all; name a --fault"
            raise LookupError(f"--fault-index {self.fault_index}: split '{SPLIT}' has {has}")
        return tasks[self.fault_index]


def _no_opengl() -> str:
    """Why no film can be made here; empty where one can."""
    try:
        render.choose_backend()
    except render.RenderError as error:
        return str(error)
    return ""


def _missing(run: RunFolder) -> list[Note]:
    """What the folder does not hold yet."""
    folder = shlex.quote(str(run.path))
    notes = []
    if not run.curves:
        notes.append(Note("no curves: the run has no tensorboard folder, or nothing in it"))
    if not run.evaluations:
        command = f"reptile-agent evaluate {folder} --split validation"
        notes.append(Note("not evaluated yet", command))
    return notes


def _trainer(run: RunFolder, missing: list[Note]) -> Trainer | OnPolicyTrainer | None:
    """The run's trainer; None, and a note, where it cannot be had."""
    command = run.ran.get("command", "train")
    train = f"reptile-agent {command} {run.ran['family']} --out {shlex.quote(str(run.path))}"
    checkpoint = run.path / CHECKPOINT
    if not checkpoint.is_file():
        missing.append(Note("no checkpoint yet: the run ended before its first", train))
        return None
    try:
        trainer = trained.load(checkpoint, registry.get(run.ran["family"]))
    except (ValueError, LookupError, ModuleNotFoundError) as error:
        missing.append(Note(f"no episode with a fault: {error}"))
        return None
    done, total = trainer.done_iterations, trainer.total_iterations
    if done < total:
        missing.append(Note(f"training stopped at {done} of {total}", f"{train} --resume"))
    return trainer


def _progress(run: RunFolder, trainer: Trainer | OnPolicyTrainer | None) -> str:
    parts = []
    if trainer is not None:
        parts.append(f"{trainer.done_iterations} of {trainer.total_iterations} iterations")
    if run.best is not None:
        parts.append(
            f"best on the validation split: mean reward {-run.best['cost']:.4g} per control "
            f"period, adapting, at iteration {run.best['iteration']} ({BEST})"
        )
    return "; ".join(parts)


def _curves(run: RunFolder) -> Section:
    section = Section("Learning curves")
    if run.curves:
        picture = plots.png(plots.learning_curves(run.curves))
        section.pictures.append(inline(picture, "image/png"))
    return section


def _evaluation(document: dict[str, Any]) -> Section:
    """Figures of one split, whatever they are: one column for each scalar."""
    rows = document["rows"]
    scalars = [name for row in rows for name, value in row.items() if not isinstance(value, list)]
    columns = list(dict.fromkeys(scalars))
    section = Section(
        f"Evaluation: {document['split']}",
        columns=columns,
        rows=[[_words(row.get(name)) for name in columns] for row in rows],
    )
    if not document.get("finished_training", True):
        section.text = "Of a start whose training was not finished. "
    if changed := document.get("override"):
        section.text += "With " + ", ".join(f"{name} {_words(v)}" for name, v in changed.items())
    if any(row.get("tracking_error") for row in rows):
        section.pictures.append(inline(plots.png(plots.evaluation(document)), "image/png"))
    return section


def _settings(run: RunFolder) -> Section:
    settings = flat(run.ran["config"])
    return Section("Settings", rows=[[name, _words(value)] for name, value in settings.items()])


def _provenance(run: RunFolder) -> Section:
    rows = [["git commit", run.ran["git_commit"]], *map(list, run.ran["versions"].items())]
    return Section("Where it comes from", rows=rows)


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return "" if value is None or value == {} else str(value)
