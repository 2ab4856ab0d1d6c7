"""The bundle's manifest: what crosses from the workshop to the robot, and what it must hash to."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.experience import PLAIN, Experience
from reptile_agent.spec import RobotSpec

SCHEMA_VERSION = 2
VALUE, REWARD = "value.onnx", "reward.onnx"
POLICY = "policy."
"""Prefix of the parameters that a policy acts by."""
GRAPHS = ("act.onnx", "adapt.onnx", "evaluate.onnx", VALUE)
"""Of every bundle; `Manifest.graphs` adds what a learner that learns from rewards has."""
TENSORS = ("start.safetensors", "rehearsal.safetensors")
MAX_FILE_BYTES = 64 * 2**20
"""No file of a bundle may be larger; a start of a robot is a few hundred kilobytes."""


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class FileEntry(_Model):
    """One file of the bundle."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)


class TensorEntry(_Model):
    """One tensor of the graphs' interface, float32."""

    name: str = Field(min_length=1, max_length=200)
    shape: tuple[Annotated[int, Field(ge=1, le=2**24)], ...] = Field(max_length=8)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


class PlanShape(_Model):
    """Sizes that `act.onnx` was made for."""

    horizon: int = Field(ge=1, le=1000)
    """Control periods ahead."""
    samples: int = Field(ge=0, le=100_000)
    """Noisy plans per control period; 0: a policy acts, and nothing is planned."""


class Provenance(_Model):
    """Where a bundle comes from."""

    family: str
    split: str
    algorithm: str
    seed: int
    git_commit: str
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Package -> version."""


class Manifest(_Model):
    """Everything about a bundle but the numbers in its files."""

    schema_version: Literal[2] = SCHEMA_VERSION
    """Another one is refused."""
    files: dict[str, FileEntry]
    """Of all files but the manifest itself and a signature."""
    robot: RobotSpec
    """Its signals, and their limits and units."""
    learner: Literal["dynamics", "actor_critic", "model_policy"]
    """What is learned, and so what the graphs do."""
    hyperparameters: dict[str, Any]
    """Of the learner, of the inner loop and, where there is one, of the planner, as trained."""
    normaliser: dict[str, list[float]]
    """At full precision; the graphs hold the same numbers."""
    parameters: tuple[TensorEntry, ...]
    """Order of the graphs' inputs `p.<name>`, and of a parameter message's data."""
    optimizer_state: tuple[TensorEntry, ...]
    """Order of the inputs `s.<name>` of `adapt.onnx`; all start at zero."""
    plan: PlanShape
    segment: int = Field(ge=1, le=1000)
    """Consecutive transitions in a segment."""
    experience: Experience = PLAIN
    """What the inner loop learns from."""
    adaptation: AdaptationConfig
    """Defaults of the robot's inner loop."""
    lr_scale: dict[str, float]
    """Factor on the inner step size of each parameter."""
    start_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the start's bytes in the order of `parameters`: names what an update was adapted from."""
    provenance: Provenance

    @property
    def plans(self) -> bool:
        """Whether `act.onnx` plans, with a plan and noise among its inputs."""
        return self.plan.samples > 0

    @property
    def acting(self) -> tuple[TensorEntry, ...]:
        """Parameters that `act.onnx` takes: all of them, or those of the policy alone."""
        return tuple(p for p in self.parameters if self.plans or p.name.startswith(POLICY))

    @property
    def graphs(self) -> tuple[str, ...]:
        """Files that hold its graphs."""
        return GRAPHS + (REWARD,) * ("reward" in self.experience.fields)

    @model_validator(mode="after")
    def _check_complete(self) -> Manifest:
        if self.plans != (self.learner == "dynamics"):
            raise ValueError(
                f"the learner {self.learner} {'acts by a policy' if self.plans else 'plans'}, and "
                f"plan.samples is {self.plan.samples}"
            )
        if not self.plans and self.plan.horizon != 1:
            raise ValueError("a policy sees the reference of now alone: plan.horizon must be 1")
        if self.plans and self.experience != PLAIN:
            raise ValueError("the learner dynamics has no experience but the plain one")
        wanted = {*self.graphs, *TENSORS}
        if set(self.files) != wanted:
            raise ValueError(f"files must be {sorted(wanted)}, got {sorted(self.files)}")
        for role in ("parameters", "optimizer_state"):
            names = [entry.name for entry in getattr(self, role)]
            if len(set(names)) < len(names):
                raise ValueError(f"{role} name a tensor twice")
        if set(self.lr_scale) != {p.name for p in self.parameters}:
            raise ValueError("lr_scale must name every parameter once")
        return self
