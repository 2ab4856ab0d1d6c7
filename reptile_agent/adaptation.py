"""How a robot adapts: one set of numbers for meta-training, evaluation and the robot.

Meta-training takes `TrainConfig.train_inner_steps` instead of `inner_steps` and holds nothing
out; on the robot the time between adaptations is the adapter node's `adapt_period_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ADAPT_PERIOD_S = 0.4
"""Time from one adaptation to the next on the robot, if nothing else is said."""
MIN_NEW_TRANSITIONS = 5
"""Fewer since the last adaptation, and there is nothing new to learn: adapter_node waits."""


class AdaptationConfig(BaseModel):
    """The inner loop as it runs on the robot."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    inner_steps: int = Field(default=20, ge=1, le=1000)
    """Gradient steps per adaptation (k)."""
    inner_lr: float = Field(default=0.05, gt=0, lt=10)
    """Step size (alpha)."""
    batch: int = Field(default=32, ge=1, le=4096)
    """Live segments in each minibatch."""
    rehearsal: int = Field(default=16, ge=0, le=4096)
    """Segments from simulation added to each minibatch, so that what the action does in general
    is not forgotten over what was seen last."""
    rehearsal_weight: float = Field(default=0.5, ge=0, le=10)
    """Weight of a rehearsed segment beside a live one's 1."""
    window: int = Field(default=100, ge=2, le=100_000)
    """Transitions that an adaptation learns from: the newest ones that are not held out."""
    tau: float = Field(default=50.0, gt=0)
    """Recency: a transition's weight falls as exp(-age / tau), age in transitions."""
    fast_tau: float | None = Field(default=10.0, gt=0)
    """A second recency beside `tau`: the k steps are taken twice, on minibatches drawn by each, and
    what predicts the held-out transitions better goes to the gate. Right after a fault that is the
    shorter memory, otherwise the longer one. None: once, by `tau` alone."""
    holdout: int = Field(default=8, ge=0, le=100_000)
    """Newest transitions kept from learning, for the gate."""
    period: int = Field(default=10, ge=1)
    """Control periods from one adaptation to the next, in evaluation."""
    start: Literal["start", "last"] = "start"
    """Where each adaptation begins: at the meta-learned start, or at the last accepted."""
    max_distance: float = Field(default=3.0, gt=0)
    """Trust region: largest Euclidean distance of the parameters from the start; the gate refuses
    what lies beyond it."""
    projection_radius: float | None = Field(default=None, gt=0)
    """What the k steps come to is pulled back to this Euclidean distance from the start where it
    lies further off, before the gate sees it; below `max_distance`. None: it is not."""
    max_layer_distance: float | None = Field(default=0.4, gt=0)
    """Trust region of each parameter tensor: largest distance from the start as a multiple of its
    norm there and of its lr_scale (`reptile_agent.trust_region`); None: none. What the arm's gate
    accepted on training and validation tasks came to 0.12 at most. Only the robot honours it."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """An adaptation stops and is refused when the gradient norm, before clipping, exceeds this;
    None: never. Only the robot honours it."""
    patience: int | None = Field(default=None, ge=1)
    """An adaptation stops and is refused when the loss has risen so many steps in a row; None:
    never. Minibatches differ, so that a step or two say little. Only the robot honours it."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """The gate asks for a live error below (1 - margin) times the old one."""
    rehearsal_margin: float = Field(default=8.0, ge=0)
    """The gate asks for a rehearsal error below (1 + rehearsal_margin) times the start's. Rehearsal
    is of all tasks: a model that has found out which one it drives predicts the others worse."""

    plans: int = Field(default=4, ge=0, le=1000)
    """The gate lets the planner, or the policy, choose anew along so many last control periods,
    with the adapted parameters and with those in use, and refuses what looks worse
    (`plan_evidence`); 0: it does not."""

    @model_validator(mode="after")
    def _projects_into_the_trust_region(self) -> Self:
        radius = self.projection_radius
        if radius is not None and radius >= self.max_distance:
            raise ValueError(
                f"projection_radius {radius:g} must be below max_distance {self.max_distance:g}: "
                "the gate would refuse what is pulled back"
            )
        return self

    def changed(self, changes: Mapping[str, object]) -> Self:
        """The same with some settings changed.

        Raises:
            ValueError: names the setting that is not there, or what is wrong with its value.
        """
        known = type(self).model_fields
        for name in changes:
            if name not in known:
                raise ValueError(f"adaptation has no setting '{name}' (it has: {', '.join(known)})")
        try:
            return type(self).model_validate(self.model_dump() | dict(changes))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = " ".join(["adaptation", *map(str, first["loc"])])
            raise ValueError(f"{where}: {first['msg']}") from None

    @property
    def taus(self) -> tuple[float, ...]:
        """Every recency that is tried, in this order."""
        return (self.tau,) if self.fast_tau is None else (self.tau, self.fast_tau)

    def lookback(self, segment: int) -> int:
        """Transitions back from now that an adaptation may see, held-out ones included.

        Args:
            segment: consecutive transitions that the loss predicts ahead.
        """
        return self.window + self.holdout + segment - 1
