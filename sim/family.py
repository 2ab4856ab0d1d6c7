"""What MuJoCo families share: an MJCF, its variations, and how a lane starts, moves and is seen."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec, limits
from reptile_agent.task import Task, VecSim
from sim import splits
from sim.variations import Variation

if TYPE_CHECKING:
    from mujoco.batch import Batch
    from torch import Tensor


class MujocoFamily(ABC):
    """Base of the families in `sim/families/`; see `reptile_agent.task.TaskFamily`."""

    name: str
    robot: RobotSpec
    variations: tuple[Variation, ...]
    folder: Path
    """Where the family's MJCF `<name>.xml` and its `splits.json` lie."""
    substeps: int
    """Physics steps in one control period."""
    episode_steps: int
    """Control periods after which an episode is cut."""
    plan_horizon: int
    """Control periods that a planner should look ahead."""
    plan_noise: tuple[float, ...]
    """Standard deviation with which a planner should vary each action, in the action's unit."""

    @cached_property
    def model(self) -> mujoco.MjModel:
        """The nominal robot."""
        spec = mujoco.MjSpec.from_file(str(self.folder / f"{self.name}.xml"))
        # Else MuJoCo puts a lane that diverged back to its pose zero, and nobody notices.
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        model = spec.compile()
        period_s = self.substeps * model.opt.timestep
        if model.nu != len(self.robot.actions):
            raise ValueError(
                f"{self.name}.xml has {model.nu} actuators, its RobotSpec {len(self.robot.actions)}"
                f" actions; name each actuator once in both"
            )
        if abs(period_s - self.robot.control_period_s) > 1e-9:
            raise ValueError(
                f"{self.name}: {self.substeps} substeps of {model.opt.timestep} s are not the "
                f"control period of {self.robot.control_period_s} s"
            )
        return model

    def splits(self) -> dict[str, list[Task]]:
        """Frozen tasks by split."""
        return splits.read(self.folder / "splits.json")

    def make_sim(self, tasks: list[Task]) -> VecSim:
        """All tasks side by side on MuJoCo's own thread pool."""
        from sim.backends.batch import BatchSim

        return BatchSim(self, tasks)

    def describe(self) -> list[dict[str, Any]]:
        """The variations as rows."""
        return [asdict(v) for v in self.variations]

    def check(self, tasks: list[Task]) -> None:
        """Refuse tasks that this family does not know.

        Raises:
            LookupError: a variation has another name.
            ValueError: a value is outside its widest range, or not finite.
        """
        known = {v.name: v.beyond for v in self.variations}
        known |= {name: (0.0, 1.0) for name in self.held_out_names}
        for task in tasks:
            for name, value in task.items():
                if name not in known:
                    raise LookupError(
                        f"family '{self.name}' has no variation '{name}' "
                        f"(there are: {', '.join(sorted(known))})"
                    )
                low, high = known[name]
                if not low <= value <= high:
                    raise ValueError(
                        f"variation '{name}' of family '{self.name}' is {value}, outside its range "
                        f"{low}..{high}"
                    )

    def observe(self, batch: Batch) -> np.ndarray:
        """Observations of all lanes, float32 [lanes, obs_dim]: positions, then velocities."""
        return np.concatenate([batch.qpos, batch.qvel], axis=1, dtype=np.float32)

    def command(self, action: np.ndarray, tasks: list[Task]) -> np.ndarray:
        """Actuator controls of an action, clipped to the action limits; [lanes, nu]."""
        low, high = limits(self.robot.actions)
        return np.clip(action, low, high)

    held_out_names: tuple[str, ...] = ()
    """Variations that only the split held_out has."""

    @abstractmethod
    def apply(self, batch: Batch, tasks: list[Task]) -> None:
        """Write the tasks' values into the per-lane fields, starting from the nominal model."""

    @abstractmethod
    def initial_state(self, rng: np.random.Generator, lanes: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at the start of an episode, [lanes, nq] and [lanes, nv]."""

    @abstractmethod
    def draw_course(self, rng: np.random.Generator, lanes: int) -> dict[str, np.ndarray]:
        """What the lanes are to follow in this episode: parameters for `course`."""

    @abstractmethod
    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The reference at given times, float32 [lanes, times, ref_dim]; time_s [times]."""

    @abstractmethod
    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """Values of the held-out kind."""

    @abstractmethod
    def feasible(self, task: Task) -> bool:
        """Whether a controller could solve the task, by a stated static test."""

    @abstractmethod
    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """See `TaskFamily.reward`."""
