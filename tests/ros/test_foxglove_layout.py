"""config/foxglove_layout.json shows topics that our nodes publish, and fields that these have."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_security_policies import allowed

LAYOUT = Path(__file__).parents[2] / "ros2_ws/src/reptile_agent/config/foxglove_layout.json"
KINDS = {
    "/policy_node/status": "reptile_agent_msgs.msg.PolicyStatus",
    "/adapter_node/status": "reptile_agent_msgs.msg.AdaptationStatus",
    "/diagnostics": "diagnostic_msgs.msg.DiagnosticArray",
}


def named(what: object) -> Iterator[str]:
    """Every text in the layout that begins as a topic does."""
    if isinstance(what, dict):
        what = list(what.values())
    if isinstance(what, list):
        for each in what:
            yield from named(each)
    elif isinstance(what, str) and what.startswith("/"):
        yield what


def panels(layout: object) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    elif isinstance(layout, dict):
        yield from panels(layout["first"])
        yield from panels(layout["second"])


@pytest.fixture(scope="module")
def layout() -> dict:
    return json.loads(LAYOUT.read_text())


def test_every_panel_is_shown_once_and_has_its_settings(layout):
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])
    kinds = {name.partition("!")[0] for name in layout["configById"]}
    assert kinds == {
        "Plot",
        "StateTransitions",
        "DiagnosticSummary",
        "DiagnosticStatusPanel",
        "RawMessages",
    }


def test_every_topic_and_field_is_there(layout):
    paths = sorted(set(named(layout)))
    published = allowed("/reptile_agent/policy_node")["publish"]
    published |= allowed("/reptile_agent/adapter_node")["publish"]
    for path in paths:
        topic, *fields = path.split(".")
        assert topic in published, path
        module, _, name = KINDS[topic].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        for field in fields:
            assert re.fullmatch(r"\w+", field), path
            assert field in kind.get_fields_and_field_types(), path
            assert kind.get_fields_and_field_types()[field] in (
                "string",
                "float",
                "double",
                "uint64",
            ), f"{path}: nothing to plot"
    wanted = {"tracking_error", "live_before", "live_after", "mode", "verdict"}
    assert wanted <= {path.rpartition(".")[2] for path in paths}


def test_it_is_installed():
    from ament_index_python.packages import get_package_share_directory

    installed = Path(get_package_share_directory("reptile_agent")) / "config" / LAYOUT.name
    assert installed.read_bytes() == LAYOUT.read_bytes()
