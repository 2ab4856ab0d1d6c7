"""Gravity where the floor is not level: MuJoCo's floor stays, and gravity turns."""

from __future__ import annotations

import numpy as np

GRAVITY_M_S2 = 9.81


def on_slope(roll_rad: np.ndarray | float, pitch_rad: np.ndarray | float) -> np.ndarray:
    """Gravity in the frame of a tilted floor, m/s^2 [..., 3].

    A positive pitch lets things roll towards x, a positive roll towards y.
    """
    cos, sin = np.cos, np.sin
    roll, pitch = np.broadcast_arrays(roll_rad, pitch_rad)
    down = [sin(pitch) * cos(roll), sin(roll), -cos(pitch) * cos(roll)]
    return GRAVITY_M_S2 * np.stack(down, axis=-1)
