"""VecSim on `mujoco.batch.Batch`: one model per lane, stepped in lockstep by MuJoCo's C++ pool."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Literal

import mujoco
import numpy as np
from mujoco import batch

from reptile_agent.spec import limits
from reptile_agent.task import Task, objective_of
from sim.backends import checks
from sim.backends.delay_lines import position_servos
from sim.backends.foresight import Foresight
from sim.family import MujocoFamily
from sim.sensors import Sensors

log = logging.getLogger(__name__)

LOOK_AHEAD = 64
"""Control periods for which references are computed at once: one by one they cost more than the
physics of a small batch."""


class UnstableError(ValueError):
    """A lane's physics diverged: its task, or what it was commanded, is out of reason."""


class BatchSim:
    """Lanes of one family, each its own variant; implements `reptile_agent.task.VecSim`.

    Args:
        family: what is simulated.
        tasks: one variant per lane.
        threads: of the pool; default: the processors this process may use.
        unstable: what becomes of a lane whose physics diverged. It starts anew in either case and
            the others go on; `raise` also raises UnstableError, once all have stepped, and
            `terminate` logs it and ends the lane's episode in its last sound state.
        model: the family's, with other options; None: as it is.
        believed: what `foresee` tries plans on, one variant per lane; None: on what the lanes are.
    """

    def __init__(
        self,
        family: MujocoFamily,
        tasks: list[Task],
        threads: int | None = None,
        unstable: Literal["raise", "terminate"] = "raise",
        model: mujoco.MjModel | None = None,
        believed: list[Task] | None = None,
    ) -> None:
        checks.some_tasks(family.name, tasks)
        if believed is not None:
            checks.a_task_per_lane(believed, len(tasks))
        self._believed = believed
        self.family, self.num_envs, self.unstable = family, len(tasks), unstable
        threads = threads or min(len(os.sched_getaffinity(0)), self.num_envs)
        self.batch = batch.Batch(model or family.model, self.num_envs, threads)
        self._low, self._high = limits(family.robot.actions)
        self._allowed = np.zeros((self.num_envs, self._low.size), np.float32)
        self._ctrl, self._columns = self.batch.ctrl, _state_columns(family)
        self._delay_lines = position_servos(family.model)
        self._reward = of_arrays(family, family.reward)
        self.objective = of_arrays(family, objective_of(family))
        """What plans are weighed by, of arrays, float32 [lanes]."""
        self._steps = np.zeros(self.num_envs, int)
        self._ahead = np.zeros((self.num_envs, 0, len(family.robot.references)), np.float32)
        self._at = 0
        self._sensors: Sensors | None = None
        self._foresight: dict[tuple[int, bool], Foresight] = {}
        self.course: dict[str, np.ndarray] | None = None
        self.set_tasks(tasks)
        self.reset(seed=0)

    def set_tasks(self, tasks: list[Task]) -> None:
        """Change the variants in mid-motion; positions, velocities and courses stay.

        A goal that is part of the task and followed as a course changes at the next `reset`.

        Raises:
            ValueError: another number of tasks than lanes, or a value out of reason.
            LookupError: an unknown variation.
        """
        checks.a_task_per_lane(tasks, self.num_envs)
        self.family.check(tasks)
        self.tasks = [dict(task) for task in tasks]
        self.family.apply(self.batch, self.tasks)
        self.batch.set_const()
        self._foresight.clear()
        self._mixing = np.ascontiguousarray(self.family.mixing(self.tasks))
        expected = (self.num_envs, self._ctrl.shape[1], self._low.size)
        checks.mixing_shape(self.family.name, self._mixing.shape, expected)
        self._gains = _diagonals(self._mixing)
        sensing = self.family.sensing(self.tasks)
        if sensing is None:
            self._sensors = None
        elif self._sensors is None:
            self._sensors = Sensors(*sensing)
            if self.course is not None:  # in mid-episode
                self._sensors.reset(self.state(), seed=0)
        else:
            self._sensors.change(*sensing)

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """Start lanes anew; returns observations float32 [num_envs, obs_dim].

        Args:
            seed: of initial states, courses and sensor noise. A lane starts the same way whichever
                others start with it.
            lanes: which, bool [num_envs]; None: all. The others' motion stays.
        """
        some = np.ones(self.num_envs, bool) if lanes is None else np.asarray(lanes, bool)
        rng = np.random.default_rng(seed)
        self._restart(some, rng)
        if self._sensors is None:
            self.obs = self.state()
        else:
            self.obs = self._sensors.reset(self.state(), seed, some)
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` periods, float32 [num_envs, horizon, ref_dim]."""
        self._look_ahead(horizon)
        return self._ahead[:, self._at : self._at + horizon].copy()

    def state(self) -> np.ndarray:
        """What perfect sensors would see now, float32 [num_envs, obs_dim]."""
        return np.array(self.batch.state[:, self._columns], np.float32)

    def command(self, action: np.ndarray) -> None:
        """Set the actuators' controls to an action [num_envs, act_dim], within its limits."""
        np.maximum(action, self._low, out=self._allowed)
        np.minimum(self._allowed, self._high, out=self._allowed)
        if self._gains is None:
            np.einsum("lua,la->lu", self._mixing, self._allowed, out=self._ctrl)
        else:
            np.multiply(self._allowed, self._gains, out=self._ctrl)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance one control period; see `VecSim.step`.

        Raises:
            ValueError: an action is not finite or of another shape; nothing has moved then.
            UnstableError: a lane diverged; the lane, its task and its step are named.
        """
        checks.action_shape(action.shape, self.num_envs, self._low.size)
        checks.finite_action(action)
        self._look_ahead(1)
        reference = self._ahead[:, self._at]
        self.command(action)
        before = self.state()
        self.batch.step(nstep=self.family.substeps)
        after = self.state()
        self._steps += 1
        self._at += 1
        diverged, trouble = None, ""
        if not np.vdot(after, after) < mujoco.mjMAXVAL**2:
            diverged, trouble = self._start_diverged_anew(before, after)
        reward = self._reward(before, np.asarray(action, np.float32), after, reference)
        terminated = self.family.terminated(after)
        if diverged is not None:
            terminated = terminated | diverged
        truncated = self._steps >= self.family.episode_steps
        self.obs = after if self._sensors is None else self._sensors.read(after)
        if trouble and self.unstable == "raise":
            raise UnstableError(trouble)
        return self.obs, reward, terminated, truncated

    def foresee(self, actions: np.ndarray) -> np.ndarray:
        """Mean objective per period of plans; see `ForesightSim.foresee`."""
        return self._copied(actions.shape[1], exact=False).value(actions)

    def follow(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where plans lead; see `ForesightSim.follow`."""
        return self._copied(actions.shape[1], exact=True).course(actions)

    def _copied(self, plans: int, exact: bool) -> Foresight:
        """Copies of all lanes, so many of each; kept until the tasks change."""
        key = (plans, exact)
        if key not in self._foresight:
            model = None if exact else self.family.foresight_model
            tasks = self.tasks if exact or self._believed is None else self._believed
            each = [task for task in tasks for _ in range(plans)]
            copies = BatchSim(self.family, each, unstable="terminate", model=model)
            self._foresight[key] = Foresight(self, copies)
        return self._foresight[key]

    def _restart(self, some: np.ndarray, rng: np.random.Generator) -> None:
        """Put lanes in an initial state, with a course."""
        qpos, qvel = self.family.initial_state(rng, self.tasks)
        checks.finite_start(self.family.name, qpos, qvel)
        ids = None if some.all() else np.flatnonzero(some)
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.batch.qpos[some], self.batch.qvel[some] = qpos[some], qvel[some]
        for line, joint in self._delay_lines:
            self.batch.history[some, line] = qpos[some, joint, None]
        self.batch.forward(ids)
        course = self.family.draw_course(rng, self.tasks)
        if self.course is None:
            self.course = course
        for name, value in course.items():
            self.course[name][some] = value[some]
        self._steps[some] = 0
        self._ahead[some, self._at :] = self._course(some, self._ahead.shape[1] - self._at)

    def _look_ahead(self, periods: int) -> None:
        """Have references for so many periods to come."""
        if self._at + periods > self._ahead.shape[1]:
            every = np.ones(self.num_envs, bool)
            self._ahead, self._at = self._course(every, max(periods, LOOK_AHEAD)), 0

    def _course(self, some: np.ndarray, periods: int) -> np.ndarray:
        """References of some lanes from the next period on, float32 [some, periods, ref_dim]."""
        steps = self._steps[some, None] + 1 + np.arange(periods)
        parameters = {name: value[some] for name, value in (self.course or {}).items()}
        return self.family.course(parameters, steps * self.family.robot.control_period_s)

    def _start_diverged_anew(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, str]:
        """Put diverged lanes back to a start, and `after` to what was `before`.

        Returns:
            The lanes, bool [num_envs], and what to say of the first.
        """
        bad = ~(np.abs(after) < mujoco.mjMAXVAL).all(axis=1)
        if not bad.any():
            return bad, ""
        lane = int(np.argmax(bad))
        trouble = checks.diverged(
            self.family.name, lane, int(self._steps[lane]), self.tasks[lane], after[lane]
        )
        log.warning("%s (%d lanes in all; they start anew)", trouble, bad.sum())
        self._restart(bad, np.random.default_rng(self._steps.max()))
        after[bad] = before[bad]
        return bad, trouble


def _state_columns(family: MujocoFamily) -> slice | np.ndarray:
    """Where the family's columns lie in a row of the batch's state; a slice where they can."""
    # A row begins with the time, then come positions and velocities.
    columns = np.asarray(family.columns) + mujoco.mj_stateSize(
        family.model, int(mujoco.mjtState.mjSTATE_TIME)
    )
    in_a_row = columns.size and (np.diff(columns) == 1).all()
    return slice(int(columns[0]), int(columns[-1]) + 1) if in_a_row else columns


def of_arrays(family: MujocoFamily, value: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The family's reward or objective `value`, float32 [lanes] of arrays.

    It is torch's; where NumPy makes the same of it, which is tried, the way through torch is
    spared.
    """
    import torch

    roles = family.robot.reward_signals.values()

    def by_torch(*arrays: np.ndarray) -> np.ndarray:
        return value(*map(torch.from_numpy, arrays)).numpy()

    def by_numpy(*arrays: np.ndarray) -> np.ndarray:
        return np.asarray(value(*arrays), np.float32)

    rng = np.random.default_rng(0)
    tried = [rng.standard_normal((3, len(role)), dtype=np.float32) for role in roles]
    wanted = by_torch(*tried)
    alone = [by_torch(*(array[lane] for array in tried)) for lane in range(3)]
    if wanted.shape != (3,) or not np.allclose(wanted, alone, 1e-4, 1e-5, equal_nan=True):
        raise ValueError(
            f"family '{family.name}': {value.__name__} must give each lane its own, whatever the "
            f"leading axes; reduce over the last axis alone, as .mean(-1) does"
        )
    try:
        found = by_numpy(*tried)
    except (AttributeError, TypeError, ValueError):
        return by_torch
    same = found.shape == wanted.shape and np.allclose(found, wanted, 1e-4, 1e-5, equal_nan=True)
    return by_numpy if same else by_torch


def _diagonals(mixing: np.ndarray) -> np.ndarray | None:
    """Diagonals [lanes, nu] if every lane's matrix is diagonal: then a product is enough."""
    if mixing.shape[1] != mixing.shape[2]:
        return None
    gains = np.ascontiguousarray(np.einsum("luu->lu", mixing))
    return gains if np.count_nonzero(mixing) == np.count_nonzero(gains) else None
