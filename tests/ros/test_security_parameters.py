"""No parameter loosens a limit while a node runs, and no request leads out of a folder."""

from __future__ import annotations

import pytest
from test_security_policies import LIFECYCLE, NODES, ONE_JOINT

from bench.faults.nodes import bring_up, change_state

MAY_CHANGE = {"use_sim_time"}
"""rclpy's own: stamps alone follow it, ages and control do not."""
LIVE = {"adapter_node": {"inner_lr", "inner_steps", "adapt_period_s", "budget_s", "start"}}
"""How to adapt: what comes of it meets the gate, the trust region and the envelope all the same."""
KINDS = {1: "bool_value", 2: "integer_value", 3: "double_value", 4: "string_value"}


def other(value):
    """A value of the same type that is not this one; none or an array: an array of strings."""
    from rcl_interfaces.msg import ParameterType, ParameterValue

    if not value or value[0].type not in KINDS:
        return ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["x"])
    kind, field = value[0].type, KINDS[value[0].type]
    old = getattr(value[0], field)
    new = (
        not old
        if isinstance(old, bool)
        else f"{old}x"
        if isinstance(old, str)
        else old + type(old)(1)
    )
    return ParameterValue(type=kind, **{field: new})


@pytest.mark.parametrize("name", list(NODES))
@pytest.mark.parametrize("service", ["set_parameters", "set_parameters_atomically"])
def test_no_other_parameter_changes_while_a_node_runs(start_node, peer, name, service):
    from rcl_interfaces.msg import Parameter
    from rcl_interfaces.srv import (
        GetParameters,
        ListParameters,
        SetParameters,
        SetParametersAtomically,
    )

    node = start_node(f"{NODES[name]}.{name}", **(ONE_JOINT if name == "reference_node" else {}))
    if name in LIFECYCLE:
        bring_up(peer, name)
    listed = peer.call(ListParameters, f"{name}/list_parameters", ListParameters.Request())
    may_change = MAY_CHANGE | LIVE.get(name, set())
    assert may_change <= set(listed.result.names)
    names = [n for n in listed.result.names if n not in may_change]
    assert len(names) >= 6

    def values():
        # One at a time: of several, none is answered if one was never set.
        asked = [GetParameters.Request(names=[n]) for n in names]
        answers = [peer.call(GetParameters, f"{name}/get_parameters", a).values for a in asked]
        return [list(answer) for answer in answers]

    before = values()
    wanted = [Parameter(name=n, value=other(value)) for n, value in zip(names, before)]
    if service == "set_parameters":
        answer = peer.call(
            SetParameters, f"{name}/{service}", SetParameters.Request(parameters=wanted)
        )
        results = answer.results
    else:
        results = [
            peer.call(
                SetParametersAtomically,
                f"{name}/{service}",
                SetParametersAtomically.Request(parameters=[one]),
            ).result
            for one in wanted
        ]
    assert {n for n, result in zip(names, results, strict=True) if result.successful} == set()
    assert values() == before
    assert node.process.poll() is None


def test_what_adapter_node_writes_stays_in_its_folder(start_node, peer, tmp_path):
    """Not even through links that somebody put there."""
    from std_srvs.srv import Trigger

    def ask(name: str):
        return peer.call(Trigger, f"adapter_node/{name}", Trigger.Request())

    folder, outside = tmp_path / "state", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("not yours")
    for name in ("adapted.safetensors", "start.safetensors"):
        (folder / name).symlink_to(outside)
    node = start_node("reptile_agent_ros.adapter_node", state_folder=folder)
    bring_up(peer, "adapter_node")
    assert "start.safetensors is missing or no plain file" in node.output()
    refused = ask("restore")
    assert not refused.success
    assert "adapted.safetensors is missing or no plain file" in refused.message
    assert ask("reset").success
    assert not (folder / "start.safetensors").is_symlink()
    saved = ask("save")
    assert saved.success, saved.message
    assert not (folder / "adapted.safetensors").is_symlink()
    assert outside.read_text() == "not yours"
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".txt"} == {
        "state",
        "outside",
    }


def test_a_spool_that_leads_out_of_the_folder_does_not_configure(start_node, peer, tmp_path):
    folder, outside = tmp_path / "state", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "spool").symlink_to(outside)
    node = start_node("reptile_agent_ros.adapter_node", state_folder=folder)
    assert not change_state(peer, "adapter_node", 1)
    assert "spool" in node.output()
    assert list(outside.iterdir()) == []
