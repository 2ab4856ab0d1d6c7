"""reptile-agent play: what is played, what is said of it, and what mistakes come to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reptile_agent import cli
from sim import render


def call(*arguments: str) -> int:
    """Run `reptile-agent play` in this process; its exit code."""
    try:
        cli.main(["play", *arguments])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


@pytest.fixture
def play(capsys):
    """Play without a film; the JSON document."""

    def run(*arguments: str) -> dict:
        assert call(*arguments, "--json") == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def film_environment() -> dict[str, str]:
    """As on a machine without a screen; skips where there is no OpenGL at all."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    with pytest.MonkeyPatch.context() as patch:
        for name in hidden:
            patch.delenv(name, raising=False)
        try:
            patch.setenv("MUJOCO_GL", render.choose_backend())
        except render.RenderError as error:
            pytest.skip(str(error))
    return {name: value for name, value in os.environ.items() if name not in hidden}


def film_process(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Play in a process of its own: OpenGL is chosen where mujoco is first imported."""
    return subprocess.Popen(
        [sys.executable, "-m", "reptile_agent.cli", "play", *arguments],
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def frames_of(path: Path) -> tuple[int, float, str]:
    """Frames, seconds, and what ffmpeg says of a film."""
    import imageio_ffmpeg

    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    ask = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    said = subprocess.run(ask, capture_output=True, text=True, check=False).stderr
    return count, seconds, said


def test_a_nominal_robot_is_played_with_zeros_by_default(play):
    document = play("cartpole", "--seconds", "1")
    assert document["policy"] == "zero"
    assert document["task"] == {}
    assert (document["periods"], document["seconds"], document["episodes"]) == (25, 1.0, 1)
    assert document["return"] < 0, "the pole hangs down"
    assert document["terminated_s"] == []
    assert document["tracking_error_unit"] == "m"


def test_a_random_policy_differs_from_seed_to_seed_and_repeats(play):
    arguments = ("cartpole", "--policy", "random", "--seconds", "1")
    one, again, other = play(*arguments), play(*arguments), play(*arguments, "--seed", "1")
    assert one == again
    assert one["return"] != other["return"]


def test_a_task_is_named_or_taken_from_a_split(play):
    named = play("cartpole", "--seconds", "0.2", "--task", "gain", "0.7", "friction", "2")
    assert named["task"] == {"gain": 0.7, "friction": 2.0}
    taken = play("cartpole", "--seconds", "0.2", "--split", "validation", "--task-index", "3")
    from sim.families.cartpole import Cartpole

    assert taken["task"] == Cartpole().splits()["validation"][3]


def test_a_family_that_is_not_in_mujoco_is_played_without_pictures(play, capsys, monkeypatch):
    pytest.importorskip("gymnasium")
    document = play("cartpole_discrete", "--policy", "random", "--seconds", "1")
    assert document["periods"] == 50
    assert document["return"] > 0
    monkeypatch.setattr(render, "choose_backend", lambda: "egl")
    assert call("cartpole_discrete", "--video", "film.mp4") == 2
    assert "only robots in MuJoCo do; leave out --video" in capsys.readouterr().err


def test_an_episode_that_is_cut_is_followed_by_another(play):
    document = play("cartpole", "--seconds", "10.04")  # an episode lasts 10 s
    assert (document["episodes"], document["terminated_s"]) == (2, [])
    assert play("cartpole", "--seconds", "10")["episodes"] == 1


def test_an_episode_that_terminates_says_when(play, monkeypatch):
    from sim.families.cartpole import Cartpole

    monkeypatch.setattr(Cartpole, "terminated", lambda _, obs: abs(obs[:, 0]) < 100)
    document = play("cartpole", "--seconds", "0.12")
    assert document["terminated_s"] == [0.04, 0.08, 0.12]
    assert document["episodes"] == 3


def test_a_bundle_tracks_better_than_zeros_and_tells_what_its_guards_did(play, arm_bundle_path):
    zero = play("arm", "--seconds", "2")
    bundle = play("arm", "--seconds", "2", "--bundle", str(arm_bundle_path))
    assert bundle["policy"] == "bundle"
    assert bundle["tracking_error"] < 0.5 * zero["tracking_error"]
    assert bundle["on_board"]["fallbacks"] == []
    assert "adaptations" not in bundle["on_board"]


def test_a_bundle_adapts_if_asked_to(play, arm_bundle_path):
    arguments = ("arm", "--seconds", "6", "--task", "gain_elbow_flex", "0.4", "payload_kg", "0.3")
    bundle = ("--bundle", str(arm_bundle_path))
    kept, adapted = play(*arguments, *bundle), play(*arguments, *bundle, "--adapt")
    assert adapted["on_board"]["adaptations"] >= 5
    assert adapted["on_board"]["accepted"] >= 1
    assert adapted["tracking_error"] < kept["tracking_error"]


def test_a_guard_that_stops_the_robot_is_reported(play, arm_bundle_path, monkeypatch):
    from reptile_agent.onboard.envelope import Envelope

    monkeypatch.setattr(Envelope, "check_command", lambda self, *_: self.latch("broken"))
    document = play("arm", "--seconds", "1", "--bundle", str(arm_bundle_path))
    assert document["on_board"]["fallbacks"] == ["broken"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("snake",), "no task family 'snake' (there are: "),
        (("arm", "--split", "nowhere"), "no split 'nowhere' (there are: train"),
        (("arm", "--split", "train", "--task-index", "128"), "split 'train' has 0..127"),
        (("arm", "--split", "train", "--task-index", "-1"), "split 'train' has 0..127"),
        (("arm", "--task", "wings", "2"), "family 'arm' has no variation 'wings'"),
        (("arm", "--task", "payload_kg", "9"), "is 9.0, outside its range 0.0..0.4"),
        (("arm", "--task", "payload_kg", "0.1", "--split", "train"), "give one of them"),
        (("arm", "--seconds", "0"), "--seconds must be above 0, got 0"),
        (("arm", "--seconds", "nan"), "--seconds must be above 0, got nan"),
        (("arm", "--policy", "bundle"), "--policy bundle needs --bundle FOLDER"),
        (("arm", "--adapt"), "--adapt needs a bundle to adapt: add --bundle FOLDER"),
        (("arm", "--bundle", "/nowhere/at/all"), "no bundle at /nowhere/at/all"),
        (("arm", "--video", "film.avi"), "film.avi ends in neither .mp4 nor .gif"),
        (("arm", "--video", "/dev/null/f.mp4"), "/dev/null/f.mp4: File exists; name another"),
        (("arm", "--video", "film.mp4", "--size", "641", "480"), "H.264 needs even numbers"),
        (("arm", "--video", "film.mp4", "--viewer"), "--video and --viewer: give one of them"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_a_film_that_is_not_made_leaves_nothing_and_takes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "choose_backend", lambda: "egl")
    path = tmp_path / "film.mp4"
    assert call("snake", "--video", str(path)) == 2
    assert "no task family 'snake'" in capsys.readouterr().err
    assert not path.exists()
    path.write_bytes(b"of yesterday")
    assert call("snake", "--video", str(path)) == 2
    assert path.read_bytes() == b"of yesterday"


def test_a_bundle_of_another_robot_is_refused_by_name(capsys, arm_bundle_path):
    assert call("cartpole", "--bundle", str(arm_bundle_path)) == 2
    error = capsys.readouterr().err
    assert "is of family 'arm' (robot 'arm'), not of 'cartpole'" in error
    assert f"reptile-agent play arm --bundle {arm_bundle_path}" in error


def test_a_bundle_of_an_older_robot_is_refused(capsys, arm_bundle_path, tmp_path, edit_manifest):
    old = Path(shutil.copytree(arm_bundle_path, tmp_path / "bundle"))
    edit_manifest(old, lambda document: document["robot"].update(control_period_s=0.02))
    assert call("arm", "--bundle", str(old)) == 2
    assert "had other control_period_s; train and export it again" in capsys.readouterr().err


def test_without_a_screen_a_window_is_refused_and_the_film_named(capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert call("cartpole", "--viewer") == 2
    assert "write a file instead: --video out.mp4" in capsys.readouterr().err


def test_closing_the_window_ends_it(play, monkeypatch):
    class Window(render.Window):
        def __init__(self, scene, _):
            self.scene, self.shown = scene, 0

        open = property(lambda self: self.shown < 5)

        def period(self):
            self.shown += 1

        def close(self):
            pass

    monkeypatch.setattr(render, "Window", Window)
    assert play("cartpole", "--viewer")["periods"] == 5


@pytest.mark.parametrize(
    ("name", "format"), [("film.mp4", r"h264.* yuv420p.* 64x48"), ("film.gif", r"gif.* 64x48")]
)
def test_a_film_lasts_as_long_as_what_it_shows(name, format, tmp_path, film_environment):
    path = tmp_path / "new folder" / name
    arguments = ("cartpole", "--seconds", "1", "--size", "64", "48", "--video", str(path), "--json")
    with film_process(film_environment, *arguments) as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert json.loads(out)["video"] == {"path": str(path), "frames": 25, "fps": 25.0}
    count, seconds, said = frames_of(path)
    assert count == 25
    assert seconds == pytest.approx(1.0, abs=0.05)
    assert re.search(format, said), said


def test_ctrl_c_finishes_the_film(tmp_path, film_environment):
    path = tmp_path / "film.mp4"
    arguments = ("cartpole", "--seconds", "3000", "--size", "64", "48", "--video", str(path))
    with film_process(film_environment, *arguments, "--json") as process:
        # The encoder writes as it goes: what is on disk was filmed.
        while not (path.exists() and path.stat().st_size > 0):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    document = json.loads(out)
    assert document["interrupted"]
    assert 0 < document["video"]["frames"] < 75000
    assert frames_of(path)[0] == document["video"]["frames"]


def test_without_any_opengl_the_mend_is_named(tmp_path, film_environment):
    environment = film_environment | {"MUJOCO_GL": "nothing"}
    path = tmp_path / "film.mp4"
    with film_process(environment, "cartpole", "--video", str(path)) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "tried MUJOCO_GL=nothing" in error
    assert "libegl1" in error
    assert error.count("\n") == 1
