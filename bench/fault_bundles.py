"""Broken bundles, one kind a function: what a robot must refuse before it touches what drives it.

`FAULTS` maps a name to `function(source, folder)`, which writes a broken copy of the good bundle
`source` to `folder`. In all but the first ones sizes and hashes are made to fit, so that it is what
comes after them that has to notice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Fault = Callable[[Path, Path], None]


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Put another file into a bundle, and its size and hash into the manifest."""
    (bundle / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(bundle, lambda document: document["files"].update({name: entry}))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest by a function of its JSON document."""
    file = bundle / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def flip_bits(data: bytes, rng: np.random.Generator, count: int = 1) -> bytes:
    """The data with `count` random bits flipped."""
    flipped = bytearray(data)
    for at in rng.integers(8 * len(flipped), size=count):
        flipped[at // 8] ^= 1 << (at % 8)
    return bytes(flipped)


def _in_file(name: str, change: Callable[[bytes], bytes]) -> Fault:
    """A fault in a file, which the manifest does not know of."""

    def fault(source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return fault


def _in_manifest(change: Callable[[dict[str, Any]], object]) -> Fault:
    def fault(source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        edit_manifest(folder, change)

    return fault


def _in_graph(change: Callable[[onnx.ModelProto], object], name: str = "act.onnx") -> Fault:
    """A fault in a graph, with the manifest made to fit."""

    def fault(source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        model = onnx.load_model_from_string((folder / name).read_bytes())
        change(model)
        replace_file(folder, name, model.SerializeToString())

    return fault


def _traversal(source: Path, folder: Path) -> None:
    """A file by a name that leads out of the folder, where it lies, too."""
    shutil.copytree(source, folder)
    outside = folder.with_name(f"{folder.name}-outside.onnx")
    shutil.copy(folder / "act.onnx", outside)

    def change(document: dict[str, Any]) -> None:
        document["files"][f"../{outside.name}"] = document["files"].pop("act.onnx")

    edit_manifest(folder, change)


def _link(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder)
    (folder / "act.onnx").unlink()
    (folder / "act.onnx").symlink_to(source.resolve() / "act.onnx")


def _not_finite(source: Path, folder: Path) -> None:
    from safetensors.numpy import load, save

    shutil.copytree(source, folder)
    tensors = load((folder / "start.safetensors").read_bytes())
    tensors[min(tensors)].flat[0] = np.nan
    replace_file(folder, "start.safetensors", save(tensors))


def _oversized(source: Path, folder: Path) -> None:
    """A sparse file of 1 GiB, which the manifest owns up to."""
    shutil.copytree(source, folder)
    with open(folder / "act.onnx", "r+b") as file:
        file.truncate(2**30)
    edit_manifest(folder, lambda d: d["files"]["act.onnx"].update(bytes=2**30))


def _external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Summon", ["obs"], ["demon"]))


def _random_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["alien"], shape=[1]))


def _foreign_domain(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)
    node = helper.make_node("Gelu", ["obs"], ["alien"], domain="com.microsoft")
    model.graph.node.append(node)


def _nested(model: onnx.ModelProto, depth: int, width: int) -> None:
    """Graphs in graphs: `width` in each, the same again and again."""
    graph = helper.make_graph([], "leaf", [], [])
    for level in range(depth):
        nodes = [
            helper.make_node("Scan", ["obs"], [f"bomb{level}.{i}"], body=graph, num_scan_inputs=1)
            for i in range(width)
        ]
        graph = helper.make_graph(nodes, f"level{level}", [], [])
    model.graph.node.extend(graph.node)


def _nested_bytes(depth: int) -> bytes:
    """The same as bytes, deeper than the library would write: a node in a graph in an attribute."""

    def message(field: int, inside: bytes) -> bytes:
        length, size = len(inside), b""
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        return bytes([field << 3 | 2]) + size + bytes([length]) + inside

    graph = b""
    for _ in range(depth):  # NodeProto in GraphProto.node, AttributeProto, AttributeProto.g
        graph = message(1, message(5, message(6, graph)))
    return message(7, graph)


def _functions(model: onnx.ModelProto) -> None:
    """Thirty functions that each call the one before twice: a billion nodes, once they are inlined.

    In a domain of their own, as functions are.
    """
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("bomb", 1)]
    for level in range(30):
        domain, name = ("bomb", f"f{level - 1}") if level else ("", "Neg")
        nodes = [
            helper.make_node(name, ["x"], ["y"], domain=domain),
            helper.make_node(name, ["y"], ["z"], domain=domain),
        ]
        model.functions.append(
            helper.make_function("bomb", f"f{level}", ["x"], ["z"], nodes, opset)
        )
    model.graph.node.append(helper.make_node("f29", ["obs"], ["boom"], domain="bomb"))
    model.opset_import.add(domain="bomb", version=1)


def _nested_deeper(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder)
    replace_file(folder, "act.onnx", _nested_bytes(20_000))


def _no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def _too_many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(helper.make_node("Neg", ["obs"], [f"many{i}"]) for i in range(20_001))


def _other_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))


def _other_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value += 1


def _constant_of_another_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**20


def _eats_memory(model: onnx.ModelProto) -> None:
    """An output that is 2 GiB on its way: a constant is spread out, and summed up again."""
    graph = model.graph
    shape = numpy_helper.from_array(np.array([2**15, 2**14], np.int64), "huge.shape")
    graph.initializer.append(shape)
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["noise"], ["huge.one"], keepdims=0),
            helper.make_node("Expand", ["huge.one", "huge.shape"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["huge.sum"], keepdims=0),
        ]
    )
    _add_to_output(graph, "huge.sum")


def _traps(model: onnx.ModelProto) -> None:
    """The least whole number by -1, which no processor's division can: the process dies of it."""
    least, by = np.array([-(2**63)], np.int64), np.array([-1], np.int64)
    for name, value in (("least", least), ("by", by)):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.append(helper.make_node("Div", ["least", "by"], ["trap"]))
    model.graph.node.append(helper.make_node("Cast", ["trap"], ["sprung"], to=TensorProto.FLOAT))
    _add_to_output(model.graph, "sprung")


def _length_by_measurement(model: onnx.ModelProto) -> None:
    """As long a tensor as a measurement is large: short in the trial, where all are 0."""
    graph = model.graph
    for name, value in (("zero", 0.0), ("one", 1.0)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["obs"], ["limit"], keepdims=0),
            helper.make_node("Range", ["zero", "limit", "one"], ["long"]),
            helper.make_node("ReduceSum", ["long"], ["total"], keepdims=0),
        ]
    )
    _add_to_output(graph, "total")


