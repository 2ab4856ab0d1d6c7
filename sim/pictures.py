"""Pictures of lanes for `sim.gymnasium_env`, by MuJoCo's renderer."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sim.gymnasium_env import Lanes

HEIGHT, WIDTH = 480, 640
"""Of a picture, in pixels."""


def prepare(render_mode: str | None) -> None:
    """Choose an OpenGL that works here, where mujoco has not been imported yet.

    Raises:
        ValueError: no such mode, or no OpenGL works here.
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got '{render_mode}'")
    if render_mode is not None and "mujoco" not in sys.modules:
        from sim.render import choose_backend

        choose_backend()


class Picture:
    """Draws one lane, as its task built it, with the reference as a ghost.

    Raises:
        RenderError: the lane is not simulated by MuJoCo, or OpenGL does not start.
    """

    def __init__(self, lanes: Lanes, lane: int) -> None:
        import mujoco

        from sim.backends.batch import BatchSim
        from sim.render import RenderError, Scene, open_renderer

        if not isinstance(lanes.sim, BatchSim):
            raise RenderError(
                f"family '{lanes.family.name}' has no picture: only robots in MuJoCo do"
            )
        self._sim, self._lane, self.task = lanes.sim, lane, lanes.tasks[lane]
        self._scene = Scene(self._sim.family, self.task)
        self._pose()
        self._camera = mujoco.MjvCamera()
        self._scene.aim(self._camera)
        self._renderer = open_renderer(self._scene.model, WIDTH, HEIGHT)

    def frame(self) -> np.ndarray:
        """The lane now, uint8 [height, width, 3]."""
        self._pose()
        self._renderer.update_scene(self._scene.data, self._camera)
        self._scene.add_ghost(self._renderer.scene)
        return self._renderer.render()

    def close(self) -> None:
        """Give the graphics memory back."""
        self._renderer.close()

    def _pose(self) -> None:
        state, reference = self._sim.batch, self._sim.reference(1)
        self._scene.pose(state.qpos[self._lane], state.qvel[self._lane], reference[self._lane, 0])


class Album:
    """The pictures of all lanes; one whose task changed is set up anew."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._pictures: dict[int, Picture] = {}

    def frame(self, lane: int) -> np.ndarray:
        """A lane now, uint8 [height, width, 3]."""
        known = self._pictures.get(lane)
        if known is None or known.task != self._lanes.tasks[lane]:
            if known is not None:
                known.close()
            self._pictures[lane] = Picture(self._lanes, lane)
        return self._pictures[lane].frame()

    def close(self) -> None:
        """Close all of them."""
        for picture in self._pictures.values():
            picture.close()
        self._pictures = {}
