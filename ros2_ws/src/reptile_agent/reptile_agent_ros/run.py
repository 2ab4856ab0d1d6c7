"""How every node of this package runs: one thread, and a clean end at Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


def run(make: Callable[[], Node], args: list[str] | None) -> None:
    """Spin a node until it is told to stop.

    What a node cannot start with is said in one line, exit code 1. The executor has one thread:
    the multi-threaded one loses messages (measured on kilted).
    """
    # Not over shared memory: a process that is killed while it holds a lock there can stop the
    # others, and nothing that happens to the adapter may stop the policy.
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.init(args=args)
        executor = SingleThreadedExecutor()
        try:
            executor.add_node(make())
        except (LookupError, ValueError) as error:
            rclpy.logging.get_logger('reptile_agent').fatal(str(error))
            rclpy.try_shutdown()
            sys.exit(1)
        executor.spin()
    # launch and a terminal both send SIGINT: a second one must not break the end in two. Twice,
    # because rclpy puts the handler back that it found.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
