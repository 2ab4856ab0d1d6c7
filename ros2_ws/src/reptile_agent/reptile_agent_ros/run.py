"""How every node of this package runs: one thread, and a clean end at Ctrl-C."""

from __future__ import annotations

import contextlib
import gc
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
    # Not over shared memory: it holds messages up, and a process that is killed while it holds a
    # lock there can stop the others (docs/decisions/08).
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.init(args=args)
        if os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE') == 'LOCALHOST':
            rclpy.logging.get_logger('reptile_agent').warning(
                'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST makes Fast DDS use shared memory, which '
                'can hold messages up for a third of a second; use the profile '
                'config/localhost.xml of this package instead (its first lines say how)'
            )
        executor = SingleThreadedExecutor()
        try:
            executor.add_node(make())
        except (LookupError, ValueError) as error:
            rclpy.logging.get_logger('reptile_agent').fatal(str(error))
            rclpy.try_shutdown()
            sys.exit(1)
        # What was made so far stays: looking through it again and again costs tens of ms a time.
        gc.freeze()
        executor.spin()
    # launch and a terminal both send SIGINT: a second one must not break the end in two. Twice,
    # because rclpy puts the handler back that it found.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
