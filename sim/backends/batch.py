"""VecSim on `mujoco.batch.Batch`: one model per lane, stepped in lockstep by MuJoCo's C++ pool."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import os

import mujoco
import numpy as np
from mujoco import batch

from reptile_agent.task import Task
from sim.family import MujocoFamily


class UnstableError(ValueError):
    """A lane's physics diverged: its task, or what it was commanded, is out of reason."""


class BatchSim:
    """Lanes of one family, each its own variant; implements `reptile_agent.task.VecSim`.

    Args:
        family: what is simulated.
        tasks: one variant per lane.
        threads: of the pool; default: the processors this process may use.
    """

    def __init__(self, family: MujocoFamily, tasks: list[Task], threads: int | None = None) -> None:
        if not tasks:
            raise ValueError(
                f"family '{family.name}': no tasks given; a simulator needs one a lane"
            )
        self.family, self.num_envs = family, len(tasks)
        threads = threads or min(len(os.sched_getaffinity(0)), self.num_envs)
        self.batch = batch.Batch(family.model, self.num_envs, threads)
        self._step_count = 0
        self.set_tasks(tasks)
        self.reset(seed=0)

    def set_tasks(self, tasks: list[Task]) -> None:
        """Change the variants in mid-motion; positions and velocities stay.

        Raises:
            ValueError: another number of tasks than lanes, or a value out of reason.
            LookupError: an unknown variation.
        """
        if len(tasks) != self.num_envs:
            raise ValueError(f"{len(tasks)} tasks for {self.num_envs} lanes")
        self.family.check(tasks)
        self.tasks = [dict(task) for task in tasks]
        self.family.apply(self.batch, self.tasks)
        self.batch.set_const()

    def reset(self, seed: int) -> np.ndarray:
        """Start all lanes anew; returns observations float32 [num_envs, obs_dim]."""
        rng = np.random.default_rng(seed)
        self.batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.batch.qpos[:], self.batch.qvel[:] = self.family.initial_state(rng, self.num_envs)
        self.batch.forward()
        self.course = self.family.draw_course(rng, self.num_envs)
        self._step_count = 0
        self.obs = self.family.observe(self.batch)
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` periods, float32 [num_envs, horizon, ref_dim]."""
        steps = self._step_count + 1 + np.arange(horizon)
        return self.family.course(self.course, steps * self.family.robot.control_period_s)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance one control period; see `VecSim.step`.

        Raises:
            ValueError: an action is not finite; nothing has moved then.
            UnstableError: a lane diverged; the lane, its task and its step are named.
        """
        import torch

        if not np.isfinite(action).all():
            lane = int(np.argmin(np.isfinite(action).all(axis=1)))
            raise ValueError(f"the action of lane {lane} is not finite: {action[lane]}")
        reference = self.reference(1)[:, 0]
        self.batch.ctrl[:] = self.family.command(action, self.tasks)
        self.batch.step(nstep=self.family.substeps, stage=mujoco.mjtStage.mjSTAGE_VEL)
        before, self.obs = self.obs, self.family.observe(self.batch)
        self._step_count += 1
        bad = ~(np.abs(self.obs) < mujoco.mjMAXVAL).all(axis=1)
        if bad.any():
            lane = int(np.argmax(bad))
            raise UnstableError(
                f"family '{self.family.name}', lane {lane} diverged at step {self._step_count}: "
                f"task {self.tasks[lane]}, state {self.obs[lane]}; narrow the variation's range"
            )
        arrays = (before, np.asarray(action, np.float32), self.obs, reference)
        reward = self.family.reward(*(torch.from_numpy(a) for a in arrays)).numpy()
        cut = self._step_count >= self.family.episode_steps
        return (
            self.obs,
            reward,
            np.zeros(self.num_envs, bool),
            np.full(self.num_envs, cut),
        )
