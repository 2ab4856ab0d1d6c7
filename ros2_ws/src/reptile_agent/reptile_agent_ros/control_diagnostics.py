"""What policy_node says of itself on `/diagnostics`: does control keep time, and who drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from reptile_agent.spec import RobotSpec
from reptile_agent_msgs.msg import PolicyStatus
from reptile_agent_ros.diagnostics import Diagnostics, ERROR, OK, STALE, WARN
from reptile_agent_ros.sources import WAITING

WINDOW_S = 3.0
"""Of the control periods that rate and jitter are taken from."""
MAX_TICKS = 4096
RISES = {'missed': 'missed', 'clamps': 'clamped', 'rollbacks': 'rolled back'}
"""Counters of PolicyStatus that give a warning in the second in which they rise."""


class TickTimes:
    """When the last control periods were; allocates nothing while it notes one.

    Args:
        period_s: that control should keep.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        size = min(MAX_TICKS, 2 + math.ceil(WINDOW_S / period_s))
        self._times_s = np.full(size, -np.inf)
        self._next = 0

    def note(self, now_s: float) -> None:
        """A control period begins, by the steady clock."""
        self._times_s[self._next] = now_s
        self._next = (self._next + 1) % self._times_s.size

    def forget(self) -> None:
        """Control begins anew: the time in between was no period."""
        self._times_s[:] = -np.inf

    def figures(self, now_s: float) -> dict[str, float]:
        """Rate, and how far periods are from what they should be, over WINDOW_S; nan: unknown."""
        times_s = np.sort(self._times_s[self._times_s > now_s - WINDOW_S])
        off_ms = 1e3 * np.abs(np.diff(times_s) - self._period_s)
        if off_ms.size == 0:
            return {'rate_hz': 0.0, 'jitter_p50_ms': math.nan, 'jitter_p99_ms': math.nan}
        p50, p99 = np.percentile(off_ms, (50, 99))
        rate_hz = off_ms.size / (times_s[-1] - times_s[0])
        return {
            'rate_hz': float(rate_hz),
            'jitter_p50_ms': float(p50),
            'jitter_p99_ms': float(p99),
        }


class ControlDiagnostics:
    """Publishes 'policy_node: control'.

    A fallback is an ERROR: the robot no longer does what it is for, until a person resets it. So
    is an active node that gets measurements which are not the robot's. One that waits for its
    first measurement is STALE. A dry run, and a second in which periods were missed, commands
    clamped or parameters rolled back, is a WARN: the robot is driven, and worse than it could be;
    and so is another node of its name, or a second adapter.

    Args:
        node: policy_node.
        robot: that it drives.
        sources: topic of each signal that does not come from joint_states, by name.
        status: what it says of itself.
        ages: of each signal of the observation now [s], inf where it never came; [obs_dim].
    """

    def __init__(
        self,
        node: Node,
        robot: RobotSpec,
        sources: Mapping[str, str],
        status: Callable[[], PolicyStatus],
        ages: Callable[[], np.ndarray],
    ) -> None:
        self._node, self._robot, self._status, self._ages = node, robot, status, ages
        self._sources = [sources.get(s.name, s.joint) for s in robot.observations]
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.ticks = TickTimes(robot.control_period_s)
        """To be told of every control period."""
        self._before: dict[str, int] = {}
        self._diagnostics = Diagnostics(node, 'control', robot.name, self._look)

    def destroy(self) -> None:
        """Publish no longer."""
        self._diagnostics.destroy()

    def _look(self) -> tuple[bytes, str, dict[str, object]]:
        status = self._status()
        level, message = self._judge(status)
        figures: dict[str, object] = {
            'mode': status.mode,
            'reason': status.reason,
            'dry_run': status.dry_run,
            **self.ticks.figures(1e-9 * self._clock.now().nanoseconds),
            'wanted_hz': 1 / self._robot.control_period_s,
            'missed': status.missed,
            **self._oldest(),
            'clamps': status.clamps,
        }
        for action, clamps in zip(self._robot.actions, status.clamps_by_action):
            figures[f'clamps {action.name}'] = clamps
        for name in ('fallbacks', 'fallback_failures', 'rollbacks', 'probation'):
            figures[name] = getattr(status, name)
        for name in ('parameters_version', 'parameters_sha256', 'tracking_error'):
            figures[name] = getattr(status, name)
        return level, message, figures

    def _judge(self, status: PolicyStatus) -> tuple[bytes, str]:
        """A level, and why."""
        now = {name: getattr(status, name) for name in RISES}
        # A new bundle counts from 0 again.
        rose = {name: max(0, count - self._before.get(name, 0)) for name, count in now.items()}
        self._before = now
        if status.mode == PolicyStatus.INACTIVE:
            return OK, 'inactive'
        if status.mode == PolicyStatus.FALLBACK:
            return ERROR, f'fallback: {status.reason}'
        if status.reason:
            return STALE if status.reason.startswith(WAITING) else ERROR, status.reason
        news = [f'{rose[name]} {word}' for name, word in RISES.items() if rose[name]]
        words = ['dry run'] if status.dry_run else []
        words += self._twice()
        words += [f'{", ".join(news)} in the last second'] if news else []
        return (WARN, '; '.join(words)) if words else (OK, 'active')

    def _twice(self) -> list[str]:
        """What there is more than one of: somebody launched twice, or forgot a terminal.

        What was killed is still there for some seconds.
        """
        node, name = self._node, self._node.get_fully_qualified_name()
        try:
            all_nodes = node.get_node_names_and_namespaces()
            adapters = node.count_publishers('adapter_node/parameters')
        except RuntimeError:  # of rcl: the graph could not be asked, and nobody must stop for that
            return []
        same = sum(f'{space.rstrip("/")}/{other}' == name for other, space in all_nodes)
        found = {f'nodes {name}': same, 'publishers of adapter_node/parameters': adapters}
        return [f'{count} {what}: launched twice?' for what, count in found.items() if count > 1]

    def _oldest(self) -> dict[str, object]:
        """Age of the oldest measurement of each joint, and of each other topic."""
        oldest_ms: dict[str, float] = {}
        for source, age_s in zip(self._sources, self._ages().tolist()):
            oldest_ms[source] = max(oldest_ms.get(source, 0.0), 1e3 * age_s)
        return {f'age_ms {source}': age_ms for source, age_ms in oldest_ms.items()}
