"""Whether a legged robot can stand still: a linear programme over the forces on its feet."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import mujoco
import numpy as np
from scipy.optimize import linprog

FRICTION_SHARE = 0.7
"""Of the friction that standing may use; the rest is for moving."""


def stands(model: mujoco.MjModel, qpos: np.ndarray, feet: list[int], torque: np.ndarray) -> bool:
    """Whether forces on the feet exist that hold the robot in a pose at rest.

    They must carry its weight, stay inside their friction cones (in pyramids inside the cones) and
    ask of no joint more than it can hold.

    Args:
        model: a free trunk first, then the joints.
        qpos: the pose.
        feet: geoms that touch the floor, which is a plane across the z axis.
        torque: what each joint can hold in either direction, N m [joints].
    """
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)

    jacobians = np.zeros((len(feet), 3, model.nv))
    for jacobian, foot in zip(jacobians, feet, strict=True):
        body = model.geom_bodyid[foot]
        mujoco.mj_jac(model, data, jacobian, None, data.geom_xpos[foot], body)
    # At rest bias = torque + transposed Jacobian x force; the six rows of the trunk have no motor.
    lever = jacobians.reshape(-1, model.nv).T
    trunk, joints = slice(0, 6), slice(6, model.nv)

    bias = data.qfrc_bias[joints]
    rows, limits = [lever[joints], -lever[joints]], [bias + torque, torque - bias]
    for number, foot in enumerate(feet):
        slope = FRICTION_SHARE * model.geom_friction[foot, 0] / np.sqrt(2)
        cone = np.zeros((4, 3 * len(feet)))
        cone[:, 3 * number : 3 * number + 2] = [[1, 0], [-1, 0], [0, 1], [0, -1]]
        cone[:, 3 * number + 2] = -slope
        rows.append(cone)
        limits.append(np.zeros(4))
    found = linprog(
        np.zeros(3 * len(feet)),
        A_ub=np.concatenate(rows),
        b_ub=np.concatenate(limits),
        A_eq=lever[trunk],
        b_eq=data.qfrc_bias[trunk],
        bounds=[(None, None), (None, None), (0, None)] * len(feet),
    )
    return bool(found.success)
