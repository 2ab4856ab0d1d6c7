"""Pictures of a family's robot: frames of what a lane does, to a file or on a screen.

OpenGL is chosen when mujoco is first imported, so this module imports it only inside functions:
call `choose_backend` before anything else does.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reptile_agent.task import Task

if TYPE_CHECKING:
    import mujoco

    from sim.family import MujocoFamily

SUFFIXES = (".mp4", ".gif")
MAX_FPS = 30.0
GHOST_RGBA = (0.1, 0.7, 0.2, 0.3)
"""The robot as the reference wants it."""
PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"
PROBE_S = 60.0
"""After which a display counts as one that does not answer."""


class RenderError(ValueError):
    """No picture can be made here; the message says what to do."""


def has_display() -> bool:
    """Whether there is a screen to open a window on."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose_backend() -> str:
    """Set MUJOCO_GL to an OpenGL that works here; call it before mujoco is imported.

    Each candidate is tried in a process of its own, since one that fails spoils its process.

    Raises:
        RenderError: none works.
    """
    asked = os.environ.get("MUJOCO_GL", "")
    candidates = (asked,) if asked else ("glfw",) * has_display() + ("egl", "osmesa")
    for backend in candidates:
        environment = os.environ | {"MUJOCO_GL": backend}
        probe = [sys.executable, "-c", PROBE]
        try:
            done = subprocess.run(
                probe, env=environment, capture_output=True, check=False, timeout=PROBE_S
            )
        except subprocess.TimeoutExpired:  # a display that was forwarded and does not answer
            continue
        if done.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise RenderError(
        f"no OpenGL to render with (tried MUJOCO_GL={', '.join(candidates)}); install Mesa's EGL "
        f"(Debian: libegl1 libgl1-mesa-dri){', or unset MUJOCO_GL' if asked else ''}"
    )


class Scene:
    """One variant of a family's robot, posed, with a camera and the reference's ghost.

    Args:
        family: whose robot.
        task: the variant; bodies that a variation changes in size look changed.
    """

    def __init__(self, family: MujocoFamily, task: Task) -> None:
        import mujoco

        from sim.family import OneModel

        self.model = _picturesque(family.build())
        family.apply(OneModel(self.model), [task])
        self.data, self._ghost = mujoco.MjData(self.model), mujoco.MjData(self.model)
        mujoco.mj_setConst(self.model, self.data)
        robot = family.robot
        columns = np.asarray(family.columns)[robot.reference_columns]
        self._shown = np.flatnonzero(columns < self.model.nq)
        """References that are positions: only they make a ghost."""
        self._ghost_columns = columns[self._shown]

    def pose(self, qpos: np.ndarray, qvel: np.ndarray, reference: np.ndarray) -> None:
        """Put the robot where a lane is: [nq], [nv]; reference [ref_dim]."""
        import mujoco

        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)
        if self._shown.size:
            self._ghost.qpos[:] = qpos
            self._ghost.qpos[self._ghost_columns] = reference[self._shown]
            mujoco.mj_kinematics(self.model, self._ghost)

    def add_ghost(self, scene: mujoco.MjvScene) -> None:
        """Append the ghost's bodies to what is drawn."""
        import mujoco

        if not self._shown.size:
            return
        first, moving = scene.ngeom, mujoco.mjtCatBit.mjCAT_DYNAMIC
        option, nothing = mujoco.MjvOption(), mujoco.MjvPerturb()
        mujoco.mjv_addGeoms(self.model, self._ghost, option, nothing, moving, scene)
        for i in range(first, scene.ngeom):
            scene.geoms[i].rgba[:] = GHOST_RGBA
            scene.geoms[i].matid = -1
            scene.geoms[i].category = mujoco.mjtCatBit.mjCAT_DECOR  # casts no shadow

    def aim(self, camera: mujoco.MjvCamera) -> None:
        """Let a camera see the whole robot as it stands; one that travels is followed."""
        import mujoco

        model = self.model
        mujoco.mjv_defaultFreeCamera(model, camera)
        root = self._travelling_root()
        visible = (model.geom_group < 3) & (model.geom_rbound > 0)
        if root is not None:
            visible &= model.body_rootid[model.geom_bodyid] == root
            camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, root
        if visible.any():
            turn = self.data.geom_xmat[visible].reshape(-1, 3, 3)
            middle, half = model.geom_aabb[visible, :3], model.geom_aabb[visible, 3:]
            at = self.data.geom_xpos[visible] + np.einsum("gij,gj->gi", turn, middle)
            reach = np.einsum("gij,gj->gi", np.abs(turn), half)
            low, high = (at - reach).min(axis=0), (at + reach).max(axis=0)
            camera.lookat[:] = (low + high) / 2
            size_m = float(np.linalg.norm(high - low))
            camera.distance = 1.6 * size_m if root is None else max(2.0 * size_m, 1.0)
        camera.azimuth, camera.elevation = 120.0, -20.0

    def _travelling_root(self) -> int | None:
        """The body under the world that nothing holds in place, if there is one."""
        import mujoco

        model = self.model
        for joint in range(model.njnt):
            kind, body = model.jnt_type[joint], int(model.jnt_bodyid[joint])
            slides = kind == mujoco.mjtJoint.mjJNT_SLIDE and not model.jnt_limited[joint]
            if model.body_parentid[body] == 0 and (kind == mujoco.mjtJoint.mjJNT_FREE or slides):
                return body
        return None


