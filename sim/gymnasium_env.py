"""Every task family as a gymnasium environment, alone and as a vector of lanes.

    import gymnasium
    import sim.gymnasium_env  # registers; gymnasium 1.0 and later load no plugins by themselves

    env = gymnasium.make("reptile_agent/HalfCheetahVel-v0", split="train")
    envs = gymnasium.make_vec("reptile_agent/Arm-v0", num_envs=16, tasks=[{"payload_kg": 0.2}])

or, in one line, `gymnasium.make("sim.gymnasium_env:reptile_agent/Arm-v0")`. Importing this module
neither loads a family nor imports torch or mujoco.

Observations are one flat Box: what the robot measures, then the reference of the next control
period, in the signals' units, clipped to their limits. Actions are a Box from -1 to 1, each
action's lowest to its highest value; or Discrete, where a robot's one action is a choice. A task is
drawn at every start of an episode; `reset` returns it as `info["task"]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from reptile_agent.spec import RobotSpec, limits
from reptile_agent.task import Task, TaskFamily
from sim import pictures, registry

NAMESPACE = "reptile_agent"


def observation_space(robot: RobotSpec) -> gymnasium.spaces.Box:
    """Measurements, then the next period's reference, [obs_dim + ref_dim]."""
    low, high = limits((*robot.observations, *robot.references))
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


def action_space(robot: RobotSpec) -> gymnasium.spaces.Box | gymnasium.spaces.Discrete:
    """-1 to 1 for every action; Discrete where the only action is a choice."""
    if [action.unit for action in robot.actions] == ["choice"]:
        return gymnasium.spaces.Discrete(round(robot.actions[0].high) + 1)
    return gymnasium.spaces.Box(-1.0, 1.0, (len(robot.actions),), np.float32)


