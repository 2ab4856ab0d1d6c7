"""reptile_agent.onboard.graph_integers: measurements decide no length, and nothing traps."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reptile_agent.onboard.graph_integers import check_integers
from reptile_agent.onboard.graph_rules import GraphError

WHOLE, REAL, TRUTH = np.array([2], np.int64), np.array([2.0], np.float32), np.array([True])
KINDS = {"whole": WHOLE, "small": np.array([1], np.int32), "real": REAL, "truth": TRUTH}


def node(kind: str, *inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], **attributes)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Constants of every kind, a float32 input x, and the nodes."""
    constants = [numpy_helper.from_array(value, name) for name, value in KINDS.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    return helper.make_model(helper.make_graph(nodes, "g", [x], [], constants))


def scan(body: list[onnx.NodeProto], *inputs: str) -> onnx.NodeProto:
    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    b = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
    graph = helper.make_graph(body, "body", [a], [b])
    return helper.make_node("Scan", list(inputs), ["y"], body=graph, num_scan_inputs=1)


DIVIDES, CHOOSES = "divides whole numbers", "chooses between whole numbers"


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Div", "whole", "whole")], DIVIDES),
        ([node("Div", "small", "small")], DIVIDES),
        ([node("Shape", "x", output="n"), node("Div", "n", "whole")], DIVIDES),
        ([node("Constant", output="c", value_int=3), node("Div", "c", "c")], DIVIDES),
        ([node("Constant", output="c", value_ints=[3]), node("Div", "c", "c")], DIVIDES),
        ([node("Neg", "whole", output="n"), node("Div", "n", "n")], DIVIDES),
        ([node("Concat", "whole", "whole", output="n", axis=0), node("Div", "n", "n")], DIVIDES),
        ([node("Div", "nowhere", "real")], "uses 'nowhere' before it is made"),
        ([node("Range", "whole", "later", "whole"), node("Neg", "x", output="later")], "'later'"),
        ([scan([node("Neg", "later", output="b")], "x"), node("Neg", "x", output="later")], "lat"),
        ([node("Pow", "whole", "x")], "raises whole numbers to a power"),
        ([scan([node("Div", "whole", "whole", output="b")], "x")], DIVIDES),
        ([scan([node("Div", "a", "a", output="b")], "whole")], "hands whole numbers to a graph"),
        ([scan([node("Range", "a", "a", "a", output="b")], "x", "whole")], "hands whole numbers"),
        ([scan([node("Range", "a", "a", "a", output="b")], "x")], "lets measurements decide"),
        ([scan([node("Neg", "whole", output="b")], "x"), node("Div", "y", "y")], DIVIDES),
        ([node("Where", "truth", "whole", "whole")], CHOOSES),
        ([node("Where", "truth", "real", "whole")], CHOOSES),
        (
            [node("Cast", "x", to=TensorProto.INT64)],
            "makes something else than float, bool, double",
        ),
        ([node("Cast", "truth", to=TensorProto.INT32)], "makes something else than"),
        ([node("Range", "real", "real", "real")], "lets measurements decide a length"),
        ([node("Range", "whole", "x", "whole")], "lets measurements decide a length"),
    ],
)
def test_what_measurements_could_turn_against_the_robot_is_refused(nodes, words):
    with pytest.raises(GraphError, match=words):
        check_integers(model(*nodes))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Div", "x", "real")],
        [node("Cast", "whole", output="r", to=TensorProto.FLOAT), node("Div", "x", "r")],
        [node("Gather", "x", "whole", output="r"), node("Div", "r", "x")],
        [node("ReduceSum", "x", "whole", output="r"), node("Div", "r", "x")],
        [node("Slice", "x", "whole", "whole", "", "whole", output="r"), node("Div", "r", "x")],
        [node("ScatterND", "x", "whole", "real", output="r"), node("Div", "r", "x")],
        [node("Clip", "x", "", "real", output="r"), node("Div", "r", "x")],
        [node("Shape", "x", output="n"), node("ConstantOfShape", "n"), node("Div", "y", "x")],
        [node("Greater", "x", "real", output="t"), node("Where", "t", "x", "real")],
        [node("Range", "whole", "whole", "whole")],
        [node("Mul", "whole", "whole", output="n"), node("Reshape", "x", "n")],
        [scan([node("Div", "a", "real", output="b")], "x"), node("Div", "y", "x")],
    ],
)
def test_arithmetic_of_measurements_and_of_shapes_apart_is_not(nodes):
    check_integers(model(*nodes))


def test_what_is_refused_is_named_on_one_line_and_cut():
    named = node("Div", "whole", "whole", output="a\nb" + "c" * 100)
    with pytest.raises(GraphError) as error:
        check_integers(model(named))
    assert re.fullmatch(
        r"divides .* \('a\\nbc{57}\.\.\.'\), which is not allowed", str(error.value)
    )


def test_the_division_really_kills_a_process_that_is_not_guarded():
    """Why the rule is there; where a later onnxruntime refuses it, the rule may go."""
    graph = helper.make_graph(
        [node("Div", "least", "by")],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1])],
        [
            numpy_helper.from_array(np.array([-(2**63)], np.int64), "least"),
            numpy_helper.from_array(np.array([-1], np.int64), "by"),
        ],
    )
    trap = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    code = (
        "import sys, onnxruntime as o; "
        "o.InferenceSession(sys.stdin.buffer.read(), providers=['CPUExecutionProvider'])"
        ".run(None, {})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=trap.SerializeToString(), capture_output=True
    )
    assert done.returncode < 0, f"onnxruntime lives with it now: {done.stderr.decode()[-200:]}"
