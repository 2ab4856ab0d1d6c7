"""Holds a bundle's graphs against the torch functions they were traced from.

On parameters, minibatches and step sizes that differ from the traced ones: an exporter that
baked a gradient in as a constant passes on the traced ones only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reptile_agent.export import learner_graphs
from reptile_agent.export.remade import agent_of
from reptile_agent.meta.driver import Driver
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop
from reptile_agent.meta.learner import Params, RobotLearner
from reptile_agent.meta.learners.model_policy import ModelPolicyLearner
from reptile_agent.meta.planner import Reward
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.manifest import REWARD, VALUE

Arrays = list[np.ndarray]
ROWS = 33
"""Rows of the minibatches compared on: another number than was traced."""


@dataclass(frozen=True)
class Row:
    """One line of a verification."""

    check: str
    value: float
    """Largest relative error, or 1 and 0 for yes and no."""
    limit: float
    """Up to which it passes."""

    @property
    def passed(self) -> bool:
        """Whether the check holds."""
        return bool(self.value <= self.limit)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check,
            "value": self.value,
            "limit": self.limit,
            "passed": self.passed,
        }


def verify(
    bundle: Bundle,
    objective: Reward | None,
    inner_steps: tuple[int, ...],
    reward: Reward | None = None,
) -> list[Row]:
    """The graphs of a loaded bundle against torch (loading made all other checks).

    Args:
        bundle: as loaded.
        objective: of its task family, which plans are weighed by and a model_policy follows; None:
            what hangs on it is left out.
        inner_steps: numbers of inner steps (k) to compare over.
        reward: of its task family, to hold `reward.onnx` against; None: that check is left out.
    """
    learner, driver = agent_of(bundle, objective)
    rows: list[Row] = []
    rng = torch.Generator().manual_seed(1)
    params = _perturbed(bundle, rng)
    # A model_policy judges and follows what its model comes to, and so the objective.
    complete = objective is not None or not isinstance(learner, ModelPolicyLearner)
    if driver is not None:
        rows.append(_act_row(bundle, driver, params, rng))
    if driver is not None and complete:
        rows.append(_value_row(bundle, driver, params, rng))
    if reward is not None and REWARD in bundle.manifest.graphs:
        rows.append(_reward_row(bundle, reward, rng))
    if complete:
        rows += [_adapt_row(bundle, learner, params, k, rng) for k in inner_steps]
    return [*rows, _evaluate_row(bundle, learner, params, rng)]


def _perturbed(bundle: Bundle, rng: torch.Generator) -> Params:
    tensors = parameters.views(bundle.start.copy(), bundle.manifest.parameters)
    return {
        name: torch.from_numpy(value) + 0.02 * torch.randn(value.shape, generator=rng)
        for name, value in tensors.items()
    }


def _act_row(bundle: Bundle, driver: Driver, params: Params, rng: torch.Generator) -> Row:
    robot, (samples, horizon, acts) = driver.robot, driver.noise_shape
    inputs = {
        "obs": 0.3 * torch.randn(len(robot.observations), generator=rng),
        "reference": 0.3 * torch.randn(horizon, len(robot.references), generator=rng),
        "plan": 0.05 * torch.randn(horizon, acts, generator=rng),
        "noise": torch.randn(driver.noise_shape, generator=rng),
    }
    wanted = driver(params, *inputs.values())
    names = ["action", "new_plan", "expected"]
    if not samples:
        del inputs["plan"], inputs["noise"], names[1:]
    acting = [entry.name for entry in bundle.manifest.acting]
    feed = {f"p.{name}": params[name] for name in acting} | inputs
    found = _run(bundle, "act.onnx", names, feed)
    return Row("act.onnx against torch", max(map(_relative, found, wanted)), 1e-3)


def _value_row(bundle: Bundle, driver: Driver, params: Params, rng: torch.Generator) -> Row:
    robot, (_, horizon, acts) = driver.robot, driver.noise_shape
    obs = 0.3 * torch.randn(len(robot.observations), generator=rng)
    reference = 0.3 * torch.randn(horizon, len(robot.references), generator=rng)
    plans = 0.05 * torch.randn(ROWS, horizon, acts, generator=rng)
    wanted = driver.value(params, obs, reference, plans)
    feed = {f"p.{name}": value for name, value in params.items()}
    feed |= {"obs": obs, "reference": reference, "plan": plans}
    (found,) = _run(bundle, VALUE, ["value"], feed)
    return Row("value.onnx against torch", _relative(found, wanted), 1e-3)


def _reward_row(bundle: Bundle, reward: Reward, rng: torch.Generator) -> Row:
    signals = bundle.manifest.robot.reward_signals.items()
    feed = {name: 0.3 * torch.randn(len(each), generator=rng) for name, each in signals}
    (found,) = _run(bundle, REWARD, ["reward"], feed)
    return Row("reward.onnx against torch", _relative(found, reward(*feed.values())), 1e-3)


def _adapt_row(
    bundle: Bundle, learner: RobotLearner, params: Params, k: int, rng: torch.Generator
) -> Row:
    """Error of the *update* relative to its own size: k steps change little of a parameter."""
    optimizer = InnerOptimizer(**bundle.manifest.hyperparameters["inner"])
    examples = [learner_graphs.example_batch(learner, ROWS, rng) for _ in range(k)]
    batches = {name: torch.stack([e[name] for e in examples]) for name in examples[0]}
    lr = {name: torch.tensor(2e-3) for name in params}
    state = optimizer.init(params)
    adapted, _, info = inner_loop(learner, optimizer, params, state, batches, lr)
    feed = {f"p.{n}": v for n, v in params.items()} | {f"s.{n}": v for n, v in state.items()}
    feed |= batches | {f"lr.{n}": v for n, v in lr.items()}
    names = [f"new.p.{name}" for name in params]
    *found, loss = _run(bundle, "adapt.onnx", [*names, "loss"], feed)
    off, size = 0.0, 0.0
    for new, (name, old) in zip(found, params.items()):
        off += float((adapted[name] - torch.from_numpy(new)).square().sum())
        size += float((adapted[name] - old).square().sum())
    worst = max((off / size) ** 0.5, _relative(loss, info["loss"]))
    return Row(f"adapt.onnx against torch, k={k}", worst, 1e-3)


def _evaluate_row(
    bundle: Bundle, learner: RobotLearner, params: Params, rng: torch.Generator
) -> Row:
    batch = learner_graphs.example_batch(learner, ROWS, rng)
    wanted = learner.prediction_error(params, batch)
    feed = {f"p.{n}": v for n, v in params.items()}
    feed |= {name: batch[name] for name in learner.experience.fields}
    (found,) = _run(bundle, "evaluate.onnx", ["error"], feed)
    return Row("evaluate.onnx against torch", _relative(found, wanted), 1e-3)


def _run(bundle: Bundle, graph: str, outputs: list[str], feed: dict[str, Tensor]) -> Arrays:
    arrays = {name: value.detach().numpy() for name, value in feed.items()}
    return [np.asarray(value) for value in bundle.session(graph).run(outputs, arrays)]


def _relative(found: np.ndarray, wanted: Tensor) -> float:
    reference = wanted.detach().numpy()
    return float(np.abs(found - reference).max() / (np.abs(reference).max() + 1e-12))
