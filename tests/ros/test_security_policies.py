"""config/sros2/policies.xml allows each node what it really opens, and nothing else.

Without ROS's security plugins nothing is enforced here: running nodes are asked what they opened.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest
from diver import PARAMETERS, write_bundle

from bench.faults.nodes import change_state

POLICIES = Path(__file__).parents[2] / "ros2_ws/src/reptile_agent/config/sros2/policies.xml"
NODES = {
    "policy_node": "reptile_agent_ros",
    "adapter_node": "reptile_agent_ros",
    "reference_node": "reptile_agent_ros",
    "mujoco_robot": "reptile_agent_mujoco",
}
LIFECYCLE = ("policy_node", "adapter_node")
ONE_JOINT = {
    "joints": "[elbow_flex]",
    "middle_rad": "[0.0]",
    "amplitude_rad": "[0.1]",
    "period_s": "[4.0]",
}
RULES = {
    "topics": ("publish", "subscribe"),
    "services": ("reply", "request"),
    "actions": ("call", "execute"),
}
COMMANDS = (
    "/forward_command_controller/commands",
    "/joint_trajectory_controller/joint_trajectory",
    "/cmd_vel",
)
Rights = dict[str, set[str]]
"""By rule (publish, subscribe, reply, request, call, execute): names, absolute."""


def absolute(name: str, node: str) -> str:
    """As sros2's own templates resolve a name in a profile of the root namespace."""
    return name if name.startswith("/") else "/" + name.replace("~", node, 1)


def allowed(path: str) -> Rights:
    """What the policies let an enclave do."""
    enclave = ET.parse(POLICIES).getroot().find(f"enclaves/enclave[@path='{path}']")
    assert enclave is not None, path
    rights: Rights = defaultdict(set)
    for profile in enclave.iter("profile"):
        for group in profile:
            for rule in group.attrib:
                rights[rule] |= {absolute(str(e.text), profile.attrib["node"]) for e in group}
    return rights


def test_the_file_is_built_as_the_schema_of_sros2_says():
    """By hand, where sros2 and lxml are not installed: elements, their order, attributes."""
    with_comments = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    # A comment among the enclaves would be taken for one: generate_artifacts fails of it.
    for enclave in ET.parse(POLICIES, with_comments).getroot()[0]:
        assert enclave.tag == "enclave"
    root = ET.parse(POLICIES).getroot()
    assert (root.tag, root.attrib) == ("policy", {"version": "0.2.0"})
    assert [child.tag for child in root] == ["enclaves"]
    for enclave in root[0]:
        assert set(enclave.attrib) == {"path"}
        assert [child.tag for child in enclave] == ["profiles"]
        for profile in enclave[0]:
            assert profile.tag == "profile"
            assert set(profile.attrib) == {"ns", "node"}
            for group in profile:
                assert set(group.attrib) <= set(RULES[group.tag])
                assert set(group.attrib.values()) == {"ALLOW"}
                assert {child.tag for child in group} == {group.tag.removesuffix("s")}
                assert all(child.text and child.text.strip() == child.text for child in group)


@pytest.mark.skipif(
    importlib.util.find_spec("sros2") is None or importlib.util.find_spec("lxml") is None,
    reason="sros2 is not installed: its schema is checked by hand alone",
)
def test_the_file_passes_the_schema_of_sros2():
    from sros2.policy import load_policy  # pyright: ignore[reportMissingImports]

    load_policy(POLICIES)


def opened(peer, name: str, namespace: str) -> Rights:
    """What a running node has open, with its namespace taken off."""
    from rclpy.action import (
        get_action_client_names_and_types_by_node,
        get_action_server_names_and_types_by_node,
    )

    node = peer.node
    found = {
        "publish": node.get_publisher_names_and_types_by_node(name, namespace),
        "subscribe": node.get_subscriber_names_and_types_by_node(name, namespace),
        "reply": node.get_service_names_and_types_by_node(name, namespace),
        "request": node.get_client_names_and_types_by_node(name, namespace),
        "execute": get_action_server_names_and_types_by_node(node, name, namespace),
        "call": get_action_client_names_and_types_by_node(node, name, namespace),
    }
    # An action's own topics and services come with the right to the action.
    return {
        rule: {n.replace(f"{namespace}/", "/", 1) for n, _ in names if "/_action/" not in n}
        for rule, names in found.items()
    }


