"""What MuJoCo families share: an MJCF, its variations, and how a lane starts, moves and is seen."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec
from reptile_agent.task import Planning, Task, VecSim
from sim import fit, splits
from sim.varied import VariedFamily

if TYPE_CHECKING:
    from torch import Tensor

Array = Any
"""What a reward takes: tensors, in training and in the planner's graph. One that keeps to what
NumPy's arrays can do as well spares every step of a simulation the way through torch."""


class Fields(Protocol):
    """Fields of a model, one value per lane."""

    def expand(self, name: str) -> np.ndarray:
        """The field `name` of mjModel, [lanes, ...], to be written into."""
        ...


class OneModel:
    """`Fields` of one model: what is written changes the model itself."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model

    def expand(self, name: str) -> np.ndarray:
        """The field as a view [1, ...]."""
        return attrgetter(name)(self._model)[None]


class MujocoFamily(VariedFamily, ABC):
    """Base of the families in `sim/families/`; see `reptile_agent.task.TaskFamily`."""

    robot: RobotSpec
    folder: Path
    """Where the family's MJCF `<name>.xml` and its `splits.json` lie."""
    substeps: int
    """Physics steps in one control period."""
    episode_steps: int
    """Control periods after which an episode is cut."""
    plan_horizon: int
    """Control periods that a planner should look ahead."""
    foresight_integrator: mujoco.mjtIntegrator | None = None
    """Of the copies that try plans, where the model's own takes too long; None: its own."""
    plan_noise: tuple[float, ...]
    """Standard deviation with which a planner should vary each action, in the action's unit."""
    planning: Planning = Planning()
    """How else it should vary plans, and weigh them."""

    def build(self) -> mujoco.MjSpec:
        """The nominal robot, not yet compiled; by default from `<name>.xml` in the folder."""
        path = self.folder / f"{self.name}.xml"
        try:
            return mujoco.MjSpec.from_file(str(path))
        except ValueError as error:
            raise ValueError(f"family '{self.name}', {path}: {error}") from error

    @cached_property
    def model(self) -> mujoco.MjModel:
        """The nominal robot."""
        spec = self.build()
        # Else MuJoCo puts a lane that diverged back to its pose zero, and nobody notices.
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        model = spec.compile()
        fit.check(self.name, self.robot, model, self.columns, self.substeps)
        if type(self).mixing is MujocoFamily.mixing:
            fit.check_actuators(self.name, self.robot, model)
        return model

    @cached_property
    def foresight_model(self) -> mujoco.MjModel:
        """The nominal robot as plans are tried on it."""
        if self.foresight_integrator is None:
            return self.model
        model = copy(self.model)
        model.opt.integrator = self.foresight_integrator
        return model

    def splits(self) -> dict[str, list[Task]]:
        """Frozen tasks by split."""
        path = self.folder / "splits.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"family '{self.name}' has no {path}; draw and freeze its splits: "
                f"python -m sim.freeze_splits {self.name}"
            )
        found = splits.read(path, self.variations)
        try:
            for tasks in found.values():
                self.check(tasks)
            self.check_inside(found["train"])
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"{path} was frozen for other ranges ({error}); freeze it anew, which voids "
                f"older results: python -m sim.freeze_splits {self.name}"
            ) from error
        return found

    def make_sim(self, tasks: list[Task]) -> VecSim:
        """All tasks side by side on MuJoCo's own thread pool; what diverges starts anew."""
        from sim.backends.batch import BatchSim

        return BatchSim(self, tasks, unstable="terminate")

    @cached_property
    def columns(self) -> np.ndarray:
        """What is observed: columns of the state, positions then velocities, int [obs_dim].

        An observation is a choice of columns and a control a product with `mixing`, so that every
        backend, on whatever device, can do both without asking the family.
        """
        return np.arange(len(self.robot.observations))

    def mixing(self, tasks: list[Task]) -> np.ndarray:
        """What turns an action into actuator controls, float64 [lanes, nu, act_dim].

        By default the action itself; override it where units differ, plugs are exchanged, or a
        joint is dead.
        """
        return np.broadcast_to(
            np.eye(len(self.robot.actions)), (len(tasks), *2 * (len(self.robot.actions),))
        )

    def sensing(self, tasks: list[Task]) -> tuple[np.ndarray, np.ndarray] | None:
        """What the sensors do to an observation; None: they are perfect.

        Returns:
            Standard deviation of the noise, float [lanes, obs_dim] in each signal's unit, and
            delay in whole control periods, int [lanes].
        """
        return None

    def terminated(self, obs: np.ndarray) -> np.ndarray:
        """Lanes whose episode is over for good (fallen over), bool [lanes]; obs [lanes, obs_dim].

        Only comparisons and arithmetic, so that it works on tensors too.
        """
        return np.zeros(len(obs), bool)

    @abstractmethod
    def apply(self, fields: Fields, tasks: list[Task]) -> None:
        """Write the tasks' values into the per-lane fields, starting from the nominal model."""

    def initial_state(
        self, rng: np.random.Generator, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at the start of an episode, [tasks, nq] and [tasks, nv].

        By default the pose that the model is built in, at rest.
        """
        return np.tile(self.model.qpos0, (len(tasks), 1)), np.zeros((len(tasks), self.model.nv))

    @abstractmethod
    def draw_course(self, rng: np.random.Generator, tasks: list[Task]) -> dict[str, np.ndarray]:
        """What each lane is to follow in this episode: parameters for `course`, [lanes, ...]."""

    @abstractmethod
    def course(self, parameters: dict[str, np.ndarray], time_s: np.ndarray) -> np.ndarray:
        """The reference at given times, float32 [lanes, times, ref_dim].

        Args:
            parameters: of `draw_course`.
            time_s: since the episode's start, [lanes, times], or [1, times] for all lanes alike.
        """

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """Values of the held-out kind; by default one of `held_out`, away from its nominal value.

        Without `held_out` there is no other kind, and that split is drawn like in_range.
        """
        if not self.held_out:
            return {}
        chosen = self.held_out[rng.integers(len(self.held_out))]
        return {chosen.name: chosen.draw_beyond(rng)}

    @abstractmethod
    def feasible(self, task: Task) -> bool:
        """Whether a controller could solve the task, by a stated static test."""

    @abstractmethod
    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """See `TaskFamily.reward`."""
