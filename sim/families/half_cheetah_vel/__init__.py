"""The half-cheetah runs at a speed that is the task: MAML's benchmark (Finn et al. 2017).

Training is MAML's own, the target alone varies. Beyond it lie targets up to 3 m/s (ProMP's range,
arXiv 1810.06784), other weights and other ground; held out are a crippled joint and latency.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from reptile_agent.task import Planning, Task
from sim.families.half_cheetah import FRICTION, MASS, HalfCheetah
from sim.family import Array
from sim.variations import Variation, column

TARGET = Variation(
    name="target_velocity",
    unit="m/s",
    nominal=1.0,
    train=(0.0, 2.0),
    beyond=(0.0, 3.0),
    why="0 to 2 m/s in MAML (arXiv 1703.03400), 0 to 3 m/s in ProMP",
)


class HalfCheetahVel(HalfCheetah):
    """Run at the task's speed, which is the reference: planners see it.

    A model-free learner that is to find the target out by its reward must be denied the reference.
    """

    name = "half_cheetah_vel"
    folder = Path(__file__).parent
    episode_steps = 200
    planning = Planning()
    robot = HalfCheetah.robot.model_copy(update={"name": "half_cheetah_vel"})
    variations = (TARGET, replace(MASS, train=(1.0, 1.0)), replace(FRICTION, train=(1.0, 1.0)))

    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """The task's speed."""
        return {"velocity": column(tasks, TARGET)[:, None]}

    def reward(self, obs: Array, action: Array, next_obs: Array, reference: Array) -> Array:
        """Minus the error of the speed, less 0.05 of the squared action, as in MAML."""
        error = abs(self.forward(obs, next_obs) - reference[..., 0])
        return -error - 0.05 * (action * action).sum(-1)
