"""`/diagnostics` at 1 Hz, as diagnostic_updater has it for C++: a status with a level and figures.

It is published in every state from configure on: whoever watches a robot has to see that a node
is there and idle. A node that is inactive is OK, because somebody decided that; a watcher that
were to warn of it would warn at every start, and soon be ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from reptile_agent_ros import wire

PERIOD_S = 1.0
OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN
ERROR, STALE = DiagnosticStatus.ERROR, DiagnosticStatus.STALE
Look = Callable[[], tuple[bytes, str, Mapping[str, object]]]
"""A level, a message of one line, and figures by name."""


class Diagnostics:
    """Publishes how a node is doing.

    Args:
        node: whose; its name, with the namespace, stands before the part's.
        part: of the node, as in 'policy_node: control'.
        hardware_id: the robot's name.
        look: called once a second.
    """

    def __init__(self, node: Node, part: str, hardware_id: str, look: Look) -> None:
        self._node, self._look = node, look
        self._name = f'{node.get_fully_qualified_name().lstrip("/")}: {part}'
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=clock)

    def publish(self) -> None:
        """Look, and say what was seen."""
        level, message, figures = self._look()
        status = DiagnosticStatus(
            level=level,
            name=self._name,
            message=message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in figures.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = wire.stamp(self._node)
        self._publisher.publish(array)

    def destroy(self) -> None:
        """Publish no longer."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def _text(value: object) -> str:
    """A figure as KeyValue holds it: numbers so that plots can read them."""
    return f'{value:.6g}' if isinstance(value, float) else str(value)
