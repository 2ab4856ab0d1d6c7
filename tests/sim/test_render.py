"""sim.render: what a scene shows, without OpenGL; the films are in tests/commands/test_play.py."""

from __future__ import annotations

import contextlib
import sys
import time

import mujoco
import numpy as np
import pytest

from sim import render
from sim.families.arm import Arm
from sim.families.cartpole import Cartpole


def test_a_scene_shows_the_variant_and_leaves_the_family_alone():
    arm = Arm()
    payload = arm.model.body("payload").id
    before = arm.model.body_mass[payload]
    scene = render.Scene(arm, {"payload_kg": 0.3})
    assert scene.model.body_mass[payload] == pytest.approx(before + 0.3)
    assert arm.model.body_mass[payload] == before


def test_the_ghost_stands_where_the_reference_is():
    cartpole = Cartpole()
    scene = render.Scene(cartpole, {})
    scene.pose(np.array([0.4, 0.1]), np.zeros(2), np.array([-0.7]))
    seen = mujoco.MjvScene(scene.model, 100)
    scene.add_ghost(seen)
    ghosts = [seen.geoms[i] for i in range(seen.ngeom)]
    assert len(ghosts) == 2, "cart and pole, not the rail"
    assert ghosts[0].pos[0] == pytest.approx(-0.7)
    np.testing.assert_allclose(ghosts[0].rgba, render.GHOST_RGBA, rtol=1e-6)
    assert scene.data.body("cart").xpos[0] == pytest.approx(0.4)


def test_references_that_are_no_positions_have_no_ghost():
    class Speed(Cartpole):
        robot = Cartpole.robot.model_copy(
            update={"references": (Cartpole.robot.observations[2],)}  # the slider's velocity
        )

    scene = render.Scene(Speed(), {})
    scene.pose(np.zeros(2), np.zeros(2), np.array([0.5]))
    seen = mujoco.MjvScene(scene.model, 100)
    scene.add_ghost(seen)
    assert seen.ngeom == 0


def test_a_camera_sees_all_of_a_robot_that_stays():
    scene, camera = render.Scene(Cartpole(), {}), mujoco.MjvCamera()
    scene.pose(np.zeros(2), np.zeros(2), np.zeros(1))
    scene.aim(camera)
    assert camera.type == mujoco.mjtCamera.mjCAMERA_FREE
    np.testing.assert_allclose(camera.lookat[:2], 0.0, atol=0.01)
    assert camera.distance > 3.6, "the rail is 3.6 m long"


@pytest.mark.parametrize(
    ("joint", "nq"), [("<freejoint/>", 9), ('<joint type="slide" axis="1 0 0"/>', 3)]
)
def test_a_camera_follows_a_robot_that_travels(joint, nq):
    class Travelling(Cartpole):
        columns = np.array([0, 1, nq, nq + 1])

        def build(self):
            spec = super().build()
            body = f'<body name="rover">{joint}<geom size="0.1" mass="1"/></body>'
            rover = mujoco.MjSpec.from_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
            spec.worldbody.add_frame().attach_body(rover.body("rover"), "its_", "")
            return spec

    scene, camera = render.Scene(Travelling(), {}), mujoco.MjvCamera()
    mujoco.mj_forward(scene.model, scene.data)
    scene.aim(camera)
    assert camera.type == mujoco.mjtCamera.mjCAMERA_TRACKING
    assert camera.trackbodyid == scene.model.body("its_rover").id
    assert camera.distance == 1.0, "the rail and the cart do not count"


def test_a_robot_with_a_sky_of_its_own_keeps_it():
    class Sky(Cartpole):
        def build(self):
            spec = super().build()
            spec.add_texture(
                name="dusk",
                type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
                builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
                width=8,
                height=48,
            )
            return spec

    assert render.Scene(Sky(), {}).model.ntex == 1
    assert render.Scene(Cartpole(), {}).model.ntex == 1


@pytest.mark.parametrize(
    ("hz", "periods"), [(5, 1), (25, 1), (30, 1), (31, 2), (50, 2), (100, 4), (500, 17)]
)
def test_a_film_has_at_most_thirty_frames_a_second(hz, periods):
    assert render.frame_periods(1 / hz) == periods


def test_a_film_without_its_package_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    scene = render.Scene(Cartpole(), {})
    with pytest.raises(render.RenderError, match=r"imageio-ffmpeg; pip install"):
        render.Film(scene, tmp_path / "film.mp4", 0.04, (64, 48))


class Viewer:
    """Stands for what launch_passive returns."""

    def __init__(self, model, data, **_):
        self.data, self.cam, self.drawn = data, mujoco.MjvCamera(), []
        self.user_scn = mujoco.MjvScene(model, 100)

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        self.drawn.append((self.data.qpos[0], self.user_scn.ngeom))

    def is_running(self):
        return len(self.drawn) < 3

    def close(self):
        self.drawn = None


def test_a_window_draws_robot_and_ghost_in_real_time(monkeypatch):
    import mujoco.viewer

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(mujoco.viewer, "launch_passive", Viewer)
    scene = render.Scene(Cartpole(), {})
    scene.pose(np.zeros(2), np.zeros(2), np.zeros(1))
    window = render.Window(scene, 0.04)
    viewer = window._viewer
    began_s = time.monotonic()
    window.period()
    while window.open:
        scene.pose(np.full(2, 0.1), np.zeros(2), np.zeros(1))
        window.period()
    assert time.monotonic() - began_s >= 0.08
    assert viewer.drawn == [(0.0, 2), (0.1, 2), (0.1, 2)]
    window.close()
    assert viewer.drawn is None


def test_without_a_screen_there_is_no_window(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(render.RenderError, match=r"no screen .* --video out.mp4"):
        render.Window(render.Scene(Cartpole(), {}), 0.04)
