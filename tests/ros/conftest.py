"""Nodes as real processes, each test in a ROS domain of its own."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reptile_agent.demo.processes import local_udp

NEEDED = ("rclpy", "reptile_agent_msgs.msg")
DOMAINS_A_WORKER = 24
"""Domains go up to 100: from 102 on their ports fall among those that Linux hands out."""
STOP_S = 5.0
"""A node that has not ended so long after SIGINT is killed."""

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


class NodeProcess:
    """A node in a process and process group of its own.

    Args:
        module: run as `python -m module`.
        parameters: by name; lists as in YAML.
        log: file that gets all its output.
        remap: topics, services or `__node`, `__ns` by their old names.
    """

    def __init__(
        self,
        module: str,
        parameters: dict[str, object],
        log: Path,
        remap: dict[str, str] | None = None,
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", module, "--ros-args"]
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["-p", f"{name}:={text}"]
        for name, value in (remap or {}).items():
            command += ["-r", f"{name}:={value}"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it and its group at once, as a crash would."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ctrl-C; kills the whole group after STOP_S. Returns the exit status."""
        self._signal(signal.SIGINT)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            status = None
        self._signal(signal.SIGKILL)
        return self.process.wait() if status is None else status

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # All of the group have ended.
            os.killpg(self.process.pid, number)


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


class Peer:
    """This test's own ROS node: waits, spinning, until something is so."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
        """Spin until the condition holds.

        Raises:
            TimeoutError: it does not within timeout_s.
        """
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                raise TimeoutError(f"no {what} within {timeout_s} s")
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, duration_s: float) -> None:
        """Let messages come for so long."""
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind: type, name: str, request: object, timeout_s: float = 15.0):
        """Call a service once it is there; returns the response."""
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, f"service {name}", timeout_s)
        future = client.call_async(request)
        self.wait_for(future.done, f"answer of {name}", timeout_s)
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """Leave the ROS graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def peer(ros_domain: int) -> Iterator[Peer]:
    """A ROS node in this process, in the same domain as those of `start_node`."""
    made = Peer(ros_domain)
    yield made
    made.close()
