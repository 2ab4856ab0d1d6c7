"""The robot behind the topics: one simulated variant that obeys, holds still and breaks.

Knows nothing of ROS and nothing of wall-clock time.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from reptile_agent.task import Task, TaskFamily
from sim.backends.batch import BatchSim, UnstableError
from sim.family import MujocoFamily


@dataclass(frozen=True)
class JointReading:
    """What all observed joints measure now, each list in the order of `names`, SI units."""

    names: list[str]
    position: list[float]
    velocity: list[float]
    effort: list[float]
    """Empty unless an action of the robot is an effort."""


class SimulatedRobot:
    """One lane of a family's simulator.

    Args:
        family: the robot, as `sim.registry.get` gives it.
        task: the variant to start as.
        seed: of the initial state.
        tick_s: time that one `tick` lasts; a multiple of the model's time step.

    Raises:
        TypeError: the family does not run on MuJoCo.
        ValueError: tick_s is no multiple of the time step, or a value of the task is not finite.
        LookupError: the family has no such variation.
    """

    def __init__(self, family: TaskFamily, task: Task, seed: int, tick_s: float) -> None:
        if not isinstance(family, MujocoFamily):
            raise TypeError(f"family '{family.name}' is no sim.family.MujocoFamily; take one")
        timestep = family.model.opt.timestep
        self._substeps = round(tick_s / timestep)
        if self._substeps < 1 or abs(self._substeps * timestep - tick_s) > 1e-6 * tick_s:
            rates = ', '.join(f'{1 / (n * timestep):g}' for n in (1, 2, 4, 10))
            raise ValueError(
                f'a rate of {1 / tick_s:g} Hz is no whole number of physics steps of {timestep} s '
                f'apart; set publish_rate_hz to one that is, like {rates}'
            )
        sim = family.make_sim([task])
        if not isinstance(sim, BatchSim):
            raise TypeError(f"family '{family.name}' makes a {type(sim).__name__}, not a BatchSim")
        self.family, self._sim, self._seed = family, sim, seed
        self._effort_dofs = self._find_effort_dofs()
        # A Batch fills in a field only from its first use on.
        self._actuator_force = sim.batch.qfrc_actuator
        self._start()

    @property
    def task(self) -> Task:
        """The variant in force."""
        return dict(self._sim.tasks[0])

    def command(self, action: np.ndarray) -> None:
        """Obey an action `[act_dim]` from the next tick on; the family's limits are applied."""
        self._action = np.asarray(action, np.float64)

    def hold(self) -> None:
        """Stay: position servos keep what is measured now; efforts and velocities become zero."""
        columns = self.family.robot.servo_columns()
        measured = self._sim.state()[0].astype(np.float64)
        self._action = np.where(columns >= 0, measured[columns], 0.0)

    def tick(self) -> None:
        """Let tick_s pass.

        Raises:
            UnstableError: the physics diverged.
        """
        batch = self._sim.batch
        self._sim.command(self._action[None])
        batch.step(nstep=self._substeps, stage=mujoco.mjtStage.mjSTAGE_VEL)
        if not (np.isfinite(batch.qpos).all() and np.isfinite(batch.qvel).all()):
            raise UnstableError(
                f"the physics of '{self.family.name}' diverged with task {self.task}; "
                'inject values within the ranges that the family describes'
            )

    def read(self) -> JointReading:
        """All observed joints; NaN where the robot does not measure a quantity."""
        observed = self._sim.state()[0].tolist()
        names = [signal.name for signal in self.family.robot.observations]
        by_name = dict(zip(names, observed))
        joints = list(self.family.robot.observed_joints)
        return JointReading(
            names=joints,
            position=[by_name.get(f'{joint}.position', np.nan) for joint in joints],
            velocity=[by_name.get(f'{joint}.velocity', np.nan) for joint in joints],
            effort=self._actuator_force[0, self._effort_dofs].tolist(),
        )

    def inject(self, names: list[str], values: list[float]) -> None:
        """Set variations in mid-motion; the others stay as they are. On an error nothing changes.

        Raises:
            ValueError: the lists do not match, a name comes twice, or a value is not finite.
            LookupError: the family has no such variation.
        """
        if len(names) != len(values) or len(set(names)) != len(names):
            raise ValueError(
                f'{len(names)} names {names} and {len(values)} values; give each name once, with '
                'one value'
            )
        before = self.task
        try:
            self._sim.set_tasks([{**before, **dict(zip(names, values))}])
        except (LookupError, ValueError):
            self._sim.set_tasks([before])
            raise

    def reset(self) -> None:
        """Back to the initial state, and to the nominal variant."""
        self._sim.set_tasks([{}])
        self._start()

    def _start(self) -> None:
        self._sim.reset(self._seed)
        self.hold()

    def _find_effort_dofs(self) -> np.ndarray:
        """Degree of freedom of each observed joint, int [joints]; empty without effort actions."""
        if not any(signal.quantity == 'effort' for signal in self.family.robot.actions):
            return np.empty(0, int)
        model = self.family.model
        return np.array([model.joint(j).dofadr[0] for j in self.family.robot.observed_joints])
