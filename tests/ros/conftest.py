"""Nodes as real processes, each test in a ROS domain of its own."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.faults.nodes import NodeProcess, Peer
from reptile_agent.demo.processes import local_udp

NEEDED = ("rclpy", "reptile_agent_msgs.msg")
DOMAINS_A_WORKER = 24
"""Domains go up to 100: from 102 on their ports fall among those that Linux hands out."""

_domains = itertools.count()


def _why_not() -> str | None:
    """Why no ROS test can run here; None where they can."""
    for module in NEEDED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{error}; run `make test`, which builds ros2_ws and sources it"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and skip it where ROS is not to be had."""
    here, why_not = Path(__file__).parent, _why_not()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)
            if why_not:
                item.add_marker(pytest.mark.skip(reason=why_not))


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain that no other test of this run is in, on this machine only."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    domain = 1 + (worker * DOMAINS_A_WORKER + next(_domains) % DOMAINS_A_WORKER) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    for name, value in local_udp().items():
        monkeypatch.setenv(name, value)
    return domain


StartNode = Callable[..., NodeProcess]


@pytest.fixture
def start_node(ros_domain: int, tmp_path: Path) -> Iterator[StartNode]:
    """Starts nodes, `start_node(module, **parameters)`, and ends all of them after the test."""
    started: list[NodeProcess] = []

    def start(module: str, remap: dict[str, str] | None = None, **parameters: object):
        log = tmp_path / f"{len(started)}-{module.rpartition('.')[2]}.txt"
        started.append(NodeProcess(module, parameters, log, remap))
        return started[-1]

    yield start
    for node in reversed(started):
        node.stop()
        print(f"--- {node.log.name}\n{node.output()}")


@pytest.fixture
def peer(ros_domain: int) -> Iterator[Peer]:
    """A ROS node in this process, in the same domain as those of `start_node`."""
    made = Peer(ros_domain)
    yield made
    made.close()
