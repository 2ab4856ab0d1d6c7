"""What each graph of a bundle must take and give, by its manifest: names and shapes, float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reptile_agent.onboard.manifest import REWARD, VALUE, Manifest, TensorEntry

Shape = tuple[int | str, ...]
"""Lengths of the axes; a name where the length is free."""
MAX_ELEMENTS = 2**24
"""Of one tensor, free axes not counted: 64 MiB."""
MAX_TOTAL = 2**25
"""Of all inputs of one graph."""


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of one graph."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def interfaces(manifest: Manifest) -> dict[str, Interface]:
    """The interface of every graph.

    Raises:
        ValueError: a tensor would be larger than any robot needs.
    """
    robot, experience = manifest.robot, manifest.experience
    obs, act, ref = (len(x) for x in (robot.observations, robot.actions, robot.references))
    horizon, samples = manifest.plan.horizon, manifest.plan.samples
    params = _prefixed("p.", manifest.parameters)
    state = _prefixed("s.", manifest.optimizer_state)
    segments = experience.segments(robot, manifest.segment)
    minibatch = experience.minibatch(robot, manifest.segment)
    now: dict[str, Shape] = {"obs": (obs,), "reference": (horizon, ref)}
    found = {
        "act.onnx": Interface(_prefixed("p.", manifest.acting) | now, {"action": (act,)}),
        "adapt.onnx": Interface(
            params
            | state
            | {name: ("k", "rows", *shape) for name, shape in minibatch.items()}
            | {f"lr.{entry.name}": () for entry in manifest.parameters},
            {f"new.{name}": shape for name, shape in (params | state).items()}
            | {"loss": ("k",), "grad_norm": ("k",)},
        ),
        "evaluate.onnx": Interface(
            params | {name: ("rows", *shape) for name, shape in segments.items()},
            {"error": ("rows",)},
        ),
        VALUE: Interface(params | now | {"plan": ("rows", horizon, act)}, {"value": ("rows",)}),
    }
    if manifest.plans:
        found["act.onnx"].inputs.update(plan=(horizon, act), noise=(samples, horizon, act))
        found["act.onnx"].outputs.update(new_plan=(horizon, act), expected=(obs,))
    if REWARD in manifest.graphs:
        signals = robot.reward_signals.items()
        found[REWARD] = Interface({n: (len(each),) for n, each in signals}, {"reward": ()})
    for graph, interface in found.items():
        _check_sizes(graph, interface.inputs)
    return found


def _prefixed(prefix: str, entries: tuple[TensorEntry, ...]) -> dict[str, Shape]:
    return {prefix + entry.name: entry.shape for entry in entries}


def _check_sizes(graph: str, tensors: dict[str, Shape]) -> None:
    sizes = {n: math.prod(x for x in s if isinstance(x, int)) for n, s in tensors.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    if sizes[largest] > MAX_ELEMENTS or sum(sizes.values()) > MAX_TOTAL:
        raise ValueError(
            f"{graph} would take {sum(sizes.values())} numbers, '{largest}' alone "
            f"{sizes[largest]} (allowed: {MAX_TOTAL}, {MAX_ELEMENTS})"
        )
