"""A family without a simulator: command the number that is the task; the reward says how near."""

from __future__ import annotations

import numpy as np

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Planning, Task

ROBOT = RobotSpec(
    name="targets",
    control_period_s=0.5,
    observations=(Signal(joint="x", quantity="position", unit="m", low=-9.0, high=9.0),),
    actions=(Signal(joint="x", quantity="effort", unit="N", low=-2.0, high=2.0),),
    references=(Signal(joint="x", quantity="position", unit="m", low=-9.0, high=9.0),),
)


class TargetSim:
    """Lanes of Targets; a lane whose task `lasts` terminates after so many steps."""

    def __init__(self, tasks: list[Task]) -> None:
        self.num_envs = len(tasks)
        self.steps_taken = 0
        self.set_tasks(tasks)
        self.reset(0)

    def set_tasks(self, tasks: list[Task]) -> None:
        self.target = np.array([task["target"] for task in tasks])
        self.lasts = np.array([task.get("lasts", 1e9) for task in tasks])
        self.noisy = np.array([task.get("noisy", 0.1) for task in tasks])

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        assert lanes is None
        self.t = 0
        start = np.random.default_rng(seed).standard_normal((self.num_envs, 1))
        self.obs = (self.noisy[:, None] * start).astype(np.float32)
        return self.obs

    def step(self, action: np.ndarray):
        self.t += 1
        self.steps_taken += self.num_envs
        reward = -np.square(action[:, 0] / 2.0 - self.target).astype(np.float32)
        return self.obs, reward, self.t >= self.lasts, np.zeros(self.num_envs, bool)

    def reference(self, horizon: int) -> np.ndarray:
        goal = self.target[:, None, None].astype(np.float32)
        return np.broadcast_to(goal, (self.num_envs, horizon, 1)).copy()


class Targets:
    """Targets of -0.8 and 0.8: a start in between, and one step that tells which."""

    name = "targets"
    robot = ROBOT
    episode_steps = 10
    plan_horizon = 1
    plan_noise = (0.5,)
    planning = Planning()

    def __init__(self) -> None:
        self.sims: list[TargetSim] = []

    def splits(self) -> dict[str, list[Task]]:
        tasks: list[Task] = [{"target": target} for target in (-0.8, 0.8)]
        return {"train": tasks * 4, "validation": tasks, "infeasible": []}

    def make_sim(self, tasks: list[Task]) -> TargetSim:
        self.sims.append(TargetSim(tasks))
        return self.sims[-1]
