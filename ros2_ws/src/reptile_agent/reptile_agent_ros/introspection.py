"""`~/introspection` of policy_node: the numbers of every control period, for plots.

Names on one topic, once; values on another, at the control rate (docs/decisions/30).
"""

from __future__ import annotations

import zlib

import numpy as np
from rclpy.node import Node
from reptile_agent.onboard.controller import Controller, Tick
from reptile_agent.spec import RobotSpec
from reptile_agent_ros import wire
from reptile_agent_ros.qos import LATCHED, NEWEST_SENSOR

try:
    # PlotJuggler knows these two by their type, and shows values under their names.
    from pal_statistics_msgs.msg import (  # pyright: ignore[reportMissingImports]
        StatisticsNames as Names,
    )
    from pal_statistics_msgs.msg import (  # pyright: ignore[reportMissingImports]
        StatisticsValues as Values,
    )
except ImportError:
    from reptile_agent_msgs.msg import IntrospectionNames as Names
    from reptile_agent_msgs.msg import IntrospectionValues as Values

FIGURES = (
    'tracking_error',
    'envelope.fallback',
    'envelope.clamps',
    'envelope.oldest_ms',
    'probation.watching',
    'parameters.version',
    'missed',
)
"""What follows observations, references and actions."""


class Introspection:
    """Publishes the insides of control; allocates no arrays in a control period.

    Args:
        node: policy_node.
        robot: that it drives.
    """

    def __init__(self, node: Node, robot: RobotSpec) -> None:
        self._node = node
        groups = {
            'observation': robot.observations,
            'reference': robot.references,
            'action': robot.actions,
        }
        names = [f'{group}.{s.name}' for group, signals in groups.items() for s in signals]
        names += FIGURES
        # PlotJuggler keeps the lists of all publishers in one table, by this number.
        version = zlib.crc32('\n'.join(names).encode())
        self._names = node.create_publisher(Names, '~/introspection/names', LATCHED)
        self._values = node.create_publisher(Values, '~/introspection/values', NEWEST_SENSOR)
        self._message = Values(values=[0.0] * len(names), names_version=version)
        view = np.frombuffer(self._message.values)
        ends = np.cumsum([len(signals) for signals in groups.values()])
        self._obs, self._reference, self._action, self._figures = np.split(view, ends)
        of = Names(names=names, names_version=version)
        of.header.stamp = wire.stamp(node)
        self._names.publish(of)

    def publish(
        self,
        obs: np.ndarray,
        reference: np.ndarray,
        tick: Tick,
        controller: Controller,
        age_s: float,
    ) -> None:
        """One control period.

        Args:
            obs: measurement, [obs_dim].
            reference: what was to be followed, [horizon, ref_dim].
            tick: what came of it.
            controller: that did it.
            age_s: of the oldest signal of the measurement.
        """
        self._obs[:], self._reference[:] = obs, reference[0]
        self._action[:] = np.nan if tick.command is None else tick.command
        figures = self._figures
        figures[0] = tick.tracking_error
        figures[1] = controller.mode == 'fallback'
        figures[2] = controller.envelope.clamps
        figures[3] = 1e3 * age_s
        figures[4] = controller.probation.outcome == 'watching'
        figures[5], figures[6] = controller.version, controller.missed
        self._message.header.stamp = wire.stamp(self._node)
        self._values.publish(self._message)

    def destroy(self) -> None:
        """Publish no longer."""
        for publisher in (self._names, self._values):
            self._node.destroy_publisher(publisher)
