"""One episode in which the robot breaks: with the trained start as it is, and adapting online."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from reptile_agent.meta.collect import drive
from reptile_agent.meta.online import OnlineAdaptation
from reptile_agent.meta.trainer import Trainer
from reptile_agent.task import Task, VecSim

if TYPE_CHECKING:
    from sim.family import MujocoFamily

STAGES = ("before", "fault", "after")
LONGEST_STAGE = 150
"""Control periods of `fault`, at most."""


@dataclass(frozen=True)
class Motion:
    """Where a robot in MuJoCo was, period by period: what a film needs."""

    family: MujocoFamily
    qpos: list[np.ndarray] = field(default_factory=list)
    qvel: list[np.ndarray] = field(default_factory=list)
    reference: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class FaultEpisode:
    """What happened; errors [periods], mean over references, in their unit."""

    fault: Task
    fault_at: int
    """Control period in which the robot broke."""
    after_at: int
    """Control period from which an adaptation's window holds nothing from before the fault."""
    period_s: float
    kept: np.ndarray
    """Tracking error of the start as it was trained."""
    adapted: np.ndarray
    """Tracking error with adaptation."""
    motion: Motion | None
    """Of the adapting robot; None where the family is not in MuJoCo."""

    def stage(self, period: int) -> str:
        """One of STAGES."""
        return STAGES[int(period >= self.fault_at) + int(period >= self.after_at)]

    def means(self) -> dict[str, dict[str, float]]:
        """Mean error by stage, then by method; a robot may begin off its course: that is left out.

        `before` is as long as `fault`.
        """
        begin = 2 * self.fault_at - self.after_at
        ends = {
            "before": (begin, self.fault_at),
            "fault": (self.fault_at, self.after_at),
            "after": (self.after_at, self.kept.size),
        }
        return {
            stage: {
                "the start as it is": float(self.kept[a:b].mean()),
                "adapting": float(self.adapted[a:b].mean()),
            }
            for stage, (a, b) in ends.items()
        }


class Breaking:
    """A simulator whose robot breaks at a set period, and that remembers; implements VecSim.

    Args:
        sim: of one lane.
        fault: the variant that it becomes.
        at: control period.
    """

    def __init__(self, sim: VecSim, fault: Task, at: int) -> None:
        from sim.backends.batch import BatchSim  # mujoco: after the choice of OpenGL

        self._sim, self._fault, self._left = sim, fault, at
        self.num_envs, self.obs = sim.num_envs, sim.obs
        self._mujoco = sim if isinstance(sim, BatchSim) else None
        self.motion = Motion(self._mujoco.family) if self._mujoco else None

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """See `VecSim.reset`."""
        self.obs = self._sim.reset(seed, lanes)
        return self.obs

    def reference(self, horizon: int) -> np.ndarray:
        """See `VecSim.reference`."""
        return self._sim.reference(horizon)

    def set_tasks(self, tasks: list[Task]) -> None:
        """See `VecSim.set_tasks`."""
        self._sim.set_tasks(tasks)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `VecSim.step`."""
        if self._left == 0:
            self._sim.set_tasks([self._fault])
        self._left -= 1
        came = self._sim.step(action)
        self.obs = came[0]
        if self._mujoco and self.motion:
            state = self._mujoco.batch
            self.motion.qpos.append(state.qpos[0].copy())
            self.motion.qvel.append(state.qvel[0].copy())
            self.motion.reference.append(self.reference(1)[0, 0])
        return came


def record(trainer: Trainer, fault: Task, seed: int) -> FaultEpisode:
    """Drive the nominal robot, break it in mid-motion and drive on: twice, on the same course.

    The stages last as long as an adaptation looks back, and half as long again before and after.
    There is no gate and no probation, as in `reptile_agent.meta.evaluate`.

    Raises:
        ValueError: nothing is trained yet, the fault is out of reason, or the robot diverged.
        LookupError: an unknown variation.
    """
    config = trainer.config
    stage = min(config.adaptation.lookback(trainer.agent.learner.segment), LONGEST_STAGE)
    fault_at = stage + stage // 2
    after_at, periods = fault_at + stage, 2 * fault_at + stage

    def run(adaptation: OnlineAdaptation | None) -> tuple[np.ndarray, Motion | None]:
        sim = Breaking(trainer.family.make_sim([{}]), fault, fault_at)
        sim.reset(seed=seed)
        rng = np.random.default_rng(seed)
        rollout = drive(sim, trainer.agent, trainer.params, periods, rng, adaptation=adaptation)
        return rollout.tracking_error[0], sim.motion

    (kept, _), (adapted, motion) = run(None), run(trainer.online())
    period_s = trainer.family.robot.control_period_s
    return FaultEpisode(fault, fault_at, after_at, period_s, kept, adapted, motion)
