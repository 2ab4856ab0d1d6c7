"""How every node of this package runs: one thread, and a clean end at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


def run(make: Callable[[], Node], args: list[str] | None) -> None:
    """Spin a node until it is told to stop.

    A SingleThreadedExecutor: the multi-threaded one loses messages (measured on kilted).
    """
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.init(args=args)
        executor = SingleThreadedExecutor()
        executor.add_node(make())
        executor.spin()
    # launch and a terminal both send SIGINT: a second one must not break the end in two. Twice,
    # because rclpy puts the handler back that it found.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
