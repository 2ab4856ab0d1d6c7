"""reptile_agent.onboard.trial: what is broken is refused in a process of its own; ours lives on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bench.fault_bundles import FAULTS, flip_bits, replace_file
from reptile_agent.onboard import child, trial
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.checks import Checks
from reptile_agent.onboard.graph_rules import GraphError, check_constants, check_operators
from reptile_agent.onboard.manifest import GRAPHS
from reptile_agent.onboard.policy import Policy

FLIPS = int(os.environ.get("REPTILE_AGENT_FLIPS", "10"))
WORDS = {
    "truncated": "bytes, the manifest says",
    "bit flipped": "does not have the sha256",
    "manifest truncated": "Invalid JSON",
    "manifest nested": "recursion limit",
    "wrong hash": "does not have the sha256",
    "oversized": "files.act.onnx.bytes",
    "path traversal": "files must be",
    "link": "no plain file",
    "unknown schema": "schema_version",
    "huge plan": "'noise' alone",
    "start not finite": "not finite",
    "no graph": "(inputs and outputs of the manifest)",
    "graph without nodes": "uses 'action' before it is made",
    "external data": "in another file",
    "unknown operator": "'Summon'",
    "random operator": "'RandomNormal'",
    "foreign domain": "'com.microsoft'",
    "functions that double": "has functions",
    "nested deep": "more than 4 deep",
    "nested deeper than protobuf": "(parses as ONNX)",
    "nested wide": "more than 20000 nodes",
    "too many nodes": "more than 20000 nodes",
    "constant of another size": "5242880 numbers and holds 25",
    "other input": "other inputs",
    "other output shape": "'action' as float32 [5]",
    "eats memory": "(one run in a process of its own)",
    "traps the processor": "divides whole numbers ('trap')",
    "length by measurement": "lets measurements decide a length ('long')",
}


@pytest.fixture
def act(bundle):
    """Two actions in a row of the policy that is active, always the same ones."""
    policy = Policy(bundle)
    obs = np.zeros(10, np.float32)
    reference = np.zeros((policy.horizon, 5), np.float32)

    def run() -> np.ndarray:
        policy.reset()
        policy._rng = np.random.default_rng(0)
        return np.concatenate([policy.act(obs, reference).copy() for _ in range(2)])

    return run


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_bundle_is_refused_and_what_is_active_drives_on(bundle_path, tmp_path, act, name):
    before, checks = act(), Checks()
    FAULTS[name](bundle_path, tmp_path / "broken")
    with pytest.raises(BundleError) as error:
        Bundle.load(tmp_path / "broken", checks=checks)
    assert WORDS[name] in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert checks.failed
    assert checks.failed not in checks.passed
    np.testing.assert_array_equal(act(), before)


def test_what_was_checked_before_the_refusal_is_told(bundle_path, tmp_path):
    checks = Checks()
    FAULTS["truncated"](bundle_path, tmp_path / "broken")
    with pytest.raises(BundleError):
        Bundle.load(tmp_path / "broken", checks=checks)
    assert checks.passed[1:] == ["act.onnx: size and sha256"]
    assert checks.failed == "adapt.onnx: size and sha256"


def test_an_undamaged_bundle_passes_every_check_by_name(bundle_path):
    checks = Checks()
    Bundle.load(bundle_path, checks=checks)
    assert checks.failed == ""
    for graph in GRAPHS:
        for what in (
            "size and sha256",
            "operators on the allow-list",
            "no external data, constants as they say",
            "whole numbers by shapes alone",
            "inputs and outputs of the manifest",
            "session made in a process of its own",
            "one run in a process of its own",
        ):
            assert checks.passed.count(f"{graph}: {what}") == 1
    assert len(checks.passed) == len(set(checks.passed))


def test_what_passed_is_tried_again_only_where_a_byte_differs(bundle_copy, monkeypatch):
    tries = []
    real = child.run
    monkeypatch.setattr(trial, "_tried", {})
    monkeypatch.setattr(trial.child, "run", lambda *a, **k: tries.append(1) or real(*a, **k))
    first, again = Checks(), Checks()
    Bundle.load(bundle_copy, checks=first)
    Bundle.load(bundle_copy, checks=again)
    assert len(tries) == 1
    assert first.passed == again.passed
    graph = (bundle_copy / "act.onnx").read_bytes()
    model = onnx.load_model_from_string(graph)
    model.producer_name = "someone else"
    replace_file(bundle_copy, "act.onnx", model.SerializeToString())
    Bundle.load(bundle_copy)
    assert len(tries) == 2


STAND_IN = """
import json, os, resource, sys, time
sys.stdin.buffer.read()
print('{"graph": "act.onnx", "trying": "session made in a process of its own"}', flush=True)
"""


@pytest.mark.parametrize(
    ("does", "word"),
    [
        ("os.kill(os.getpid(), 11)", "was killed (Segmentation fault) at act.onnx: session made"),
        ("os.abort()", "was killed (Aborted) at act.onnx: session made"),
        ("os.kill(os.getpid(), 15)", "was not tried to the end: told to stop (Terminated)"),
        ("time.sleep(60)", "was not done after 1 s at act.onnx: session made"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", "was"),
        ("sys.exit(3)", "ended with status 3 at act.onnx"),
        ("pass", "ended with status 0 at act.onnx"),
        ("print('[1]')", "ended with status 0"),
        ("print('x' * 10**7)", "ended with status 0"),
        ('print(\'{"done": "yes"}\'); os.abort()', "was killed"),
    ],
)
def test_whatever_the_child_does_ours_lives(bundle_path, tmp_path, monkeypatch, act, does, word):
    before = act()
    (tmp_path / "stand_in.py").write_text(STAND_IN + does)
    monkeypatch.setattr(trial, "_tried", {})
    monkeypatch.setattr(trial, "CHILD", "stand_in")
    monkeypatch.setattr(trial, "WALL_S", 1.0 if "sleep" in does else 20.0)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BundleError) as error:
        Bundle.load(bundle_path)
    assert word in str(error.value)
    assert trial._tried == {}
    np.testing.assert_array_equal(act(), before)


def test_a_child_is_held_to_its_memory(bundle_path, monkeypatch):
    monkeypatch.setattr(trial, "_tried", {})
    monkeypatch.setattr(trial, "MEMORY_BYTES", 60 * 2**20)
    with pytest.raises(BundleError, match=r"cannot be tried here|was refused"):
        Bundle.load(bundle_path)


def test_a_thousand_flipped_bits_are_all_noticed(bundle_path, tmp_path):
    rng, copy = np.random.default_rng(0), tmp_path / "bundle"
    shutil.copytree(bundle_path, copy)
    manifest = Bundle.load(copy).manifest
    files = {file.name: file.read_bytes() for file in copy.iterdir()}
    names, harmless = sorted(files), 0
    for _ in range(1000):
        name = names[rng.integers(len(names))]
        (copy / name).write_bytes(flip_bits(files[name], rng))
        try:
            found = Bundle.load(copy)
            # Text in the manifest, as a description, or a number's last digit, is no fault.
            assert name == "manifest.json"
            assert found.manifest.files == manifest.files
            assert found.manifest.start_sha256 == manifest.start_sha256
            harmless += 1
        except BundleError:
            pass
        (copy / name).write_bytes(files[name])
    assert harmless < 200
    Bundle.load(copy)


def test_flipped_bits_with_hashes_made_to_fit_end_in_a_refusal_or_a_sound_bundle(
    bundle_path, tmp_path
):
    rng, copy = np.random.default_rng(1), tmp_path / "bundle"
    shutil.copytree(bundle_path, copy)
    files = {name: (bundle_path / name).read_bytes() for name in GRAPHS}
    refused = 0
    for i in range(FLIPS):
        name = GRAPHS[i % len(GRAPHS)]
        replace_file(copy, name, flip_bits(files[name], rng, count=1 + i % 8))
        try:
            loaded = Bundle.load(copy)
            for graph in GRAPHS:
                loaded.session(graph)
        except BundleError:
            refused += 1
        replace_file(copy, name, files[name])
    assert refused > 0


def test_the_robots_process_does_not_import_onnx(arm_bundle_path):
    code = (
        "import sys; from reptile_agent.onboard.bundle import Bundle; Bundle.load(sys.argv[1]); "
        "from pathlib import Path; print(Path('/proc/self/status').read_text()); "
        "assert not {'onnx', 'google.protobuf', 'model_signing', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(arm_bundle_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    peak_kib = int(done.stdout.split("VmHWM:")[1].split()[0])
    assert peak_kib < 130 * 1024


def test_the_bundle_is_there_in_time(arm_bundle_path, monkeypatch):
    monkeypatch.setattr(trial, "_tried", {})
    began = time.monotonic()
    Bundle.load(arm_bundle_path)
    # Half a second on an idle machine; this one may be busy.
    assert time.monotonic() - began < 5.0


def constant(**fields) -> onnx.ModelProto:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], raw_data=b"\0" * 8)
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [3]},
        {"dims": [-2]},
        {"dims": [2**40]},
        {"dims": [1] * 17},
        {"data_type": TensorProto.STRING},
        {"data_type": TensorProto.FLOAT16},
        {"data_type": 0},
        {"data_location": TensorProto.EXTERNAL},
    ],
)
def test_a_constant_that_is_not_what_it_says_is_refused(fields):
    check_constants(constant())
    with pytest.raises(GraphError, match="constant 'c'"):
        check_constants(constant(**fields))


def test_a_constant_inside_a_graph_inside_an_attribute_is_looked_at_too():
    inner = constant(data_location=TensorProto.EXTERNAL).graph
    node = helper.make_node("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1)
    model = helper.make_model(helper.make_graph([node], "outer", [], []))
    with pytest.raises(GraphError, match="in another file"):
        check_constants(model)
    model.graph.node[0].attribute[0].type = 0  # hidden: a graph that says it is none
    with pytest.raises(GraphError):
        check_operators(model)