def _add_to_output(graph: onnx.GraphProto, name: str) -> None:
    """Whatever is planted matters to the first output, so that nothing optimises it away."""
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["lean" if each == output else each for each in node.output]
        node.input[:] = ["lean" if each == output else each for each in node.input]
    graph.node.append(helper.make_node("Add", ["lean", name], [output]))


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


FAULTS: Mapping[str, Fault] = {
    "truncated": _in_file("adapt.onnx", _cut),
    "bit flipped": _in_file("act.onnx", lambda d: flip_bits(d, np.random.default_rng(0))),
    "manifest truncated": _in_file("manifest.json", _cut),
    "manifest nested": _in_file("manifest.json", lambda _: b"[" * 100_000),
    "wrong hash": _in_manifest(lambda d: d["files"]["act.onnx"].update(sha256="0" * 64)),
    "oversized": _oversized,
    "path traversal": _traversal,
    "link": _link,
    "unknown schema": _in_manifest(lambda d: d.update(schema_version=99)),
    "huge plan": _in_manifest(lambda d: d["plan"].update(samples=100_000, horizon=1000)),
    "start not finite": _not_finite,
    "no graph": _in_graph(lambda m: m.Clear()),
    "graph without nodes": _in_graph(_no_nodes),
    "external data": _in_graph(_external_data),
    "unknown operator": _in_graph(_unknown_operator),
    "random operator": _in_graph(_random_operator),
    "foreign domain": _in_graph(_foreign_domain),
    "functions that double": _in_graph(_functions),
    "nested deep": _in_graph(lambda m: _nested(m, depth=30, width=1)),
    "nested deeper than protobuf": _nested_deeper,
    "nested wide": _in_graph(lambda m: _nested(m, depth=4, width=13)),
    "too many nodes": _in_graph(_too_many_nodes),
    "constant of another size": _in_graph(_constant_of_another_size),
    "other input": _in_graph(_other_input),
    "other output shape": _in_graph(_other_shape),
    "eats memory": _in_graph(_eats_memory),
    "traps the processor": _in_graph(_traps),
    "length by measurement": _in_graph(_length_by_measurement),
}
"""Name of a fault -> what makes it."""
