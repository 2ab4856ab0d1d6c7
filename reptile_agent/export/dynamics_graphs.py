"""The four graphs of a dynamics learner: act, adapt, evaluate, value."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from reptile_agent.export import onnx_graphs
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_step
from reptile_agent.meta.learner import Params
from reptile_agent.meta.learners.dynamics import DynamicsLearner
from reptile_agent.meta.planner import Planner

Tensors = dict[str, Tensor]
BATCH = ("obs", "action", "next_obs", "weight")
EXAMPLE_ROWS = 7
"""Rows of the example minibatch: a length that no other axis has."""


def build(planner: Planner, optimizer: InnerOptimizer, params: Params) -> dict[str, bytes]:
    """File name -> serialized ONNX model."""
    models = {
        "act.onnx": act_graph(planner, params),
        "adapt.onnx": adapt_graph(planner.learner, optimizer, params),
        "evaluate.onnx": evaluate_graph(planner.learner, params),
        "value.onnx": value_graph(planner, params),
    }
    return {name: model.SerializeToString() for name, model in models.items()}


def act_graph(planner: Planner, params: Params) -> onnx.ModelProto:
    """`p.*`, obs, reference, plan, noise -> action, new_plan, expected."""
    robot = planner.learner.robot
    _, horizon, acts = planner.noise_shape

    def act(inputs: Tensors) -> Tensors:
        rest = (inputs[name] for name in ("obs", "reference", "plan", "noise"))
        action, plan, expected = planner(_take("p.", inputs), *rest)
        return {"action": action, "new_plan": plan, "expected": expected}

    example = {
        **_put("p.", params),
        "obs": torch.randn(len(robot.observations)),
        "reference": torch.randn(horizon, len(robot.references)),
        "plan": torch.randn(horizon, acts),
        "noise": torch.randn(planner.noise_shape),
    }
    return onnx_graphs.trace(act, example)


def adapt_graph(
    learner: DynamicsLearner, optimizer: InnerOptimizer, params: Params
) -> onnx.ModelProto:
    """`p.*`, `s.*`, `lr.*`, minibatches [k, rows, ...] -> `new.p.*`, `new.s.*`, loss, grad_norm."""
    state = optimizer.init(params)

    def step(inputs: Tensors) -> Tensors:
        batch = {name: inputs[name] for name in BATCH}
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
    dynamic = {name: {0: "rows"} for name in BATCH}
    one_step = onnx_graphs.trace(step, example, dynamic)
    carried = [*_put("p.", params), *_put("s.", state)]
    return onnx_graphs.loop(one_step, carried, list(BATCH))


def evaluate_graph(learner: DynamicsLearner, params: Params) -> onnx.ModelProto:
    """`p.*`, obs, action, next_obs [rows, ...] -> error [rows]."""

    def evaluate(inputs: Tensors) -> Tensors:
        return {"error": learner.prediction_error(_take("p.", inputs), inputs)}

    batch = example_batch(learner)
    del batch["weight"]
    dynamic = {name: {0: "rows"} for name in batch}
    return onnx_graphs.trace(evaluate, {**_put("p.", params), **batch}, dynamic)


def value_graph(planner: Planner, params: Params) -> onnx.ModelProto:
    """`p.*`, obs, reference, plan [rows, horizon, act_dim] -> value [rows]."""
    robot = planner.learner.robot
    _, horizon, acts = planner.noise_shape

    def value(inputs: Tensors) -> Tensors:
        plan, reference = inputs["plan"], inputs["reference"]
        actions = planner.actions(plan, reference)
        before = torch.zeros_like(plan[:, 0, 0])
        params = _take("p.", inputs)
        return {"value": planner.imagine(params, inputs["obs"], reference, actions, before)}

    example = {
        **_put("p.", params),
        "obs": torch.randn(len(robot.observations)),
        "reference": torch.randn(horizon, len(robot.references)),
        "plan": torch.randn(EXAMPLE_ROWS, horizon, acts),
    }
    return onnx_graphs.trace(value, example, {"plan": {0: "rows"}})


def example_batch(
    learner: DynamicsLearner,
    rows: int = EXAMPLE_ROWS,
    generator: torch.Generator | None = None,
) -> Tensors:
    """A minibatch of plausible size, random."""
    obs, act = len(learner.robot.observations), len(learner.robot.actions)
    segment = learner.config.segment
    return {
        "obs": torch.randn(rows, obs, generator=generator),
        "action": torch.randn(rows, segment, act, generator=generator),
        "next_obs": torch.randn(rows, segment, obs, generator=generator),
        "weight": torch.rand(rows, generator=generator) + 0.5,
    }


def _put(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def _take(prefix: str, tensors: Tensors) -> Tensors:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
