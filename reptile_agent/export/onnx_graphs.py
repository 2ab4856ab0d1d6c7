"""Traces a pure torch function, gradients inside, into an ONNX graph with named tensors.

The way: make_fx lowers torch.func transforms to plain operators, torch.onnx translates those.
Two traps lie on it, both silent, and both are why `reptile_agent.export.parity` exists:
`pre_dispatch=True` would bake gradients in as constants, and the exporter's `optimize=True`
removes `x + 1e-8`, Adam's epsilon.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import onnx
import onnxscript.optimizer
import torch
from onnx import helper
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Tensors = dict[str, Tensor]
FOLD_LIMIT = 1024
"""Largest tensor, in elements, that constant folding may write into a graph."""


def trace(
    function: Callable[[Tensors], Tensors],
    inputs: Tensors,
    dynamic: dict[str, dict[int, str]] | None = None,
) -> onnx.ModelProto:
    """An ONNX model of `function`.

    Args:
        function: pure; takes and returns tensors by name.
        inputs: example values.
        dynamic: input name -> axis -> name of an axis whose length is free.

    Raises:
        RuntimeError: the exporter changed the names of inputs or outputs.
    """
    dynamic = dynamic or {}
    names = list(inputs)
    out_names: list[str] = []

    def positional(*values: Tensor) -> tuple[Tensor, ...]:
        outputs = function(dict(zip(names, values)))
        out_names[:] = outputs
        return tuple(outputs.values())

    values = tuple(inputs.values())
    mode = "symbolic" if dynamic else "real"
    # Constants of the function (normalisers) are real tensors among symbolic ones.
    graph = make_fx(positional, tracing_mode=mode, _allow_non_fake_inputs=True)(*values)
    axes = {
        axis: torch.export.Dim(axis, min=2, max=65536)
        for axis in {a for shape in dynamic.values() for a in shape.values()}
    }
    shapes = tuple(
        {i: axes[a] for i, a in dynamic[name].items()} if name in dynamic else None
        for name in names
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            values,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=out_names,
            optimize=False,
            dynamic_shapes=shapes if dynamic else None,
        )
    if program is None:
        raise RuntimeError("the ONNX exporter returned nothing")
    onnxscript.optimizer.fold_constants(
        program.model,
        onnx_shape_inference=True,
        output_size_limit=FOLD_LIMIT,
        input_size_limit=FOLD_LIMIT,
    )
    onnxscript.optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    found = [v.name for v in model.graph.input], [v.name for v in model.graph.output]
    if found != (names, out_names):
        raise RuntimeError(f"the exporter made {found} of {(names, out_names)}")
    _strip(model)
    onnx.checker.check_model(model)
    return model


def loop(step: onnx.ModelProto, state: list[str], per_step: list[str]) -> onnx.ModelProto:
    """A k-step model of a one-step model, k free: an ONNX Scan around the same operators.

    Args:
        step: has an output `new.<name>` for every state input; others are stacked over steps.
        state: inputs that are carried from step to step.
        per_step: inputs of which every step gets its own slice of a leading axis `k`.
    """
    graph = step.graph
    inputs = {v.name: v for v in graph.input}
    outputs = {v.name: v for v in graph.output}
    carried = [f"new.{name}" for name in state]
    stacked = [name for name in outputs if name not in carried]
    constant = [name for name in inputs if name not in state and name not in per_step]
    body = helper.make_graph(
        list(graph.node),
        "inner_step",
        [_renamed(inputs[name], f"step.{name}") for name in state + per_step],
        [_renamed(outputs[name], f"step.{name}") for name in carried + stacked],
        list(graph.initializer),
    )
    inside = {n: f"step.{n}" for n in [*state, *per_step, *carried, *stacked]}
    for node in body.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    scan = helper.make_node(
        "Scan", state + per_step, carried + stacked, body=body, num_scan_inputs=len(per_step)
    )
    model = helper.make_model(
        helper.make_graph(
            [scan],
            "inner_loop",
            [inputs[name] for name in state]
            + [_renamed(inputs[name], name, leading="k") for name in per_step]
            + [inputs[name] for name in constant],
            [outputs[name] for name in carried]
            + [_renamed(outputs[name], name, leading="k") for name in stacked],
        ),
        opset_imports=step.opset_import,
        ir_version=step.ir_version,
    )
    onnx.checker.check_model(model)
    return model


def _renamed(
    value: onnx.ValueInfoProto, name: str, leading: str | None = None
) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape = [d.dim_value or d.dim_param for d in tensor.shape.dim]
    return helper.make_tensor_value_info(
        name, tensor.elem_type, ([leading] if leading else []) + shape
    )


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces and other metadata: they hold paths of the exporting machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for group in (
        model.graph.value_info,
        model.graph.input,
        model.graph.output,
        model.graph.initializer,
    ):
        for value in group:
            del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
