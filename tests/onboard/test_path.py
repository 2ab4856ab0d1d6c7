"""Paths: through their points, smooth where velocities say so, still at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.onboard.path import Path

TIMES_S = np.array([0.0, 1.0, 3.0])
VALUES = np.array([[0.0, 1.0], [2.0, 1.0], [2.0, -3.0]])


def test_without_velocities_it_is_straight_lines():
    path = Path(TIMES_S, VALUES)
    assert path.at(np.array([0.5, 2.0])) == pytest.approx(np.array([[1.0, 1.0], [2.0, -1.0]]))


def test_it_stays_at_its_ends():
    for slopes in (None, np.ones_like(VALUES)):
        path = Path(TIMES_S, VALUES, slopes)
        assert path.at(np.array([-5.0, 99.0])) == pytest.approx(VALUES[[0, 2]])


def test_with_velocities_it_follows_a_cubic_to_rounding():
    times_s = np.array([0.0, 0.7, 2.0])
    cubic, slope = (lambda t: t**3 - 2 * t), (lambda t: 3 * t**2 - 2)
    path = Path(times_s, cubic(times_s)[:, None], slope(times_s)[:, None])
    at = np.linspace(0.0, 2.0, 41)
    assert path.at(at)[:, 0] == pytest.approx(cubic(at), abs=1e-12)
