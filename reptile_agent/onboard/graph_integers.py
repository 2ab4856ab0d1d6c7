"""Whole numbers of a graph come from its constants and shapes alone, and are never divided.

So what is measured decides no length and no index: what would ask for memory without end, or trap
the processor (the least int64 by -1 kills a process that runs onnxruntime 1.31), shows in the trial
or is refused here, as far as it does not hang on how many rows there are; the trial has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reptile_agent.onboard.graph_rules import GraphError, graphs_inside, shorten

CASTS = {1: "float", 9: "bool", 11: "double"}
"""TensorProto.DataType of what a Cast may make."""
WHOLE = frozenset((2, 3, 4, 5, 6, 7, 12, 13))
"""TensorProto.DataType of all integers."""
TRUTHS = frozenset(
    ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")
)
"""Operators that give truths, whatever they take."""
OF_DATA: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            *("Reshape", "Slice", "Gather", "Squeeze", "Unsqueeze", "Expand", "Split", "Pow"),
            *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
        ),
        (0,),
    ),
    "ScatterND": (0, 2),
    "Where": (1, 2),
}
"""Operator -> inputs whose type its outputs have; the others of it are indices, axes or shapes."""
FORBIDDEN = {
    "Div": "divides whole numbers",
    "Where": "chooses between whole numbers",
    "Pow": "raises whole numbers to a power that may be measured",
}
"""Operator -> what is wrong with it where its data are whole numbers."""


def check_integers(model: Any) -> None:
    """No operator makes whole numbers out of measurements, chooses between them or divides them.

    Raises:
        GraphError: otherwise; also where nodes are not in the order in which they can be run.
    """
    _look(model.graph, {})


def _look(graph: Any, outer: Mapping[str, bool]) -> list[bool]:
    """Whether each output of a graph is of whole numbers; outer names map to the same."""
    whole = dict(outer)
    # Those of the outermost graph are measurements and parameters; no other may take whole ones.
    whole |= {value.name: False for value in graph.input}
    whole |= {tensor.name: tensor.data_type in WHOLE for tensor in graph.initializer}
    for node in graph.node:
        inputs = [bool(name) and _known(whole, name) for name in node.input]
        whole |= dict.fromkeys(node.output, _gives(node, inputs, whole))
    return [_known(whole, value.name) for value in graph.output]


def _known(whole: Mapping[str, bool], name: str) -> bool:
    if name not in whole:
        raise GraphError(f"uses {shorten(name)} before it is made")
    return whole[name]


def _gives(node: Any, inputs: list[bool], names: Mapping[str, bool]) -> bool:
    """Whether a node gives whole numbers.

    Raises:
        GraphError: it may not.
    """
    kind, name = node.op_type, shorten(next(iter(node.output), ""))
    whole = any(inputs[i] for i in OF_DATA.get(kind, range(len(inputs))) if i < len(inputs))
    if whole and kind in FORBIDDEN:
        raise GraphError(f"{FORBIDDEN[kind]} ({name}), which is not allowed")
    if kind == "Range" and not all(inputs):
        raise GraphError(f"lets measurements decide a length ({name}), which is not allowed")
    if kind == "Cast":
        if next((a.i for a in node.attribute if a.name == "to"), 0) not in CASTS:
            raise GraphError(
                f"makes something else than {', '.join(CASTS.values())} by a Cast ({name}), which "
                f"is not allowed"
            )
        return False
    if kind in TRUTHS:
        return False
    if kind == "Shape":
        return True
    if kind in ("Constant", "ConstantOfShape"):
        named = ("value_int", "value_ints")  # compared, for a name may be bytes
        return any(a.t.data_type in WHOLE or a.name in named for a in node.attribute)
    inner = [*graphs_inside(node)]
    if inner and whole:
        raise GraphError(f"hands whole numbers to a graph inside ({name}), which is not allowed")
    return any([one for graph in inner for one in _look(graph, names)]) if inner else whole
