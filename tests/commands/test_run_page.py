"""reptile-agent report: what the page says of whole and half runs, and what the film shows."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reptile_agent import cli
from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.commands import post_mortem
from reptile_agent.commands.run_page import fault_episode, film, plots, run_folder
from reptile_agent.commands.run_page.fault_episode import Breaking, FaultEpisode
from reptile_agent.commands.train import CHECKPOINT, train
from reptile_agent.commands.train_log import TrainLog
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from sim import registry, render

TINY = TrainConfig(
    tasks=4,
    rounds=1,
    round_steps=30,
    fit_iterations=6,
    fit_batch=16,
    iterations=2,
    meta_batch=2,
    train_inner_steps=2,
    adaptation=AdaptationConfig(
        inner_steps=2, batch=4, rehearsal=2, window=12, holdout=1, period=5
    ),
    model=DynamicsConfig(hidden=(8,), members=2, segment=2),
    samples=4,
)
STAGE = 14
"""Control periods of the stage `fault`: what an adaptation looks back at."""
ROWS = [
    {"method": "reptile, k=0", "mean": 0.75, "worse": 0, "tracking_error": [0.5, 1.0]},
    {"method": "reptile, k=9", "mean": 0.625, "worse": 1, "tracking_error": [0.25, 1.0]},
]


def call(*arguments: str) -> int:
    """Run `reptile-agent report` in this process; its exit code."""
    try:
        cli.main(["report", *arguments])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a tiny run, evaluated on one split."""
    folder = tmp_path_factory.mktemp("runs") / "tiny <run>"
    folder.mkdir()
    with TrainLog(folder) as log:
        assert train(Trainer(registry.get("cartpole"), TINY, log), folder) == 0
    document = {"family": "cartpole", "split": "validation", "rows": ROWS}
    (folder / "evaluation-validation.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def steps() -> FaultEpisode:
    """Errors of 0.1 and 0.2 through 40 periods."""
    return FaultEpisode({"gain": 0.5}, 15, 25, 0.1, np.full(40, 0.2), np.full(40, 0.1), None)


@pytest.fixture
def canned(steps, monkeypatch) -> None:
    """That episode instead of one that is driven: of a robot that is not in MuJoCo."""
    monkeypatch.setattr(fault_episode, "record", lambda *_: steps)


class Page(HTMLParser):
    """A page taken apart; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] in (["td"], ["th"]):
            self.cells.append(data.strip())
        elif self._open[-1:] == ["h2"]:
            self.headings.append(data)


def report(run: Path, *arguments: str) -> str:
    """The page without a film."""
    assert call(str(run), "--no-film", *arguments) == 0
    return (run / "report.html").read_text()


def test_a_whole_run_is_on_one_page_that_needs_nothing_beside_it(finished, tmp_path, capsys):
    out = tmp_path / "new folder" / "page.html"
    assert call(str(finished), "--no-film", "--out", str(out)) == 0
    text = out.read_text()
    page = Page(text)
    assert page.headings == [
        "Before the fault, at the fault, and after",
        "Learning curves",
        "Evaluation: validation",
        "Settings",
        "Where it comes from",
    ]
    assert len(page.links) == 3, "errors through the fault, curves, evaluation"
    for link in page.links:
        kind, _, data = link.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert "cartpole: tiny &lt;run&gt;" in text
    assert "8 of 8 iterations" in text
    settings = dict(zip(page.cells, page.cells[1:]))
    assert settings["adaptation.window"] == "12"
    assert settings["model.hidden"] == "8"
    assert settings["fit_lr"] == "0.001"
    assert {"numpy", "torch", "git commit"} <= set(page.cells)
    at = page.cells.index("reptile, k=9")
    assert page.cells[at : at + 3] == ["reptile, k=9", "0.625", "1"]
    said = capsys.readouterr().out
    assert "no film: left out: --no-film" in said
    assert "not evaluated" not in text


def test_half_a_run_names_what_is_missing_and_the_command_that_makes_it(run):
    trainer = Trainer(registry.get("cartpole"), TINY)
    for _, _ in zip(range(4), trainer.run()):
        pass
    trainer.save(run / CHECKPOINT)
    (run / "evaluation-validation.json").unlink()
    shutil.rmtree(run / "tensorboard")
    text = report(run)
    page = Page(text)
    assert "training stopped at 3 of 8" in text
    assert f"reptile-agent train cartpole --out {run} --resume" in text
    assert f"reptile-agent evaluate {run} --split validation" in text
    assert "no curves" in text
    assert page.headings[0].startswith("Before the fault"), "what is there is shown"
    assert "Learning curves" not in page.headings


@pytest.mark.parametrize("what", ["none", "damaged", "before the first round"])
def test_without_a_start_there_is_still_a_page(run, what):
    file = run / CHECKPOINT
    if what == "none":
        file.unlink()
        note = "no checkpoint yet"
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:-99])
        note = "is damaged"
    else:
        Trainer(registry.get("cartpole"), TINY).save(file)
        note = "nothing is trained yet"
    text = report(run)
    assert note in text
    assert Page(text).headings[0] == "Learning curves"


def test_an_evaluation_of_other_settings_says_which(run, canned):
    document = {"split": "validation", "rows": ROWS, "override": {"inner_lr": 0.03}}
    document["finished_training"] = False
    (run / "evaluation-validation.json").write_text(json.dumps(document))
    assert "training was not finished. With inner_lr 0.03" in report(run)


def test_a_family_that_is_not_in_mujoco_has_no_film_and_says_so(run, canned, monkeypatch):
    monkeypatch.setattr(render, "choose_backend", lambda: "egl")
    assert call(str(run)) == 0
    text = (run / "report.html").read_text()
    assert "no film: the family has no pictures: only robots in MuJoCo do" in text


def test_a_loss_that_was_not_finite_stands_at_the_top(run, canned):
    error = LossNotFinite("fit/loss at step 5", {"obs": np.full((2, 4), np.nan)})
    post_mortem.write(run, error, {"iteration": 5})
    assert "fit/loss at step 5 was not finite; training stopped" in report(run)


def test_without_opengl_the_page_says_why_it_has_no_film(run, canned, monkeypatch):
    def fail() -> str:
        raise render.RenderError("no OpenGL to render with; install <something>")

    monkeypatch.setattr(render, "choose_backend", fail)
    assert call(str(run)) == 0
    text = (run / "report.html").read_text()
    assert "no film: no OpenGL to render with; install &lt;something&gt;" in text
    assert "<video" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fault", "wings", "2"), "family 'cartpole' has no variation 'wings'"),
        (("--fault", "gain", "99"), "is 99.0, outside its range"),
        (("--fault-index", "32"), "--fault-index 32: split 'extrapolated' has 0..31"),
        (("--size", "641", "480"), "H.264 needs even numbers"),
    ],
)
def test_a_mistake_is_answered_in_one_line(run, arguments, message, capsys):
    assert call(str(run), "--no-film", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_or_holds_rubbish_is_refused(run, tmp_path, capsys):
    assert call(str(tmp_path)) == 2
    assert "is not the folder of a run: it has no config.json" in capsys.readouterr().err
    (run / "evaluation-validation.json").write_text("{")
    assert call(str(run)) == 2
    error = capsys.readouterr().err
    assert "evaluation-validation.json is damaged" in error
    assert error.count("\n") == 1


def test_steps_taken_again_after_a_resume_count_once(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for rows in ([(0, 5.0), (1, 4.0), (2, 9.0)], [(2, 3.0), (3, 2.0)]):
        with TrainLog(tmp_path) as log:
            for step, value in rows:
                log("fit/loss", value, step)
    curve = run_folder.read(tmp_path).curves["fit/loss"]
    assert curve.steps.tolist() == [0, 1, 2, 3]
    assert curve.values.tolist() == [5, 4, 3, 2]


def test_the_robot_breaks_once_and_in_its_period():
    family = registry.get("cartpole")
    fault = family.splits()["extrapolated"][0]
    sim = family.make_sim([{}])
    sim.reset(seed=1)
    changed: list[int] = []
    set_tasks = sim.set_tasks
    sim.set_tasks = lambda tasks: changed.append(breaking.at) or set_tasks(tasks)
    breaking = Breaking(sim, fault, 3)
    healthy = family.make_sim([{}])
    healthy.reset(seed=1)
    parted = []
    for breaking.at in range(6):
        action = np.full((1, 1), 2.0, np.float32)
        obs, *_ = breaking.step(action)
        parted.append(not np.array_equal(obs, healthy.step(action)[0]))
        assert np.array_equal(breaking.obs, obs)
    assert changed == [3]
    assert sim.tasks == [fault]
    assert parted == [False, False, False, True, True, True]
    assert len(breaking.motion.qpos) == 6
    assert np.array_equal(breaking.motion.qpos[-1], sim.batch.qpos[0])


def test_an_episode_compares_the_start_with_its_adaptation_on_one_course(finished):
    trainer = Trainer.resume(registry.get("cartpole"), finished / CHECKPOINT)
    episode = fault_episode.record(trainer, {"gain": 0.7}, seed=0)
    assert (episode.fault_at, episode.after_at) == (21, 21 + STAGE)
    assert episode.kept.shape == episode.adapted.shape == (56,)
    first = 10  # a multiple of the period, with enough transitions to adapt to
    assert np.array_equal(episode.kept[:first], episode.adapted[:first])
    assert not np.array_equal(episode.kept[21:], episode.adapted[21:])
    assert [episode.stage(t) for t in (0, 20, 21, 34, 35, 55)] == [
        *("before", "before", "fault", "fault", "after", "after")
    ]
    means = episode.means()
    assert means["before"]["adapting"] == pytest.approx(episode.adapted[7:21].mean())
    assert means["fault"]["adapting"] == pytest.approx(episode.adapted[21:35].mean())
    assert means["after"]["the start as it is"] == pytest.approx(episode.kept[35:].mean())


def test_the_plot_under_the_film_is_revealed_from_the_left(steps):
    strip = film._Strip(steps, "m", 320)

    def last_column(picture: np.ndarray, colour: str) -> int:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        body = picture[60:110]  # between the legend and the axis
        close = np.abs(body.astype(int) - rgb).sum(axis=2) < 30
        return int(np.flatnonzero(close.any(axis=0)).max())

    ends = [last_column(strip.until(t), plots.ADAPTED) for t in (10, 20, 39)]
    assert ends[0] < ends[1] < ends[2]
    width = ends[2] - ends[0]
    assert (ends[1] - ends[0]) / width == pytest.approx(10 / 29, abs=0.05)


def test_the_film_shows_before_fault_and_after_in_turn(run):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-m", "reptile_agent.cli", "report", str(run), "--size", "160", "96"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = (run / "report.html").read_text()
    if "no film: no OpenGL" in text:
        pytest.skip("no OpenGL here")
    link = next(link for link in Page(text).links if link.startswith("data:video/mp4"))
    path = run / "film.mp4"
    path.write_bytes(base64.b64decode(link.partition(",")[2]))
    import imageio_ffmpeg

    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    decode += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(decode, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(56, film.CAPTION + 96 + film.STRIP, 160, 3)
    corner = frames[:, 2:6, 2:6].mean(axis=(1, 2))
    for period, stage in ((5, "before"), (22, "fault"), (40, "after")):
        colour = film.COLOURS[stage]
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        np.testing.assert_allclose(corner[period], rgb, atol=12)
    robot = frames[:, film.CAPTION : film.CAPTION + 96].astype(float)
    assert np.abs(robot[40] - robot[0]).max() > 40, "it moves"
    assert re.search(r"report: .*report\.html", done.stdout)
