"""What a graph may be, decided on its parsed form before onnxruntime sees a byte of it.

Takes `onnx.ModelProto` and imports nothing: it runs in a process that shall start fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

ALLOWED_OPERATORS = frozenset(
    (
        "Abs Add And Atanh Cast Clip Concat Constant ConstantOfShape Cos Div Equal Erf Exp Expand "
        "Gather Gemm Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul Max Min Mul "
        "Neg Not Or Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu "
        "Reshape Scan ScatterND Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt "
        "Squeeze Sub Sum Tanh Transpose Unsqueeze Where"
    ).split(" ")
)
"""Plain arithmetic of the standard domain: nothing that reads files, calls out or draws."""
MAX_NODES = 20_000
"""Graphs inside graphs included; the shipped arm has 634 in its largest graph."""
MAX_DEPTH = 4
"""Graphs inside graphs; an inner loop is one deep."""
MAX_ELEMENTS = 2**22
"""Of one constant."""
MAX_RANK = 16
ITEM_BYTES = {1: 4, 6: 4, 7: 8, 9: 1, 11: 8}
"""TensorProto.DataType -> bytes, of float, int32, int64, bool and double: what arithmetic needs."""
TYPED_FIELDS = {1: "float_data", 6: "int32_data", 7: "int64_data", 9: "int32_data"} | {
    11: "double_data"
}
FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS = 1, 2, 3, 4, 5, 6, 7
"""AttributeProto.AttributeType; others are refused."""
FLOAT32 = 1
"""TensorProto.DataType of inputs and outputs."""
STANDARD = ("", "ai.onnx")


class GraphError(ValueError):
    """A graph breaks a rule; the message says which."""


def check_structure(model: Any) -> None:
    """No functions, nothing for training, no foreign domain; so many nodes, so deep at most.

    Raises:
        GraphError: otherwise.
    """
    if model.functions:
        raise GraphError(
            f"has functions ({shorten(model.functions[0].name)}); they are not allowed"
        )
    if model.training_info:
        raise GraphError("has training information, which is not allowed")
    foreign = [o.domain for o in model.opset_import if o.domain not in STANDARD]
    if foreign:
        raise GraphError(f"uses the operator set {shorten(foreign[0])}; only the standard one is")
    nodes = 0
    for graph, depth in graphs(model):
        nodes += len(graph.node)
        if depth > MAX_DEPTH:
            raise GraphError(f"has graphs inside graphs, more than {MAX_DEPTH} deep")
        if nodes > MAX_NODES:
            raise GraphError(f"has more than {MAX_NODES} nodes")


def check_operators(model: Any) -> None:
    """Every operator is on the allow-list, with attributes of plain kinds.

    Raises:
        GraphError: otherwise.
    """
    alien = sorted(operators(model) - ALLOWED_OPERATORS)
    if alien:
        named = ", ".join(shorten(name) for name in alien[:5])
        raise GraphError(f"has operators that are not on the allow-list: {named}")
    for graph, _ in graphs(model):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.ref_attr_name or not FLOAT <= attribute.type <= INTS:
                    raise GraphError(
                        f"has an attribute {shorten(attribute.name)} of {node.op_type} that is "
                        f"neither a number, a text, a tensor nor a graph"
                    )


def check_constants(model: Any) -> None:
    """Every constant is held by the graph itself, dense, of a plain type and of the size it says.

    Raises:
        GraphError: otherwise; also for data in another file.
    """
    for graph, _ in graphs(model):
        if graph.sparse_initializer:
            raise GraphError("has sparse constants, which are not allowed")
        for tensor in graph.initializer:
            _check_tensor(tensor)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == TENSOR:
                    _check_tensor(attribute.t)


def check_interface(
    model: Any, inputs: Mapping[str, list[int | str]], outputs: Mapping[str, list[int | str]]
) -> None:
    """Inputs and outputs are those that the manifest promises, float32.

    Args:
        model: the ModelProto.
        inputs: name -> lengths of the axes; a text where the length is free.
        outputs: the same.

    Raises:
        GraphError: otherwise.
    """
    defaults = {tensor.name for tensor in model.graph.initializer} & inputs.keys()
    if defaults:
        raise GraphError(f"has a constant in place of its input {shorten(min(defaults))}")
    for role, promised, values in (
        ("inputs", inputs, model.graph.input),
        ("outputs", outputs, model.graph.output),
    ):
        names = [_text(value.name) for value in values]
        if sorted(names) != sorted(promised):
            odd = min(set(names) ^ set(promised), default=names[0] if names else "")
            raise GraphError(f"has other {role} than the manifest says, for one {shorten(odd)}")
        for name, value in zip(names, values):
            _check_value(value, promised[name])


def graphs(model: Any) -> Iterator[tuple[Any, int]]:
    """Every graph of a model with its depth; the outermost has 0."""
    waiting = [(model.graph, 0)]
    while waiting:
        graph, depth = waiting.pop()
        yield graph, depth
        for node in graph.node:
            waiting += [(inner, depth + 1) for inner in graphs_inside(node)]


def graphs_inside(node: Any) -> Iterator[Any]:
    """The graphs that a node holds in its attributes."""
    for attribute in node.attribute:
        # By what is there and not by what is said: onnxruntime may look at either.
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def operators(model: Any) -> set[str]:
    """Operators of a model, graphs inside graphs included, as `domain::Name` or `Name`."""
    return {
        f"{_text(node.domain)}::{_text(node.op_type)}" if node.domain else _text(node.op_type)
        for graph, _ in graphs(model)
        for node in graph.node
    }


def _check_tensor(tensor: Any) -> None:
    name = shorten(tensor.name)
    if tensor.data_location or tensor.external_data:
        raise GraphError(f"keeps the constant {name} in another file; that is not allowed")
    if tensor.HasField("segment") or tensor.data_type not in ITEM_BYTES:
        raise GraphError(f"has a constant {name} of a type that is not allowed")
    if len(tensor.dims) > MAX_RANK or any(not 0 <= n <= MAX_ELEMENTS for n in tensor.dims):
        raise GraphError(f"has a constant {name} of a shape that is not allowed")
    count = math.prod(tensor.dims)
    held = len(getattr(tensor, TYPED_FIELDS[tensor.data_type]))
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data) / ITEM_BYTES[tensor.data_type]
    if count != held or count > MAX_ELEMENTS:
        raise GraphError(f"has a constant {name} that says {count} numbers and holds {held:g}")


def _check_value(value: Any, promised: list[int | str]) -> None:
    kind = value.type.tensor_type
    found = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    same = len(found) == len(promised) and all(
        isinstance(a, str) if isinstance(b, str) else a == b for a, b in zip(found, promised)
    )
    if kind.elem_type != FLOAT32 or not kind.HasField("shape") or not same:
        raise GraphError(
            f"should have {shorten(value.name)} as float32 {promised}, it has type "
            f"{kind.elem_type} {shorten(str(found))}"
        )


def _text(text: str | bytes) -> str:
    """A text of a graph; protobuf gives bytes where it is not UTF-8."""
    return text if isinstance(text, str) else repr(text)


def shorten(text: str | bytes) -> str:
    """Quoted, on one line, cut: it comes from the file."""
    text = _text(text)
    return repr(text if len(text) <= 60 else text[:60] + "...")
