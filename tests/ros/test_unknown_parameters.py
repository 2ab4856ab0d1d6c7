"""A parameter that a node does not have stops it: a typo would be the default."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("module", "typo", "meant"),
    [
        ("reptile_agent_ros.policy_node", "bundle_keys", "bundle_key"),
        ("reptile_agent_ros.adapter_node", "budget", "budget_s"),
    ],
)
def test_a_typo_is_refused_and_what_was_meant_is_named(start_node, module, typo, meant):
    node = start_node(module, **{typo: "some"})
    assert node.process.wait(timeout=20) == 1
    said = node.output()
    assert f"{module.rpartition('.')[2]} has no parameter '{typo}' (nearest: {meant}" in said
    assert "Traceback" not in said