class Lanes:
    """Lanes of a family whose tasks are drawn at each start, in the units of the spaces.

    Args:
        family: its name, or the family itself.
        tasks: to draw from, all with the same chance; None: those of `split`.
        split: of the family.
        num_envs: lanes.
        max_episode_steps: cuts episodes earlier than the family does.

    Raises:
        LookupError: no such family or split, or an unknown variation in a task.
        ValueError: no tasks or lanes, or a value out of its range.
    """

    def __init__(
        self,
        family: str | TaskFamily,
        tasks: Sequence[Task] | None,
        split: str,
        num_envs: int,
        max_episode_steps: int | None = None,
    ) -> None:
        self.family = registry.get(family) if isinstance(family, str) else family
        if isinstance(tasks, dict):
            raise ValueError(f"tasks must be a list of tasks, each a dict; got one dict: {tasks}")
        self._choice = self._tasks_of(split) if tasks is None else [dict(task) for task in tasks]
        if not self._choice:
            where = f"split '{split}'" if tasks is None else "the argument tasks"
            raise ValueError(
                f"{where} holds no tasks of family '{self.family.name}'; [{{}}] is the nominal one"
            )
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.robot = self.family.robot
        self.observation_space = observation_space(self.robot)
        self.action_space = action_space(self.robot)
        self._low, self._high = limits(self.robot.actions)
        self._max_steps = max_episode_steps or self.family.episode_steps
        self._steps = np.zeros(num_envs, int)
        self.tasks = [self._choice[0]] * num_envs
        self.sim = self.family.make_sim(self.tasks)
        if tasks is not None:  # refuse a bad one now, not when it happens to be drawn
            for first in range(0, len(self._choice), num_envs):
                some = self._choice[first : first + num_envs]
                self.sim.set_tasks(some + [some[0]] * (num_envs - len(some)))
            self.sim.set_tasks(self.tasks)

    def start(
        self, some: np.ndarray, rngs: Sequence[np.random.Generator], task: Task | None
    ) -> None:
        """Draw tasks for some lanes and start them anew.

        Args:
            some: which, bool [lanes].
            rngs: one a lane; what a lane draws does not depend on the other lanes.
            task: for all of them; None: drawn.
        """
        tasks, seeds = list(self.tasks), []
        for lane in np.flatnonzero(some).tolist():
            drawn = self._choice[rngs[lane].integers(len(self._choice))]
            tasks[lane] = drawn if task is None else dict(task)
            seeds.append(int(rngs[lane].integers(2**31)))
        if tasks != self.tasks:
            self.sim.set_tasks(tasks)
            self.tasks = tasks
        self.sim.reset(seeds[0], some)
        self._steps[some] = 0

    def close(self) -> None:
        """Close what the simulator opened."""
        close = getattr(self.sim, "close", None)
        if close is not None:
            close()

    def observe(self) -> np.ndarray:
        """Observations now, float32 [lanes, obs_dim + ref_dim]."""
        both = np.concatenate([self.sim.obs, self.sim.reference(1)[:, 0]], axis=1)
        return np.clip(both, self.observation_space.low, self.observation_space.high)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One control period; returns reward float64, terminated and truncated, [lanes] each.

        Raises:
            ValueError: actions of another shape, not finite, or not among the choices.
        """
        expected = (len(self._steps), *(self.action_space.shape or ()))
        if action.shape != expected:
            raise ValueError(f"actions have shape {action.shape}, expected {expected}")
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            if not np.isin(action, np.arange(self.action_space.n)).all():
                raise ValueError(
                    f"actions {action} are not among the choices 0..{self.action_space.n - 1}"
                )
            command = action[:, None].astype(np.float32)
        else:
            share = (np.clip(action, -1.0, 1.0) + 1.0) / 2.0
            command = (self._low + share * (self._high - self._low)).astype(np.float32)
        _, reward, terminated, truncated = self.sim.step(command)
        self._steps += 1
        truncated = truncated | (self._steps >= self._max_steps)
        return reward.astype(np.float64), terminated.copy(), truncated

    def _tasks_of(self, split: str) -> list[Task]:
        splits = self.family.splits()
        if split not in splits:
            raise LookupError(
                f"family '{self.family.name}' has no split '{split}' (has: {', '.join(splits)})"
            )
        return splits[split]


class RobotEnv(gymnasium.Env[np.ndarray, Any]):
    """One robot of a family; see the module for what is observed and how it is commanded.

    Args:
        family: its name, or the family itself.
        tasks: to draw from at each start, for instance `[{"payload_kg": 0.3}]`; None: `split`.
        split: of the family: train, validation, in_range, extrapolated, held_out.
        render_mode: None or 'rgb_array'.

    `reset` takes `options={"task": {...}}` for one task of your choice.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25.0}  # noqa: RUF012  (gymnasium's)

    def __init__(
        self,
        family: str | TaskFamily,
        tasks: Sequence[Task] | None = None,
        split: str = "train",
        render_mode: str | None = None,
    ) -> None:
        pictures.prepare(render_mode)
        self.render_mode = render_mode
        self._lanes = Lanes(family, tasks, split, 1)
        self._album = pictures.Album(self._lanes)
        self.metadata = _metadata(self._lanes.robot)
        self.observation_space = self._lanes.observation_space
        self.action_space = self._lanes.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode with a task drawn anew; info holds the task."""
        super().reset(seed=seed)
        self._lanes.start(np.ones(1, bool), [self.np_random], (options or {}).get("task"))
        return self._lanes.observe()[0], {"task": dict(self._lanes.tasks[0])}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance one control period; a lane whose physics diverged counts as terminated."""
        reward, terminated, truncated = self._lanes.step(np.asarray(action)[None])
        obs = self._lanes.observe()[0]
        return obs, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The robot and, as a ghost, its reference; uint8 [height, width, 3]."""
        return None if self.render_mode is None else self._album.frame(0)

    def close(self) -> None:
        """Give the graphics memory back, and close what the family opened."""
        self._album.close()
        self._lanes.close()


class RobotVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Lanes of a family stepped together by MuJoCo's own threads, with SyncVectorEnv's manners.

    Args:
        num_envs: lanes.
        family: its name, or the family itself.
        tasks: to draw from at each start of a lane; None: those of `split`.
        split: of the family.
        render_mode: None or 'rgb_array'.
        autoreset_mode: as in gymnasium: a lane whose episode ended starts anew in the next step,
            in the same step, or only when `reset` is called with a mask.
        max_episode_steps: cuts episodes earlier than the family does.

    A lane's tasks follow from its own seed, as in SyncVectorEnv; where the robot starts is drawn
    for all lanes that start in one step together, and so differs from SyncVectorEnv's.
    """

    def __init__(
        self,
        num_envs: int,
        family: str | TaskFamily,
        tasks: Sequence[Task] | None = None,
        split: str = "train",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        pictures.prepare(render_mode)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._lanes = Lanes(family, tasks, split, num_envs, max_episode_steps)
        self._album = pictures.Album(self._lanes)
        self.metadata = _metadata(self._lanes.robot) | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self._lanes.observation_space
        self.single_action_space = self._lanes.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start lanes anew.

        Args:
            seed: of lane 0, the others follow by one each; or one a lane.
            options: `reset_mask`, bool [num_envs]: only these lanes; `task`: for all of them.
        """
        if isinstance(seed, int):
            super().reset(seed=seed)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} lanes")
        options = options or {}
        some = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if some.shape != (self.num_envs,) or some.dtype != np.bool_ or not some.any():
            raise ValueError(
                f"options['reset_mask'] must be bool, of shape ({self.num_envs},) and name at "
                f"least one lane, got {some}"
            )
        for lane, own in enumerate(seeds):
            if own is not None and some[lane]:
                self._rngs[lane] = seeding.np_random(own)[0]
        self._ended = self._ended & ~some
        infos = self._start(some, {}, options.get("task"))
        return self._lanes.observe(), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all lanes one control period.

        Raises:
            ValueError: actions that do not fit; or, without automatic starts, a lane has ended.
        """
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise ValueError(
                f"the episodes of lanes {np.flatnonzero(self._ended).tolist()} have ended; start "
                f"them anew: reset(options={{'reset_mask': mask}})"
            )
        again = self._ended
        reward, terminated, truncated = self._lanes.step(np.asarray(actions))
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and again.any():
            reward[again], terminated[again], truncated[again] = 0.0, False, False
            infos = self._start(again, infos)
        ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            final = self._lanes.observe()
            for lane in np.flatnonzero(ended).tolist():
                last = {"final_obs": final[lane].copy(), "final_info": {}}
                infos = self._add_info(infos, last, lane)
            infos = self._start(ended, infos)
        else:
            self._ended = ended
        return self._lanes.observe(), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every lane, uint8 [height, width, 3] each."""
        if self.render_mode is None:
            return None
        return tuple(self._album.frame(lane) for lane in range(self.num_envs))

    def close_extras(self) -> None:
        """Give the graphics memory back, and close what the family opened."""
        self._album.close()
        self._lanes.close()

    def _start(
        self, some: np.ndarray, infos: dict[str, Any], task: Task | None = None
    ) -> dict[str, Any]:
        self._lanes.start(some, self._rngs, task)
        for lane in np.flatnonzero(some).tolist():
            infos = self._add_info(infos, {"task": dict(self._lanes.tasks[lane])}, lane)
        return infos


def environment_id(family: str) -> str:
    """`half_cheetah_vel` -> `reptile_agent/HalfCheetahVel-v0`."""
    words = re.findall("[A-Za-z0-9]+", family)
    return f"{NAMESPACE}/{''.join(word[0].upper() + word[1:] for word in words)}-v0"


def register() -> None:
    """Register every family whose environment is not there yet; loads none of them."""
    for name in registry.names():
        if environment_id(name) not in gymnasium.registry:
            gymnasium.register(
                environment_id(name),
                entry_point=f"{__name__}:RobotEnv",
                vector_entry_point=f"{__name__}:RobotVectorEnv",
                kwargs={"family": name},
            )


def _metadata(robot: RobotSpec) -> dict[str, Any]:
    return RobotEnv.metadata | {"render_fps": 1.0 / robot.control_period_s}


register()
