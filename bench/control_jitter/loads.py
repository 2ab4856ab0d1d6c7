"""What adapter_node does while the control process is timed, and what is done to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.faults.nodes import NodeProcess, Peer
from reptile_agent.onboard.manifest import Manifest

TURNS = ("idle", "adapting")
"""Loads that take turns: it is frozen, or learns as often as it can."""
ONCE = ("flooded", "hung", "killed")
"""Loads that come once, after these, in this order."""
FLOOD_HZ = 2500
"""A hundred times what a robot of 25 Hz sends, beside the 200 a second of policy_node; more is not
to be had of a process in Python."""
FLOOD = f"""
import random, signal, sys, time, rclpy
from reptile_agent_msgs.msg import Transition
rclpy.init()
publisher = rclpy.create_node("flood").create_publisher(Transition, "policy_node/transition", 200)
obs, act, sha256 = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
some = lambda count: [random.uniform(-0.1, 0.1) for _ in range(count)]
message = Transition(
    observation=some(obs), action=some(act), next_observation=some(obs), start_sha256=sha256
)
def end(*_):
    print(message.step, flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
due_s = time.monotonic()
while True:
    message.step += 1
    publisher.publish(message)
    due_s = max(due_s + {1 / FLOOD_HZ}, time.monotonic() - 1e-2)
    time.sleep(max(0.0, due_s - time.monotonic()))
"""
LEARNS_S = 30.0
"""How long to wait for an adaptation."""
ENDS_S = 10.0
"""How long to wait for a flood to end."""


class Loads:
    """Puts loads on adapter_node.

    Args:
        peer: of the nodes, in this process.
        adapter: the node's process, configured and active.
        adaptations: verdicts that it published, growing.
        manifest: of the bundle that it adapts.
    """

    def __init__(
        self, peer: Peer, adapter: NodeProcess, adaptations: list[Any], manifest: Manifest
    ) -> None:
        from std_srvs.srv import SetBool

        self._peer, self._adapter, self._adaptations = peer, adapter, adaptations
        robot = manifest.robot
        sizes = [str(len(robot.observations)), str(len(robot.actions))]
        self._flood_command = [sys.executable, "-c", FLOOD, *sizes, manifest.start_sha256]
        self._flood: subprocess.Popen[str] | None = None
        self._flooding_s = 0.0
        self.flood_hz = 0.0
        """What the last flood really sent."""
        self._freezer = peer.node.create_client(SetBool, "adapter_node/freeze")
        peer.wait_for(self._freezer.service_is_ready, "service adapter_node/freeze")

    def begin(self, load: str) -> None:
        """Have it so; comes back when it is.

        Raises:
            TimeoutError: nothing is learned.
        """
        begins: dict[str, Callable[[], None]] = {
            "idle": lambda: self._freeze(True),
            "adapting": self._learn,
            "flooded": self._be_flooded,
            "hung": self._hang,
            "killed": self._adapter.kill,
        }
        self.end()
        begins[load]()

    def end(self) -> None:
        """End a flood, and note how much of one it was.

        Raises:
            RuntimeError: it had ended by itself.
        """
        flood, self._flood = self._flood, None
        if flood is None:
            return
        flood.terminate()
        sent, said = flood.communicate(timeout=ENDS_S)
        if not sent.strip().isdecimal():
            raise RuntimeError(f"the flood ended by itself: {said}")
        self.flood_hz = int(sent) / (time.monotonic() - self._flooding_s)

    def _freeze(self, on: bool) -> None:
        request = self._freezer.srv_type.Request(data=on)
        self._peer.wait_for(self._freezer.call_async(request).done, "answer of freeze")

    def _learn(self) -> None:
        learned = len(self._adaptations)
        self._freeze(False)
        self._peer.wait_for(lambda: len(self._adaptations) > learned, "adaptation", LEARNS_S)

    def _be_flooded(self) -> None:
        """It learns, and hears far more than it can."""
        self._learn()
        self._flooding_s = time.monotonic()
        self._flood = subprocess.Popen(
            self._flood_command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _hang(self) -> None:
        """In the middle of learning, as far as that can be had."""
        self._learn()
        self._adapter.process.send_signal(signal.SIGSTOP)
