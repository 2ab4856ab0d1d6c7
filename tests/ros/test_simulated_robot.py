"""The robot behind mujoco_robot's topics."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("reptile_agent_mujoco", reason="ros2_ws is not sourced; run `make test`")

from reptile_agent_mujoco.simulated_robot import SimulatedRobot

from sim import registry


def test_a_robot_driven_by_effort_reads_the_effort_its_motor_makes() -> None:
    robot = SimulatedRobot(registry.get("cartpole"), {"gain": 0.8}, seed=0, tick_s=0.01)
    robot.command(np.array([5.0]))
    robot.tick()
    reading = robot.read()
    assert reading.names == ["slider", "hinge"]
    assert reading.effort == pytest.approx([4.0, 0.0])
    robot.hold()
    robot.tick()
    assert robot.read().effort == pytest.approx([0.0, 0.0])


def test_a_refused_fault_changes_nothing() -> None:
    robot = SimulatedRobot(registry.get("arm"), {"payload_kg": 0.1}, seed=0, tick_s=0.01)
    with pytest.raises(LookupError, match="payload_lb"):
        robot.inject(["friction", "payload_lb"], [2.0, 1.0])
    assert robot.task == {"payload_kg": 0.1}
    robot.inject(["friction"], [2.0])
    assert robot.task == {"payload_kg": 0.1, "friction": 2.0}


def test_reset_is_the_initial_state_and_the_robot_as_built() -> None:
    robot = SimulatedRobot(registry.get("arm"), {}, seed=3, tick_s=0.01)
    start = robot.read()
    robot.inject(["payload_kg"], [0.3])
    robot.command(np.full(5, 0.5))
    for _ in range(20):
        robot.tick()
    assert robot.read() != start
    robot.reset()
    assert robot.read() == start
    assert robot.task == {}