def frame_periods(period_s: float) -> int:
    """Control periods from one frame to the next: at most MAX_FPS frames a second, in real time."""
    return max(1, int(np.ceil(1 / (period_s * MAX_FPS) - 1e-9)))


def open_renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    """A renderer of pictures of that many pixels.

    Raises:
        RenderError: OpenGL does not start.
    """
    import mujoco

    frame = model.vis.global_
    frame.offwidth, frame.offheight = max(frame.offwidth, width), max(frame.offheight, height)
    try:
        return mujoco.Renderer(model, height, width)
    except (mujoco.FatalError, ImportError, AttributeError, RuntimeError) as error:
        raise RenderError(
            f"OpenGL does not start ({error}); set MUJOCO_GL=egl before mujoco is imported"
        ) from error


class Film:
    """Writes a scene to a video file, H.264 or an animated GIF, in real time.

    Args:
        scene: posed for the first frame.
        path: ends in .mp4 or .gif.
        period_s: control period.
        size: width and height in pixels, even.

    Raises:
        RenderError: OpenGL or the encoder does not start, or its package is missing.
    """

    def __init__(self, scene: Scene, path: Path, period_s: float, size: tuple[int, int]) -> None:
        try:
            import imageio_ffmpeg
        except ModuleNotFoundError as error:
            raise RenderError(
                "a film needs the package imageio-ffmpeg; pip install 'reptile-agent[train]'"
            ) from error
        import mujoco

        self.scene, self.path, self.frames = scene, path, 0
        self._every = frame_periods(period_s)
        self.fps = 1 / (period_s * self._every)
        self._periods = 0
        self._camera = mujoco.MjvCamera()
        scene.aim(self._camera)
        self._renderer = open_renderer(scene.model, *size)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), *_encoding(path, self.fps, size)]
        # In a session of its own: Ctrl-C is for us, and the encoder ends when its input does.
        self._encoder: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )

    def period(self) -> None:
        """Take a frame, if this control period is one that has one.

        Raises:
            RenderError: the encoder died.
        """
        self._periods += 1
        if (self._periods - 1) % self._every:
            return
        self._renderer.update_scene(self.scene.data, self._camera)
        self.scene.add_ghost(self._renderer.scene)
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.write(self._renderer.render().tobytes())
        except BrokenPipeError:
            self._encoder.wait()
            raise self._trouble() from None
        self.frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            RenderError: the encoder failed.
        """
        self._renderer.close()
        assert self._encoder.stdin is not None
        self._encoder.stdin.close()
        failed = self._encoder.wait() != 0
        trouble = self._trouble() if failed else None
        self._errors.close()
        if trouble is not None:
            raise trouble

    def _trouble(self) -> RenderError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return RenderError(f"cannot write {self.path}: {said[-1] if said else 'ffmpeg ended'}")


class Window:
    """Shows a scene on the screen, in real time.

    Args:
        scene: posed for the first frame.
        period_s: control period.

    Raises:
        RenderError: there is no screen.
    """

    def __init__(self, scene: Scene, period_s: float) -> None:
        if not has_display():
            raise RenderError(
                "no screen to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set); "
                "write a file instead: --video out.mp4"
            )
        import mujoco.viewer

        self.scene, self._period_s, self._next_s = scene, period_s, 0.0
        self._viewer: Any = mujoco.viewer.launch_passive(
            scene.model, scene.data, show_left_ui=False, show_right_ui=False
        )
        with self._viewer.lock():
            scene.aim(self._viewer.cam)

    @property
    def open(self) -> bool:
        """Whether nobody closed it."""
        return self._viewer.is_running()

    def period(self) -> None:
        """Draw, and wait until a control period has passed since the last drawing."""
        with self._viewer.lock():
            self._viewer.user_scn.ngeom = 0
            self.scene.add_ghost(self._viewer.user_scn)
        self._viewer.sync()
        now_s = time.monotonic()
        self._next_s = max(self._next_s + self._period_s, now_s)
        time.sleep(self._next_s - now_s)

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()


def _picturesque(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile a robot with a sky where it has none, and with shadows that a CPU can draw."""
    import mujoco

    sky = mujoco.mjtTexture.mjTEXTURE_SKYBOX
    if not any(texture.type == sky for texture in spec.textures):
        gradient = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
        spec.add_texture(
            name="reptile_agent_sky",
            type=sky,
            builtin=gradient,
            rgb1=[0.75, 0.8, 0.87],
            rgb2=[0.45, 0.52, 0.62],
            width=64,
            height=384,
        )
    model = spec.compile()
    model.vis.quality.shadowsize = 1024
    model.vis.headlight.ambient[:] = 0.2
    return model


def _encoding(path: Path, fps: float, size: tuple[int, int]) -> list[str]:
    """Arguments of ffmpeg: raw frames in, a file that players and browsers show out."""
    source = f"-y -loglevel error -f rawvideo -pix_fmt rgb24 -s {size[0]}x{size[1]}".split()
    source += ["-r", f"{fps:.6f}", "-i", "-"]
    if path.suffix == ".gif":
        return [*source, "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", str(path)]
    return [*source, *"-c:v libx264 -pix_fmt yuv420p -movflags +faststart".split(), str(path)]
