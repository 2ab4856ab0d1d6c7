"""What adapter_node says of itself on `/diagnostics`: what the gate said last, and how often."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from reptile_agent.onboard.adapter import Adapter
from reptile_agent_msgs.msg import AdaptationStatus
from reptile_agent_ros.diagnostics import Diagnostics, ERROR, OK, WARN

HARMLESS = ('accepted', 'not_better', 'plans_worse', 'cancelled')
"""Verdicts after which there is nothing to do, however often they come (docs/deploy.md)."""
STREAK = 5
"""Other verdicts in a row that are a warning."""


class AdaptationDiagnostics:
    """Publishes 'adapter_node: adaptation'.

    A policy that runs another bundle is an ERROR: nothing is learned until that ends. A WARN are
    adaptations that fail, and STREAK verdicts in a row that somebody should look at; 'not_better'
    is none of them: it is what a robot hears that has nothing to gain. Frozen and inactive are OK,
    because somebody decided so.

    Args:
        node: adapter_node.
        adapter: the one in force.
        active: whether the node is.
        parameters: version and hash of those that drive the robot, as far as is known.
    """

    def __init__(
        self,
        node: Node,
        adapter: Callable[[], Adapter],
        active: Callable[[], bool],
        parameters: Callable[[], tuple[int, str]],
    ) -> None:
        self._adapter, self._active, self._parameters = adapter, active, parameters
        self._accepted = self._rejected = self._streak = 0
        self._last: AdaptationStatus | None = None
        self.trouble = ''
        """Why adaptations fail; empty where they do not."""
        self.other_bundle = False
        """Whether the policy was last heard to run another one."""
        name = adapter().bundle.manifest.robot.name
        self._diagnostics = Diagnostics(node, 'adaptation', name, self._look)

    def destroy(self) -> None:
        """Publish no longer."""
        self._diagnostics.destroy()

    def note(self, status: AdaptationStatus) -> None:
        """A verdict fell."""
        self._last, self.trouble = status, ''
        self._accepted += status.accepted
        self._rejected += not status.accepted
        self._streak = 0 if status.verdict in HARMLESS else self._streak + 1

    def _look(self) -> tuple[bytes, str, dict[str, object]]:
        adapter, last = self._adapter(), self._last
        version, sha256 = self._parameters()
        figures: dict[str, object] = {
            'accepted': self._accepted,
            'rejected': self._rejected,
            'verdict': last.verdict if last else '',
            'reason': last.reason if last else '',
            'duration_ms': float(last.duration_ms) if last else 0.0,
            'stop': last.stop if last else '',
            'frozen': adapter.frozen,
            'remembered': len(adapter.replay),
            'inner_steps': adapter.config.inner_steps,
            'inner_lr': adapter.config.inner_lr,
            'budget_s': adapter.budget_s,
            'parameters_version': version,
            'parameters_sha256': sha256,
            'start_sha256': adapter.bundle.manifest.start_sha256,
        }
        return *self._judge(adapter), figures

    def _judge(self, adapter: Adapter) -> tuple[bytes, str]:
        """A level, and why."""
        if not self._active():
            return OK, 'inactive'
        if self.other_bundle:
            return ERROR, 'the policy runs another bundle; give both nodes the same'
        if self.trouble:
            return WARN, self.trouble
        if self._streak >= STREAK and self._last is not None:
            return WARN, f'{self._streak} rejected in a row: {self._last.reason}'
        if adapter.frozen:
            return OK, 'frozen'
        return OK, self._last.verdict if self._last else 'nothing was adapted yet'
