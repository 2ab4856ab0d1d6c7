"""The graphs of a learner and of what drives with it: act, adapt, evaluate, value, and reward."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from torch import Tensor

from reptile_agent.export import onnx_graphs
from reptile_agent.meta.driver import Driver
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_step
from reptile_agent.meta.learner import Params, RobotLearner
from reptile_agent.meta.planner import Reward
from reptile_agent.onboard.manifest import POLICY, REWARD, VALUE
from reptile_agent.spec import RobotSpec

Tensors = dict[str, Tensor]
EXAMPLE_ROWS = 7
"""Rows of the example minibatch: a length that no other axis has."""


def build(
    learner: RobotLearner,
    driver: Driver,
    reward: Reward,
    optimizer: InnerOptimizer,
    params: Params,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, bytes]:
    """File name -> serialized ONNX model.

    Args:
        learner: that adapts.
        driver: that acts with its parameters.
        reward: of the task family; in a graph of its own where the learner learns from rewards.
        optimizer: of the inner loop.
        params: of plausible size; the graphs take them as inputs.
        tell: called with what is done next: a graph takes some seconds.
    """
    makers: dict[str, Callable[[], onnx.ModelProto]] = {
        "act.onnx": lambda: act_graph(driver, params),
        "adapt.onnx": lambda: adapt_graph(learner, optimizer, params),
        "evaluate.onnx": lambda: evaluate_graph(learner, params),
        VALUE: lambda: value_graph(driver, params),
    }
    if "reward" in learner.experience.fields:
        makers[REWARD] = lambda: reward_graph(learner.robot, reward)
    models: dict[str, bytes] = {}
    for number, (name, make) in enumerate(makers.items(), 1):
        tell(f"tracing {name} ({number} of {len(makers)})")
        models[name] = make().SerializeToString()
    return models


def act_graph(driver: Driver, params: Params) -> onnx.ModelProto:
    """`p.*`, obs, reference -> action; and plan, noise -> new_plan, expected where it plans.

    A policy takes its own parameters alone: every input that is bound costs time.
    """
    samples, horizon, acts = driver.noise_shape
    if not samples:
        params = {name: value for name, value in params.items() if name.startswith(POLICY)}
    plan, noise = torch.zeros(horizon, acts), torch.zeros(driver.noise_shape)

    def act(inputs: Tensors) -> Tensors:
        rest = (inputs["obs"], inputs["reference"])
        planned = (inputs.get("plan", plan), inputs.get("noise", noise))
        outputs = driver(_take("p.", inputs), *rest, *planned)
        return dict(zip(("action", "new_plan", "expected") if samples else ("action",), outputs))

    example = {
        **_put("p.", params),
        "obs": torch.randn(len(driver.robot.observations)),
        "reference": torch.randn(horizon, len(driver.robot.references)),
    }
    if samples:
        example |= {"plan": torch.randn(horizon, acts), "noise": torch.randn(driver.noise_shape)}
    return onnx_graphs.trace(act, example)


def adapt_graph(
    learner: RobotLearner, optimizer: InnerOptimizer, params: Params
) -> onnx.ModelProto:
    """`p.*`, `s.*`, `lr.*`, minibatches [k, rows, ...] -> `new.p.*`, `new.s.*`, loss, grad_norm."""
    state, batch_names = optimizer.init(params), list(example_batch(learner))

    def step(inputs: Tensors) -> Tensors:
        batch = {name: inputs[name] for name in batch_names}
        new_params, new_state, info = inner_step(
            learner,
            optimizer,
            _take("p.", inputs),
            _take("s.", inputs),
            batch,
            _take("lr.", inputs),
        )
        return {**_put("new.p.", new_params), **_put("new.s.", new_state), **info}

    lr = {name: torch.tensor(0.01) for name in params}
    example = {
        **_put("p.", params),
        **_put("s.", state),
        **example_batch(learner),
        **_put("lr.", lr),
    }
    dynamic = {name: {0: "rows"} for name in batch_names}
    one_step = onnx_graphs.trace(step, example, dynamic)
    carried = [*_put("p.", params), *_put("s.", state)]
    return onnx_graphs.loop(one_step, carried, batch_names)


def evaluate_graph(learner: RobotLearner, params: Params) -> onnx.ModelProto:
    """`p.*`, fields of transitions [rows, ...] -> error [rows]."""

    def evaluate(inputs: Tensors) -> Tensors:
        return {"error": learner.prediction_error(_take("p.", inputs), inputs)}

    examples = example_batch(learner)
    batch = {name: examples[name] for name in learner.experience.fields}
    dynamic = {name: {0: "rows"} for name in batch}
    return onnx_graphs.trace(evaluate, {**_put("p.", params), **batch}, dynamic)


def value_graph(driver: Driver, params: Params) -> onnx.ModelProto:
    """`p.*`, obs, reference, plan [rows, horizon, act_dim] -> value [rows]."""
    robot = driver.robot
    _, horizon, acts = driver.noise_shape

    def value(inputs: Tensors) -> Tensors:
        seen = (inputs[name] for name in ("obs", "reference", "plan"))
        return {"value": driver.value(_take("p.", inputs), *seen)}

    example = {
        **_put("p.", params),
        "obs": torch.randn(len(robot.observations)),
        "reference": torch.randn(horizon, len(robot.references)),
        "plan": torch.randn(EXAMPLE_ROWS, horizon, acts),
    }
    return onnx_graphs.trace(value, example, {"plan": {0: "rows"}})


def reward_graph(robot: RobotSpec, reward: Reward) -> onnx.ModelProto:
    """Obs, action, next_obs, reference of one control period -> reward, a scalar."""
    signals = robot.reward_signals

    def rewarded(inputs: Tensors) -> Tensors:
        return {"reward": reward(*(inputs[name] for name in signals))}

    example = {name: torch.randn(len(each)) for name, each in signals.items()}
    return onnx_graphs.trace(rewarded, example)


def example_batch(
    learner: RobotLearner,
    rows: int = EXAMPLE_ROWS,
    generator: torch.Generator | None = None,
) -> Tensors:
    """A minibatch of plausible size, random."""
    shapes = learner.experience.minibatch(learner.robot, learner.segment)
    batch = {n: torch.randn(rows, *shape, generator=generator) for n, shape in shapes.items()}
    batch["weight"] = torch.rand(rows, generator=generator) + 0.5
    if "terminated" in batch:
        batch["terminated"] = (batch["terminated"] > 1).float()
    return batch


def _put(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def _take(prefix: str, tensors: Tensors) -> Tensors:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
