"""Commands that are on their way to delayed actuators when an episode starts."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import mujoco
import numpy as np


def position_servos(model: mujoco.MjModel) -> list[tuple[slice, int]]:
    """The delay line of every delayed position servo, and the position that it steers.

    MuJoCo starts with lines full of 0, so that for the length of the delay every servo would run
    to its zero. Before the start a servo was told to stay where it is.

    Returns:
        For each: where its line lies in a row of `history`, and its joint's column of `qpos`.
    """
    servo = (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT) & (
        model.actuator_biasprm[:, 1] < 0
    )
    lines = []
    for actuator in np.flatnonzero(servo & (model.actuator_history[:, 0] > 0)):
        samples = int(model.actuator_history[actuator, 0])
        # Two counters and the times of all samples come before their values.
        first = int(model.actuator_historyadr[actuator]) + 2 + samples
        joint = int(model.actuator_trnid[actuator, 0])
        lines.append((slice(first, first + samples), int(model.jnt_qposadr[joint])))
    return lines
