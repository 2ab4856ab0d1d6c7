"""The film of before, fault and after: the robot, and its error drawn under it as it grows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reptile_agent.commands.run_page.fault_episode import FaultEpisode, Motion
from reptile_agent.commands.run_page.plots import INK, draw_errors
from sim.render import RenderError, Scene, frame_periods, open_renderer

DPI = 100
CAPTION, STRIP = 40, 160
"""Height in pixels of the caption above the robot, and of the plot under it."""
COLOURS = {"before": INK, "fault": "#b3261e", "after": "#0a7d5a"}


def write(path: Path, episode: FaultEpisode, motion: Motion, size: tuple[int, int]) -> None:
    """Write an .mp4 in real time.

    Args:
        path: of the file.
        episode: what is drawn under the robot.
        motion: of its adapting robot.
        size: width and height of the robot's part in pixels, even.

    Raises:
        RenderError: OpenGL or the encoder does not start, or its package is missing.
    """
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401  (imageio finds it by itself, and says less without)
    except ModuleNotFoundError as error:
        raise RenderError(
            f"a film needs {error.name}; pip install 'reptile-agent[train]'"
        ) from None
    every = frame_periods(episode.period_s)
    strip = _Strip(episode, motion.family.robot.references[0].unit, size[0])
    captions = {stage: _caption(stage, episode, size[0]) for stage in COLOURS}
    with imageio.get_writer(
        path,
        fps=1 / (episode.period_s * every),
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=2,
        output_params=["-movflags", "+faststart"],
    ) as film:
        for period, picture in _pictures(episode, motion, size, every):
            caption = captions[episode.stage(period)]
            frame = np.concatenate([caption, picture, strip.until(period)])
            film.append_data(frame)  # pyright: ignore[reportAttributeAccessIssue]


def _pictures(
    episode: FaultEpisode,
    motion: Motion,
    size: tuple[int, int],
    every: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Control periods and the robot in them, uint8 [height, width, 3]."""
    import mujoco

    camera = mujoco.MjvCamera()  # pyright: ignore[reportAttributeAccessIssue]
    periods = np.arange(0, len(motion.qpos), every)
    broken = periods >= episode.fault_at
    for task, part in (({}, periods[~broken]), (episode.fault, periods[broken])):
        scene = Scene(motion.family, task)
        renderer = open_renderer(scene.model, *size)
        for period in part:
            scene.pose(motion.qpos[period], motion.qvel[period], motion.reference[period])
            if period == 0:
                scene.aim(camera)
            renderer.update_scene(scene.data, camera)
            scene.add_ghost(renderer.scene)
            yield period, renderer.render()
        renderer.close()


class _Strip:
    """The plot of errors, revealed from the left."""

    def __init__(self, episode: FaultEpisode, unit: str, width: int) -> None:
        figure, axis = _figure(width, STRIP)
        axis.set_position((0.1, 0.27, 0.88, 0.7))
        draw_errors(axis, episode, unit)
        self._whole = _pixels(figure)
        for line in axis.get_lines()[:2]:  # the errors; the stages stay
            line.set_visible(False)
        self._empty = _pixels(figure)
        times_s = episode.period_s * np.arange(episode.kept.size)
        at = axis.transData.transform(np.stack([times_s, 0 * times_s], axis=1))
        self._columns = at[:, 0].round().astype(int)

    def until(self, period: int) -> np.ndarray:
        """As it stands in a control period, uint8 [STRIP, width, 3]."""
        column = self._columns[period] + 1
        return np.concatenate([self._whole[:, :column], self._empty[:, column:]], axis=1)


def _caption(stage: str, episode: FaultEpisode, width: int) -> np.ndarray:
    """One line about a stage, uint8 [CAPTION, width, 3]."""
    broken = ", ".join(f"{name} {value:.3g}" for name, value in episode.fault.items())
    said = {
        "before": "before: the nominal robot",
        "fault": f"fault: {broken}",
        "after": "after: adapted to data from since the fault",
    }[stage]
    figure, axis = _figure(width, CAPTION)
    axis.set_position((0, 0, 1, 1))
    axis.axis("off")
    figure.set_facecolor(COLOURS[stage])
    text = textwrap.shorten(said, width // 8, placeholder=" ...")
    axis.text(0.02, 0.5, text, color="white", fontsize=10, va="center", weight="bold")
    return _pixels(figure)


def _figure(width: int, height: int):
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _pixels(figure: Figure) -> np.ndarray:
    """A drawn figure, uint8 [height, width, 3]."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
