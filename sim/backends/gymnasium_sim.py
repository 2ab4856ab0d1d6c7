"""VecSim on gymnasium environments: one a lane, each with its own task.

gymnasium's own vector environments give all lanes the same keywords and start an ended lane by
themselves; here lanes differ, and start only when `reset` says so. SyncVectorEnv is a loop too.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np

from reptile_agent.spec import limits
from reptile_agent.task import Task
from sim.backends import checks
from sim.gymnasium_family import GymnasiumFamily


class GymnasiumSim:
    """Lanes of one family; implements `reptile_agent.task.VecSim`.

    A lane that terminated stands still with reward 0 until `reset`: past its end, an environment
    promises nothing.

    Args:
        family: what is simulated.
        tasks: one variant a lane.
    """

    def __init__(self, family: GymnasiumFamily, tasks: list[Task]) -> None:
        checks.some_tasks(family.name, tasks)
        family.check(tasks)
        self.family, self.num_envs = family, len(tasks)
        self.tasks = [dict(task) for task in tasks]
        self.envs = [family.make_env(task) for task in tasks]
        self._low, self._high = limits(family.robot.actions)
        self._steps = np.zeros(self.num_envs, int)
        self._over = np.zeros(self.num_envs, bool)
        self.obs = np.zeros((self.num_envs, len(family.robot.observations)), np.float32)
        self.reset(seed=0)

    def set_tasks(self, tasks: list[Task]) -> None:
        """Change the variants in mid-motion.

        The motion goes on where the family changes its environment in place, or where a new
        environment can take over the state of the old one (classic control, MuJoCo). Elsewhere
        (Atari, Box2D) a lane whose task changed starts anew.

        Raises:
            ValueError: another number of tasks than lanes, or a value out of reason.
            LookupError: an unknown variation.
        """
        checks.a_task_per_lane(tasks, self.num_envs)
        self.family.check(tasks)
        changed = [lane for lane, task in enumerate(tasks) if task != self.tasks[lane]]
        # All first: where one is refused, nothing has changed.
        fresh = [self.family.change(self.envs[lane], tasks[lane]) for lane in changed]
        self.obs = self.obs.copy()
        for lane, new in zip(changed, fresh):
            old = self.envs[lane]
            if new is not old:
                obs, _ = new.reset(seed=lane)
                if not _take_over(old, new):
                    self._begin(lane, obs)
                old.close()
            self.envs[lane], self.tasks[lane] = new, dict(tasks[lane])

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """Start lanes anew; returns observations float32 [num_envs, obs_dim].

        Args:
            seed: a lane starts the same way whichever others start with it.
            lanes: which, bool [num_envs]; None: all. The others' motion stays.
        """
        some = np.ones(self.num_envs, bool) if lanes is None else np.asarray(lanes, bool)
        self.obs = self.obs.copy()
        for lane in np.flatnonzero(some).tolist():
            own = int(np.random.SeedSequence([seed, lane]).generate_state(1)[0] >> 1)
            self._begin(lane, self.envs[lane].reset(seed=own)[0])
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        """Where the references stand, float32 [num_envs, horizon, ref_dim]."""
        still = self.family.reference()
        return np.broadcast_to(still, (self.num_envs, horizon, still.size)).copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance one step with the environments' own rewards; see `VecSim.step`.

        Raises:
            ValueError: an action is not finite or of another shape; nothing has moved then.
        """
        checks.action_shape(action.shape, self.num_envs, self._low.size)
        checks.finite_action(action)
        allowed = np.clip(action, self._low, self._high)
        reward, truncated = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        self.obs = self.obs.copy()
        for lane in np.flatnonzero(~self._over).tolist():
            env = self.envs[lane]
            obs, gained, over, cut, _ = env.step(_command(env.action_space, allowed[lane]))
            self.obs[lane] = np.ravel(obs)
            reward[lane], self._over[lane], truncated[lane] = float(gained), over, cut
        self._steps += 1
        truncated |= self._steps >= self.family.episode_steps
        return self.obs, reward, self._over.copy(), truncated

    def close(self) -> None:
        """Close every lane's environment."""
        for env in self.envs:
            env.close()

    def _begin(self, lane: int, obs: np.ndarray) -> None:
        self.obs[lane], self._over[lane], self._steps[lane] = np.ravel(obs), False, 0


def _command(space: gymnasium.Space, action: np.ndarray) -> np.ndarray | int:
    """An action [act_dim] as the environment takes it: a choice is rounded."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.start) + round(float(action[0]))
    return action.reshape(space.shape or ()).astype(space.dtype)


def _take_over(old: gymnasium.Env, new: gymnasium.Env) -> bool:
    """Put `new` into the state of motion of `old`; False where nothing general can."""
    before: Any = old.unwrapped
    after: Any = new.unwrapped
    if hasattr(after, "set_state") and hasattr(before, "data"):  # gymnasium.envs.mujoco
        after.set_state(before.data.qpos.copy(), before.data.qvel.copy())
    elif getattr(before, "state", None) is not None:  # gymnasium.envs.classic_control
        after.state = copy.deepcopy(before.state)
    else:
        return False
    return True
