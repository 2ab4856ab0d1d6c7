"""Rewards and objectives of all families: what a planner's graph may carry to a robot."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from reptile_agent.export import onnx_graphs
from reptile_agent.onboard.graph_rules import ALLOWED_OPERATORS, operators
from reptile_agent.task import objective_of
from sim import registry


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("objective", [False, True])
def test_a_reward_exports_within_the_allowed_operators(name, objective):
    family = registry.get(name)
    value = objective_of(family) if objective else family.reward
    robot = family.robot
    roles = ("obs", "action", "next_obs", "reference")
    signals = (robot.observations, robot.actions, robot.observations, robot.references)
    inputs = {role: torch.rand(3, len(s)) for role, s in zip(roles, signals)}
    graph = onnx_graphs.trace(lambda t: {"value": value(*t.values())}, inputs)
    assert operators(graph) <= ALLOWED_OPERATORS
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    fresh = {role: torch.randn(3, len(s)) for role, s in zip(roles, signals)}
    # An input that a reward does not look at is not in its graph's way.
    taken = {i.name: fresh[i.name].numpy() for i in session.get_inputs()}
    (found,) = session.run(None, taken)
    np.testing.assert_allclose(found, value(*fresh.values()), rtol=1e-4, atol=1e-5)
