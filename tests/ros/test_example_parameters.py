"""The example's parameters are those of the nodes, which refuse any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / "examples/my_robot/pan_tilt.yaml"


@pytest.mark.parametrize("name", ["policy_node", "adapter_node", "reference_node"])
def test_a_node_takes_them(start_node, peer, name):
    parameters = yaml.safe_load(FILE.read_text())[f"/**/{name}"]["ros__parameters"]
    node = start_node(f"reptile_agent_ros.{name}", **parameters)
    peer.wait_for(lambda: name in peer.node.get_node_names(), name, 20.0)
    peer.spin_for(0.5)
    assert node.process.poll() is None, node.output()
