"""reptile_agent.export.onnx_graphs: traced functions, and the loop around a traced step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

import reptile_agent
from reptile_agent.export import onnx_graphs
from reptile_agent.onboard import graph_rules


def run(model: onnx.ModelProto, **feed: torch.Tensor) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {n: v.numpy() for n, v in feed.items()})))


def step(inputs):
    """One gradient step of a line through points, whose loss comes out beside it.

    Columns, not vectors: onnxruntime 1.31 with all optimisations gets `MatMul(Transpose(x), v)`
    wrong for a vector `v`. Should a learner's graph ever hold one, parity finds it.
    """

    def loss(w):
        return (inputs["x"] @ w - inputs["y"]).square().mean()

    grad, value = torch.func.grad_and_value(loss)(inputs["w"])
    return {"new.w": inputs["w"] - inputs["lr"] * grad, "loss": value}


@pytest.fixture(scope="module")
def traced() -> onnx.ModelProto:
    example = {
        "w": torch.randn(3, 1),
        "x": torch.randn(7, 3),
        "y": torch.randn(7, 1),
        "lr": torch.tensor(0.1),
    }
    return onnx_graphs.trace(step, example, {"x": {0: "rows"}, "y": {0: "rows"}})


def inputs(rows: int, k: int | None = None, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    lead = () if k is None else (k,)
    return {
        "w": torch.randn(3, 1, generator=rng),
        "x": torch.randn(*lead, rows, 3, generator=rng),
        "y": torch.randn(*lead, rows, 1, generator=rng),
        "lr": torch.tensor(0.2),
    }


@pytest.mark.parametrize("rows", [2, 7, 50])
def test_a_gradient_inside_a_graph_follows_its_inputs(traced, rows):
    feed = inputs(rows, seed=rows)
    found, wanted = run(traced, **feed), step(feed)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_names_of_inputs_and_outputs_are_kept(traced):
    assert [v.name for v in traced.graph.input] == ["w", "x", "y", "lr"]
    assert [v.name for v in traced.graph.output] == ["new.w", "loss"]


@pytest.mark.parametrize("k", [1, 2, 9])
def test_the_loop_takes_as_many_steps_as_it_is_given(traced, k):
    looped = onnx_graphs.loop(traced, ["w"], ["x", "y"])
    feed = inputs(6, k, seed=k)
    found = run(looped, **feed)
    w, losses = feed["w"], []
    for i in range(k):
        out = step({"w": w, "x": feed["x"][i], "y": feed["y"][i], "lr": feed["lr"]})
        w = out["new.w"]
        losses.append(out["loss"])
    np.testing.assert_allclose(found["new.w"], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["loss"], torch.stack(losses), rtol=1e-4)


def test_the_loop_is_to_the_bit_the_step_called_k_times(traced):
    looped = onnx_graphs.loop(traced, ["w"], ["x", "y"])
    feed = inputs(6, 5)
    w = feed["w"]
    for i in range(5):
        one = run(traced, w=w, x=feed["x"][i], y=feed["y"][i], lr=feed["lr"])
        w = torch.from_numpy(one["new.w"])
    np.testing.assert_array_equal(run(looped, **feed)["new.w"], w)


def test_operators_are_seen_inside_loops_and_by_their_domain(traced):
    looped = onnx_graphs.loop(traced, ["w"], ["x", "y"])
    inside = graph_rules.operators(traced)
    assert inside - {"Scan"} <= graph_rules.operators(looped)
    assert graph_rules.operators(looped) - inside == {"Scan"}
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"], domain="other")], "g", [], [out]
    )
    assert graph_rules.operators(helper.make_model(graph)) == {"other::Gelu"}


def test_a_tiny_constant_is_not_optimised_away():
    def guarded(tensors):
        return {"out": tensors["x"] / (tensors["x"].abs() + 1e-8)}

    model = onnx_graphs.trace(guarded, {"x": torch.ones(3)})
    tiny = torch.tensor([1e-8, 3e-8, 0.0])
    np.testing.assert_allclose(run(model, x=tiny)["out"], [0.5, 0.75, 0.0], rtol=1e-5)


@pytest.mark.parametrize("graph", ["act.onnx", "adapt.onnx", "evaluate.onnx", "manifest.json"])
def test_no_path_of_the_exporting_machine_is_in_a_bundle(bundle_path, graph):
    data = (bundle_path / graph).read_bytes()
    home = str(Path(reptile_agent.__file__).parent.parent)
    for path in (home, str(Path.home()), str(Path(torch.__file__).parent), "site-packages", ".py"):
        assert path.encode() not in data, path


def test_graphs_keep_to_the_standard_domain(bundle_path):
    for graph in ("act.onnx", "adapt.onnx", "evaluate.onnx"):
        model = onnx.load(bundle_path / graph)
        assert [opset.domain for opset in model.opset_import] == [""]
        assert not [name for name in graph_rules.operators(model) if "::" in name]


def test_minibatches_may_have_any_number_of_rows_and_steps(bundle):
    session = bundle.session("adapt.onnx")
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes["obs"] == ["k", "rows", 10]
    assert shapes["action"] == ["k", "rows", 2, 5]
    assert shapes["weight"] == ["k", "rows"]
