"""Nodes as real processes, and a node of one's own that waits for what they do."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

STOP_S = 5.0
"""A node that has not ended so long after SIGINT is killed."""


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

    def call(self, kind: Any, name: str, request: object, timeout_s: float = 15.0) -> Any:
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


def why_no_nodes() -> str:
    """Why there are no nodes to be had; empty where there are."""
    for module in ("rclpy", "reptile_agent_msgs.msg", "reptile_agent_ros", "reptile_agent_mujoco"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"needs the ros extra, and ros2_ws sourced ({error}); tests/ros runs it"
    return ""


@contextlib.contextmanager
def ros_domain(domain: int, folder: Path) -> Iterator[tuple[Callable[..., NodeProcess], Peer]]:
    """A function that starts nodes, and a peer of theirs, in a domain on this machine alone.

    Args:
        domain: its number.
        folder: of the nodes' output. All nodes are ended when the context is left.
    """
    from reptile_agent.demo.processes import local_udp

    started: list[NodeProcess] = []

    def start(module: str, **parameters: object) -> NodeProcess:
        started.append(NodeProcess(module, parameters, folder / f"{domain}-{len(started)}.txt"))
        return started[-1]

    with mock.patch.dict(os.environ, local_udp() | {"ROS_DOMAIN_ID": str(domain)}):
        peer = Peer(domain)
        try:
            yield start, peer
        finally:
            for node in reversed(started):
                node.stop()
            peer.close()


def change_state(peer: Peer, node: str, number: int) -> bool:
    """Ask a lifecycle node for a transition by its number; whether it was made."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request(transition=Transition(id=number))
    return peer.call(ChangeState, f"{node}/change_state", request).success


def bring_up(peer: Peer, node: str) -> None:
    """Configure and activate a lifecycle node.

    Raises:
        RuntimeError: it refuses.
    """
    for number, word in ((1, "configure"), (3, "activate")):
        if not change_state(peer, node, number):
            raise RuntimeError(f"{node} did not {word}; see its log")


def latched(peer: Peer, kind: Any, topic: str) -> list:
    """Messages of a latched topic as they come."""
    from rclpy.qos import DurabilityPolicy, QoSProfile

    found: list = []
    qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    peer.node.create_subscription(kind, topic, found.append, qos)
    return found


def statuses(peer: Peer) -> list:
    """What policy_node says of itself, as it comes."""
    from reptile_agent_msgs.msg import PolicyStatus  # pyright: ignore[reportMissingImports]

    return latched(peer, PolicyStatus, "policy_node/status")