def everything_opened(peer, variants: list[tuple[str, str]]) -> dict[str, Rights]:
    """For each node, all that any of its variants (node, namespace) has open."""
    union: dict[str, Rights] = {name: defaultdict(set) for name in NODES}
    for name, namespace in variants:
        for rule, names in opened(peer, name, namespace).items():
            union[name][rule] |= names
    return union


def test_the_policies_allow_what_the_nodes_open_and_nothing_else(
    start_node, peer, arm_bundle_path, tmp_path
):
    # Each as configured otherwise opens something else; the policies hold all of it.
    ways = {
        "/one": {"use_sim_time": False, "command_interface": "forward"},
        "/two": {"use_sim_time": True, "command_interface": "trajectory"},
    }
    variants = [(name, namespace) for namespace in ways for name in NODES]
    for name, namespace in variants:
        parameters = dict(ways[namespace])
        if name == "reference_node":
            parameters |= ONE_JOINT
        start_node(f"{NODES[name]}.{name}", {"__ns": namespace}, **parameters)
    variants.append(("policy_node", "/dry"))
    start_node("reptile_agent_ros.policy_node", {"__ns": "/dry"}, dry_run=True, introspection=True)
    variants.append(("policy_node", "/diver"))
    diver = write_bundle(arm_bundle_path, tmp_path / "diver")
    start_node("reptile_agent_ros.policy_node", {"__ns": "/diver"}, bundle=diver, **PARAMETERS)
    for name, namespace in variants:
        if name in LIFECYCLE:
            assert change_state(peer, f"{namespace}/{name}", 1)

    wanted = {name: allowed(f"/reptile_agent/{name}") for name in NODES}

    def complete() -> bool:
        union = everything_opened(peer, variants)
        return all(wanted[n][rule] <= union[n][rule] for n in NODES for rule in wanted[n])

    def rights(all_rights: dict[str, Rights]) -> dict[str, list[str]]:
        return {
            f"{name} {rule}": sorted(names)
            for name, by_rule in all_rights.items()
            for rule, names in by_rule.items()
            if names
        }

    # The graph takes a moment to be known; what is missing then is in the comparison.
    with contextlib.suppress(TimeoutError):
        peer.wait_for(complete, "graph as the policies say")
    assert rights(everything_opened(peer, variants)) == rights(wanted)


def test_the_operator_may_only_use_what_the_nodes_offer():
    operator = allowed("/")
    offered: Rights = defaultdict(set)
    for name in NODES:
        for rule, names in allowed(f"/reptile_agent/{name}").items():
            offered[rule] |= names
    assert operator["subscribe"] <= offered["publish"] | {"/clock"}
    assert operator["request"] <= offered["reply"]
    assert operator["call"] <= offered["execute"]
    measured = {"/joint_states", "/imu", "/odom"}
    assert not operator["publish"] & {*COMMANDS, *measured, "/reference"}
    assert not {name for name in operator["request"] if "set_parameters" in name}


def test_the_launch_file_gives_each_node_its_enclave():
    text = (POLICIES.parents[5] / "launch/adapt.launch.py").read_text()
    assert set(re.findall(r'(?:bring_up|node_options)\("(\w+)"', text)) == set(NODES)
    assert '"--enclave", f"/reptile_agent/{name}"' in text


@pytest.mark.parametrize("command", COMMANDS)
def test_only_the_policy_may_command_the_robot(command):
    assert [n for n in NODES if command in allowed(f"/reptile_agent/{n}")["publish"]] == [
        "policy_node"
    ]
