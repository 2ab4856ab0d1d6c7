"""A copy of a bundle at 200 Hz, two of whose commands say which measurement they come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.fault_bundles import edit_manifest, replace_file
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.spec import RobotSpec

ECHOED = 2
"""Joints: two coordinates of a point on a circle, whose angle is the number of the message."""


def echoed_columns(robot: RobotSpec) -> dict[int, int]:
    """Position commands that can echo a measurement: column of the action -> of the observation.

    Raises:
        ValueError: the robot has too few position servos for that.
    """
    places = [(signal.joint, signal.quantity) for signal in robot.observations]
    found = {
        column: places.index((action.joint, "position"))
        for column, action in enumerate(robot.actions)
        if action.quantity == "position" and (action.joint, "position") in places
    }
    if len(found) < ECHOED:
        raise ValueError(f"robot '{robot.name}' has not {ECHOED} position servos; give another")
    return dict(list(found.items())[:ECHOED])


def write(source: Path, folder: Path, period_s: float) -> dict[int, int]:
    """Write the copy; returns what is echoed, as `echoed_columns` does.

    All is planned as before, and the planned values of two commands are replaced at the very end
    of the graph by what was measured of their joints. The control period is another one, which
    makes the model wrong and costs no more and no less time.

    Raises:
        BundleError: the source is not to be believed.
        ValueError: its robot has too few position servos.
    """
    robot = Bundle.load(source).manifest.robot
    columns = echoed_columns(robot)
    shutil.copytree(source, folder)
    replace_file(folder, "act.onnx", _with_echo(onnx.load(source / "act.onnx"), columns, robot))
    edit_manifest(folder, lambda document: document["robot"].update(control_period_s=period_s))
    return columns


def _with_echo(model: onnx.ModelProto, columns: dict[int, int], robot: RobotSpec) -> bytes:
    """The graph with `action = where(echoed, obs[columns], planned)`."""
    graph, count = model.graph, len(robot.actions)
    index = np.array([columns.get(at, 0) for at in range(count)], np.int64)
    echoed = np.array([at in columns for at in range(count)])
    for node in graph.node:
        for at, name in enumerate(node.output):
            if name == "action":
                node.output[at] = "echo.planned"
        for at, name in enumerate(node.input):
            if name == "action":
                node.input[at] = "echo.planned"
    graph.initializer.extend(
        [
            numpy_helper.from_array(index, "echo.columns"),
            numpy_helper.from_array(echoed, "echo.mask"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", ["obs", "echo.columns"], ["echo.measured"]),
            helper.make_node("Where", ["echo.mask", "echo.measured", "echo.planned"], ["action"]),
        ]
    )
    return model.SerializeToString()
