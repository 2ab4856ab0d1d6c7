"""What a learner learns from: stated once, obeyed in simulation and by the robot's adapter.

A learner declares it, a bundle's manifest carries it. Random numbers and step counts are data, so
that losses stay pure functions (docs/decisions/12); here they are made, from the declaration alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from reptile_agent.spec import RobotSpec
from reptile_agent.transition import Batch

TransitionField = Literal["obs", "action", "next_obs", "reward", "terminated"]
FIELDS: tuple[TransitionField, ...] = ("obs", "action", "next_obs")
"""What every learner looks at."""
Name = Annotated[str, Field(pattern="^[a-z_]{1,50}$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Noise(_Model):
    """Normal noise, clipped: `name` [..., k, batch, size]."""

    kind: Literal["noise"] = "noise"
    name: Name
    size: int = Field(ge=1, le=256)
    std: float = Field(ge=0)
    clip: float = Field(ge=0)
    """Largest size of a number."""

    def make(
        self, shape: tuple[int, ...], rng: np.random.Generator, first_step: int | None
    ) -> np.ndarray:
        """The numbers for minibatches of `shape` [..., k, batch]."""
        del first_step
        noise = self.std * rng.standard_normal((*shape, self.size))
        return noise.clip(-self.clip, self.clip).astype(np.float32)


class Switch(_Model):
    """A number that is on in some inner steps and 0 in the others: `name` [..., k, batch]."""

    kind: Literal["switch"] = "switch"
    name: Name
    value: float
    """While it is on."""
    begin: int = Field(ge=0, le=1_000_000)
    """First inner step in which it is on, counted from 0."""
    every: int = Field(ge=1, le=1_000_000)
    """It is on again after so many."""

    def make(
        self, shape: tuple[int, ...], rng: np.random.Generator, first_step: int | None
    ) -> np.ndarray:
        """The numbers for minibatches of `shape` [..., k, batch]; on where none is a step."""
        del rng
        if first_step is None:
            return np.full(shape, self.value, np.float32)
        since = first_step + np.arange(shape[-2]) - self.begin
        on = (since >= 0) & (since % self.every == 0)
        return np.broadcast_to(np.float32(self.value) * on[:, None], shape).astype(np.float32)


ExtraInput = Annotated[Noise | Switch, Field(discriminator="kind")]
"""What a loss needs beside transitions."""


class Experience(_Model):
    """What a learner's minibatches hold."""

    fields: tuple[TransitionField, ...] = FIELDS
    """Of transitions."""
    past_end: bool = False
    """Whether a segment may go on past an episode's end, which the loss then knows of."""
    sees_reference: bool = False
    """Whether `obs` and `next_obs` carry the reference of their moment behind the measurement."""
    inputs: tuple[ExtraInput, ...] = ()
    """What is added in every inner step."""

    @model_validator(mode="after")
    def _check_names(self) -> Experience:
        names = [*self.fields, "weight", *(extra.name for extra in self.inputs)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names {twice} twice")
        missing = [name for name in FIELDS if name not in self.fields]
        if missing:
            raise ValueError(f"fields lack {missing}")
        return self

    def observed(self, robot: RobotSpec) -> int:
        """Numbers in an observation as the learner sees it."""
        return len(robot.observations) + self.sees_reference * len(robot.references)

    def segments(self, robot: RobotSpec, segment: int) -> dict[str, tuple[int, ...]]:
        """Shape of each field in a row of so many consecutive transitions."""
        seen = self.observed(robot)
        shapes = {
            "obs": (seen,),
            "action": (segment, len(robot.actions)),
            "next_obs": (segment, seen),
            "reward": (segment,),
            "terminated": (segment,),
        }
        return {name: shapes[name] for name in self.fields}

    def minibatch(self, robot: RobotSpec, segment: int) -> dict[str, tuple[int, ...]]:
        """Shape of a row of everything that the loss is given."""
        extra = {e.name: (e.size,) if isinstance(e, Noise) else () for e in self.inputs}
        return self.segments(robot, segment) | {"weight": ()} | extra

    def complete(self, batch: Batch, rng: np.random.Generator, first_step: int | None = 0) -> Batch:
        """The batch with its `inputs`.

        Args:
            batch: minibatches [..., k, batch, ...].
            rng: of what is drawn.
            first_step: inner steps taken before the first of these; None: they are no steps, but
                judge what the steps came to, by all that the loss is made of.
        """
        shape = batch["weight"].shape
        made = {extra.name: extra.make(shape, rng, first_step) for extra in self.inputs}
        return batch | made if made else batch


PLAIN = Experience()
"""Measurements and actions alone."""
