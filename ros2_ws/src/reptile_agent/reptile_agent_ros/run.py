"""How every node of this package runs: one executor, and a clean end when it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import gc
import os
import signal
import sys
import threading

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from reptile_agent_ros.settings import refuse_unknown

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what launch, systemd and containers send."""
SPIN_S = 0.05
"""How long the executor may wait at a time. Without an end to it, kilted's never hears a service
where no timer runs; what comes meanwhile is taken at once."""


def run(make: Callable[[], Node], args: list[str] | None) -> None:
    """Spin a node until it is told to stop, and let it shut down while it can still speak.

    What a node cannot start with is said in one line, exit code 1. The executor has one thread,
    and is told of what has come in place of asking everything anew (docs/decisions/32).
    """
    # Not over shared memory: it holds messages up, and a process that is killed while it holds a
    # lock there can stop the others (docs/decisions/08).
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    told = _signals()
    # rclpy's own handlers end the context at once: no last command could be sent any more.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    if os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE') == 'LOCALHOST':
        rclpy.logging.get_logger('reptile_agent').warning(
            'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST makes Fast DDS use shared memory, which '
            'can hold messages up for a third of a second; use the profile '
            'config/localhost.xml of this package instead (its first lines say how)'
        )
    executor = _executor()
    try:
        node = make()
        refuse_unknown(node)
    except (LookupError, ValueError, ParameterException) as error:
        rclpy.logging.get_logger('reptile_agent').fatal(str(error))
        rclpy.try_shutdown()
        sys.exit(1)
    executor.add_node(node)
    if isinstance(node, LifecycleNode):
        node.get_logger().info(
            'unconfigured: waits for the transitions configure and activate (adapt.launch.py asks '
            f'for them; by hand: ros2 lifecycle set {node.get_fully_qualified_name()} configure)'
        )
    # What was made so far stays: looking through it again and again costs tens of ms a time.
    gc.freeze()
    try:
        _spin(executor, told)
    finally:
        # After a crash too: a robot must not be left with the last command of a policy.
        _shut_down(node)
        for number in STOPS:  # The end of the interpreter would put the deadly handlers back.
            signal.signal(number, signal.SIG_IGN)
        rclpy.try_shutdown()


def _executor() -> Executor:
    """The one that is told of events; the older Jazzys, up to rclpy 7.1.3, have none."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        rclpy.logging.get_logger('reptile_agent').info(
            'this rclpy has no EventsExecutor: control takes a third more of a core; update it'
        )
        return SingleThreadedExecutor()
    return EventsExecutor()


def _signals() -> int:
    """Take the signals that mean stop; returns a pipe that has a byte for each that came.

    Python's own handlers run between two lines of Python, and an executor that waits for messages
    is in C. The bytes are there at once, whichever thread the signal meets.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in STOPS:
        signal.signal(number, lambda *_: None)  # A second one changes nothing.
    return told


def _spin(executor: Executor, told: int) -> None:
    """Spin until a byte comes; the executor is woken for it."""
    stop = threading.Event()

    def listen() -> None:
        os.read(told, 1)
        executor.create_task(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(ExternalShutdownException):
        while not stop.is_set():
            executor.spin_once(timeout_sec=SPIN_S)


def _shut_down(node: Node) -> None:
    """Let a lifecycle node end as it does when `shutdown` is asked of it."""
    if isinstance(node, LifecycleNode):
        with contextlib.suppress(RCLError):  # It was asked for before.
            node.trigger_shutdown()
