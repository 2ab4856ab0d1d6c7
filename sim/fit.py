"""Whether a family's signals fit its model: a joint under another's name would go unnoticed."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import mujoco
import numpy as np

from reptile_agent.spec import RobotSpec


def check(
    family: str, robot: RobotSpec, model: mujoco.MjModel, columns: np.ndarray, substeps: int
) -> None:
    """Refuse a model that cannot be this robot.

    Args:
        family: whose, for the message.
        robot: the signals.
        model: the nominal model.
        columns: of the state, observed one after the other.
        substeps: physics steps in a control period.

    Raises:
        ValueError: there are no actuators, an observation is not where it is said to be, or the
            time step does not divide the control period.
    """
    if not model.nu:
        raise ValueError(
            f"the model of family '{family}' has no actuators, so nothing could move it; "
            f"add an <actuator> section"
        )
    if columns.size and columns.max() >= model.nq + model.nv:
        raise ValueError(
            f"family '{family}' observes column {columns.max()} of the state, its "
            f"model has {model.nq} positions and {model.nv} velocities"
        )
    if len(columns) != len(robot.observations):
        raise ValueError(
            f"family '{family}' names {len(robot.observations)} observations and reads "
            f"{len(columns)} columns of the state"
        )
    named = _columns_by_name(model)
    for signal, column in zip(robot.observations, columns.tolist()):
        if named.get(column, signal.name) != signal.name:
            raise ValueError(
                f"family '{family}' calls an observation '{signal.name}' that is "
                f"'{named[column]}' in its model; name and order robot.observations as the model "
                f"does (positions, then velocities), or override columns"
            )
    period_s = substeps * model.opt.timestep
    if abs(period_s - robot.control_period_s) > 1e-9:
        raise ValueError(
            f"{family}: {substeps} substeps of {model.opt.timestep} s are not the "
            f"control period of {robot.control_period_s} s"
        )


def check_actuators(family: str, robot: RobotSpec, model: mujoco.MjModel) -> None:
    """Refuse actuators that are not the robot's actions one by one, where nothing mixes them.

    Raises:
        ValueError: there are more or fewer, or they move other joints.
    """
    actions = [signal.joint for signal in robot.actions]
    moved = [
        model.joint(model.actuator_trnid[i, 0]).name
        if int(model.actuator_trntype[i]) == int(mujoco.mjtTrn.mjTRN_JOINT)
        else None
        for i in range(model.nu)
    ]
    other = [a for a, joint in zip(actions, moved) if joint not in (None, a)]
    if len(actions) != model.nu or other:
        raise ValueError(
            f"family '{family}' has the actions {actions}, its model's actuators move {moved}; "
            f"name and order robot.actions as the model does, or override mixing"
        )


def _columns_by_name(model: mujoco.MjModel) -> dict[int, str]:
    """Columns of the state that are a joint's own; a free joint's have a family's names."""
    scalar = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    named = {}
    for number in range(model.njnt):
        if int(model.jnt_type[number]) in scalar:
            name = model.joint(number).name
            named[int(model.jnt_qposadr[number])] = f"{name}.position"
            named[model.nq + int(model.jnt_dofadr[number])] = f"{name}.velocity"
    return named
