"""Parameters of adapter_node that change while it runs, each checked first.

A change takes effect at the next adaptation; the one that runs ends as it began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
import math

from pydantic import ValidationError
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from reptile_agent.adaptation import AdaptationConfig
from reptile_agent_ros.settings import value

MIN_PERIOD_S = 0.01
"""A shorter adapt_period_s would be a timer that never lets the node rest."""


@dataclass(frozen=True)
class HowToAdapt:
    """The live parameters, as they are declared in settings.py."""

    inner_lr: float
    """0: the bundle's."""
    inner_steps: int
    """0: the bundle's."""
    adapt_period_s: float
    """0: only on request."""
    budget_s: float
    start: str
    """Empty: the bundle's."""

    def config(self, default: AdaptationConfig) -> AdaptationConfig:
        """A bundle's way to adapt, with these in their place.

        Raises:
            ValueError: a value is out of reason; the message names it.
        """
        for name in ('inner_lr', 'adapt_period_s', 'budget_s'):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f'{name} is {getattr(self, name)}; set a finite number')
        if 0 < self.adapt_period_s < MIN_PERIOD_S:
            raise ValueError(
                f'adapt_period_s is {self.adapt_period_s:g}; set {MIN_PERIOD_S:g} or more, or 0 '
                'to adapt only on request'
            )
        given = {name: getattr(self, name) for name in ('inner_lr', 'inner_steps', 'start')}
        settings = default.model_dump() | {name: v for name, v in given.items() if v}
        try:
            return AdaptationConfig.model_validate(settings)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first['loc'][0])
            raise ValueError(f'{name} is {settings[name]}: {first["msg"]}') from None


LIVE = tuple(field.name for field in fields(HowToAdapt))


class LiveParameters:
    """Lets them change, by `ros2 param set`, rqt_reconfigure, or whoever sets parameters.

    Args:
        node: adapter_node, its parameters declared.
        default: how the bundle in force adapts.
        changed: called once they have changed, on the executor's thread.
    """

    def __init__(
        self, node: Node, default: Callable[[], AdaptationConfig], changed: Callable[[], None]
    ) -> None:
        self._node, self._default, self._changed = node, default, changed
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._have_changed)

    def now(self) -> HowToAdapt:
        """As they are."""
        return HowToAdapt(**{name: value(self._node, name) for name in LIVE})

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        """All that are set together are judged together."""
        given = {p.name: p.value for p in parameters if p.name in LIVE}
        before = {name: value(self._node, name) for name in LIVE}
        try:
            HowToAdapt(**before | given).config(self._default())
        except (TypeError, ValueError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _have_changed(self, parameters: list[Parameter]) -> None:
        if any(p.name in LIVE for p in parameters):
            self._changed()
