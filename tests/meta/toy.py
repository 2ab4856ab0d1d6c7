"""The toy robot as a family: its lift goes part of the way to its command, its wheel turns."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from reptile_agent.spec import RobotSpec
from reptile_agent.task import Planning, Task

SIGMA = (0.2, 1.0)


class ToySim:
    """Lift goes `gain` of the way to its command, wheel turns by its effort; implements VecSim."""

    def __init__(self, gain: tuple[float, ...] = (0.3, 0.2, 0.1), falls_at: float = np.inf) -> None:
        self.num_envs, self.falls_at = len(gain), falls_at
        self.set_tasks([{"gain": g} for g in gain])
        self.reset(seed=0)

    def set_tasks(self, tasks: list[Task]) -> None:
        self.gain = np.array([task["gain"] for task in tasks], np.float32)

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        if lanes is None:
            self.t, self.actions = 0, []
            self.obs = np.zeros((self.num_envs, 2), np.float32)
        else:
            self.obs = np.where(lanes[:, None], np.float32(0), self.obs)
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        time = self.t + 1 + np.arange(horizon)
        aim = np.float32(0.8 * np.sin(0.3 * time))[None, :, None]
        return np.tile(aim, (self.num_envs, 1, 1))

    def step(self, action: np.ndarray):
        self.actions.append(action.copy())
        lift = self.obs[:, 0] + self.gain * (action[:, 0] - self.obs[:, 0])
        self.obs = np.stack([lift, self.obs[:, 1] + 0.1 * action[:, 1]], axis=1)
        self.t += 1
        no, fell = np.zeros(self.num_envs, bool), np.abs(self.obs[:, 1]) > self.falls_at
        return self.obs, -np.arange(self.num_envs, dtype=np.float32), fell, no


class Toy:
    """Toys of several gains; the reward says how near the lift is to its reference."""

    name = "toy"
    episode_steps = 100
    plan_horizon = 4
    plan_noise = SIGMA
    planning = Planning()

    def __init__(self, robot: RobotSpec) -> None:
        self.robot = robot

    def splits(self) -> dict[str, list[Task]]:
        return {"train": [{"gain": 0.1 * i} for i in range(1, 9)], "validation": [{"gain": 0.5}]}

    def make_sim(self, tasks: list[Task]) -> ToySim:
        return ToySim(tuple(task["gain"] for task in tasks))

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        return -(next_obs[..., 0] - reference[..., 0]).square()

    def feasible(self, task: Task) -> bool:
        return True

    def describe(self) -> list[dict]:
        return []


class ForeseeingToy(ToySim):
    """A toy that can tell what plans would come to; implements ForesightSim."""

    def foresee(self, actions: np.ndarray) -> np.ndarray:
        reference = self.reference(actions.shape[2])
        lift, total = np.repeat(self.obs[:, :1], actions.shape[1], axis=1), 0.0
        for t in range(actions.shape[2]):
            lift = lift + self.gain[:, None] * (actions[:, :, t, 0] - lift)
            total = total - (lift - reference[:, None, t, 0]) ** 2
        return np.asarray(total / actions.shape[2], np.float32)

    def follow(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = [np.repeat(self.obs[:, None], actions.shape[1], axis=1)]
        for t in range(actions.shape[2]):
            lift, turned = seen[-1][..., 0], seen[-1][..., 1]
            lift = lift + self.gain[:, None] * (actions[:, :, t, 0] - lift)
            seen.append(np.stack([lift, turned + 0.1 * actions[:, :, t, 1]], axis=-1))
        obs = np.stack(seen, axis=2).astype(np.float32)
        fell = np.abs(obs[:, :, 1:, 1]) > self.falls_at
        return obs, np.cumsum(fell, axis=2) - fell == 0


class Foreseeing(Toy):
    """The family of such toys."""

    def make_sim(self, tasks: list[Task]) -> ForeseeingToy:
        return ForeseeingToy(tuple(task["gain"] for task in tasks))
