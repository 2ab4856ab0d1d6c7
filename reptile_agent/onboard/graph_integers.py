"""Whole numbers of a graph come from its constants and shapes alone, and are never divided.

So what is measured decides no length and no index, and a graph that ran once on the robot's shapes
runs on every measurement: what would ask for memory without end, or trap the processor (the least
int64 by -1 kills a process that runs onnxruntime 1.31), shows in the trial or is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reptile_agent.onboard.graph_rules import GraphError

TYPES = {1: "float", 9: "bool", 11: "double"}
"""TensorProto.DataType of what a Cast may make."""
WHOLE = frozenset((2, 3, 4, 5, 6, 7, 12, 13))
"""TensorProto.DataType of all integers."""
TRUTHS = frozenset(
    ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")
)
"""Operators that give truths, whatever they take."""
OF_DATA: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("Reshape", "Slice", "Gather", "Squeeze", "Unsqueeze", "Expand", "Split"), (0,)
    ),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Pow"), (0,)),
    "ScatterND": (0, 2),
    "Where": (1, 2),
}
"""Operator -> inputs whose type its outputs have; the others of it are indices, axes or shapes."""


def check_integers(model: Any) -> None:
    """No operator makes whole numbers out of measurements, chooses between them or divides them.

    Raises:
        GraphError: otherwise.
    """
    _look(model.graph, {})


def _look(graph: Any, outer: Mapping[str, bool], all_whole: bool = False) -> list[bool]:
    """Whether each output of a graph is of whole numbers; names map to the same, outer ones too."""
    whole = dict(outer)
    whole |= {v.name: all_whole or v.type.tensor_type.elem_type in WHOLE for v in graph.input}
    whole |= {tensor.name: tensor.data_type in WHOLE for tensor in graph.initializer}
    for node in graph.node:
        # A name that is not known yet may be anything.
        inputs = [bool(name) and whole.get(name, True) for name in node.input]
        whole |= dict.fromkeys(node.output, _gives(node, inputs, whole))
    return [whole.get(value.name, True) for value in graph.output]


def _gives(node: Any, inputs: list[bool], names: Mapping[str, bool]) -> bool:
    """Whether a node gives whole numbers.

    Raises:
        GraphError: it may not.
    """
    kind = node.op_type
    of_data = [inputs[i] for i in OF_DATA.get(kind, range(len(inputs))) if i < len(inputs)]
    whole = any(of_data)
    if kind in ("Div", "Where") and whole:
        does = "divides" if kind == "Div" else "chooses between"
        raise GraphError(f"{does} whole numbers ({_name(node)}), which is not allowed")
    if kind == "Range" and not all(inputs):
        raise GraphError(f"lets measurements decide a length ({_name(node)}), which is not allowed")
    if kind == "Cast":
        to = next((a.i for a in node.attribute if a.name == "to"), 0)
        if to not in TYPES:
            raise GraphError(
                f"makes something else than {', '.join(TYPES.values())} by a Cast ({_name(node)}), "
                f"which is not allowed"
            )
        return False
    if kind in TRUTHS:
        return False
    if kind == "Shape":
        return True
    if kind in ("Constant", "ConstantOfShape"):
        named = ("value_int", "value_ints")  # compared, for a name may be bytes
        return any(a.t.data_type in WHOLE or a.name in named for a in node.attribute)
    inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else []) + [*a.graphs]]
    if inner:
        # Which of its inputs is which is not asked: one of whole numbers makes all of them so.
        return any([one for graph in inner for one in _look(graph, names, any(inputs))])
    return whole


def _name(node: Any) -> str:
    """What to call a node: its first output, quoted and cut, for it comes from the file."""
    name = str(next(iter(node.output), ""))
    return repr(name if len(name) <= 60 else name[:60] + "...")
