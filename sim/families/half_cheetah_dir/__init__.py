"""The half-cheetah runs forward or backward, as the task says: MAML's benchmark (Finn et al. 2017).

Two directions are two tasks, and leave none to hold out. So weight and ground differ by a tenth
in training, as between two robots of one make; beyond it they differ by more, and held out are a
crippled joint and latency.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from reptile_agent.task import Planning, Task
from sim.families.half_cheetah import BEYOND_REACH_M_S, FRICTION, MASS, HalfCheetah
from sim.family import Array
from sim.variations import Variation, column

DIRECTION = Variation(
    name="target_direction",
    unit="-1 or 1",
    nominal=1.0,
    train=(-1.0, 1.0),
    beyond=(-1.0, 1.0),
    why="backward or forward, as in MAML (arXiv 1703.03400)",
    choices=(-1.0, 1.0),
)


class HalfCheetahDir(HalfCheetah):
    """Run as fast as can be to the side that the task names.

    The reference is a speed beyond reach to that side, so planners see which it is; a model-free
    learner that is to find it out by its reward must be denied the reference.
    """

    name = "half_cheetah_dir"
    folder = Path(__file__).parent
    episode_steps = 200
    planning = Planning()
    robot = HalfCheetah.robot.model_copy(update={"name": "half_cheetah_dir"})
    variations = (DIRECTION, replace(MASS, train=(0.9, 1.1)), replace(FRICTION, train=(0.9, 1.1)))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """A speed beyond reach to the task's side."""
        return {"velocity": BEYOND_REACH_M_S * column(tasks, DIRECTION)[:, None]}

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Speed to the reference's side less 0.05 of the squared action, as in MAML."""
        speed = self.forward(obs, next_obs) * reference[..., 0] / abs(reference[..., 0])
        return speed - 0.05 * (action * action).sum(-1)
