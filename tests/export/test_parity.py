"""reptile_agent.export.parity: graphs do what torch does, and one that does not is found out."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from reptile_agent.export import learner_graphs
from reptile_agent.export.parity import verify
from reptile_agent.export.remade import learner_of
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle

KS = (1, 5, 20)


@pytest.fixture(params=["sgd", "adam"])
def any_bundle(request, bundle_path, adam_bundle_path) -> Bundle:
    return Bundle.load(bundle_path if request.param == "sgd" else adam_bundle_path)


def failed(rows) -> list[str]:
    return [row.check for row in rows if not row.passed]


def test_a_bundle_does_what_torch_does(any_bundle, short_arm):
    rows = verify(any_bundle, short_arm.reward, KS)
    assert failed(rows) == []
    checks = " | ".join(row.check for row in rows)
    for what in ("act.onnx against torch", "k=1", "k=5", "k=20", "evaluate.onnx against torch"):
        assert what in checks
    assert max(row.value for row in rows) < 1e-3


def test_without_a_reward_the_planner_is_left_out(bundle):
    assert not [row for row in verify(bundle, None, (1,)) if row.check == "act.onnx against torch"]


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", [3, 4])
def test_k_steps_equal_torchs_on_inputs_that_were_not_traced(any_bundle, k, seed):
    adapted, found, start = both(any_bundle, k, seed)
    for name, old in start.items():
        # The update, not the parameter: k steps change little of it.
        wanted, got = adapted[name] - old, found[name] - old
        assert wanted.norm() > 0
        assert (got - wanted).norm() <= 1e-4 * wanted.norm(), name


def test_adams_epsilon_survives_the_export(adam_bundle_path):
    bundle = Bundle.load(adam_bundle_path)
    # Gradients of about epsilon: with it, the step shrinks; without it, it would not.
    adapted, found, start = both(bundle, k=3, seed=5, loss_scale=1e-9)
    full, *_ = both(bundle, k=3, seed=5)
    for name, old in start.items():
        wanted, got = adapted[name] - old, found[name] - old
        assert (got - wanted).norm() <= 1e-3 * wanted.norm(), name
        assert wanted.norm() < 0.8 * (full[name] - old).norm(), name


def both(bundle: Bundle, k: int, seed: int, loss_scale: float = 1.0):
    """Parameters after k steps by torch and by `adapt.onnx`, and those before."""
    learner, rng = learner_of(bundle), torch.Generator().manual_seed(seed)
    tensors = parameters.views(bundle.start.copy(), bundle.manifest.parameters)
    start = {
        n: torch.from_numpy(v) + 0.1 * torch.randn(v.shape, generator=rng)
        for n, v in tensors.items()
    }
    rows = [learner_graphs.example_batch(learner, 11 + seed, rng) for _ in range(k)]
    batches = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    batches["weight"] *= loss_scale
    lr = {name: torch.tensor(1e-3 * (i + 1)) for i, name in enumerate(start)}
    optimizer = InnerOptimizer(**bundle.manifest.hyperparameters["inner"])
    state = optimizer.init(start)
    adapted, *_ = inner_loop(learner, optimizer, start, state, batches, lr)
    feed = {f"p.{n}": v for n, v in start.items()} | {f"s.{n}": v for n, v in state.items()}
    feed |= batches | {f"lr.{n}": v for n, v in lr.items()}
    arrays = {name: value.numpy() for name, value in feed.items()}
    new = bundle.session("adapt.onnx").run([f"new.p.{n}" for n in start], arrays)
    return adapted, dict(zip(start, (torch.from_numpy(np.array(v)) for v in new))), start


def graphs_of(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    found = [model.graph]
    for graph in found:
        found += [a.g for n in graph.node for a in n.attribute if a.type == a.GRAPH]
    return found


def scale_constants(model: onnx.ModelProto) -> None:
    """Change every normaliser in a graph by a tenth."""
    changed = 0
    for graph in graphs_of(model):
        tensors = list(graph.initializer)
        tensors += [
            a.t
            for n in graph.node
            if n.op_type == "Constant"
            for a in n.attribute
            if a.type == a.TENSOR
        ]
        for tensor in tensors:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and array.size > 1:
                tensor.CopyFrom(numpy_helper.from_array(1.1 * array, tensor.name))
                changed += 1
    assert changed


@pytest.mark.parametrize("graph", ["act.onnx", "adapt.onnx", "evaluate.onnx"])
def test_a_graph_whose_numbers_were_changed_fails(bundle_copy, short_arm, replace_file, graph):
    model = onnx.load(bundle_copy / graph)
    scale_constants(model)
    replace_file(bundle_copy, graph, model.SerializeToString())
    bad = failed(verify(Bundle.load(bundle_copy), short_arm.reward, (1, 5)))
    assert bad
    assert all(check.startswith(graph) for check in bad)


def test_a_graph_for_another_reward_fails(bundle, short_arm):
    def other(obs, action, after, reference):
        return -after[..., :5].square().mean(-1)

    planning = ["act.onnx against torch", "value.onnx against torch"]
    assert failed(verify(bundle, other, (1,))) == planning


def test_the_inner_loop_of_another_optimizer_fails(
    bundle_path, adam_bundle_path, tmp_path, edit_manifest
):
    # The trap of exporters: Adam's graph without its epsilon is Adam's graph with another one.
    copy = tmp_path / "bundle"
    shutil.copytree(adam_bundle_path, copy)
    edit_manifest(copy, lambda document: document["hyperparameters"]["inner"].update(eps=0.5))
    bad = failed(verify(Bundle.load(copy), None, (1,)))
    assert bad == ["adapt.onnx against torch, k=1"]
