"""bench.onboard_latency: every runtime does the same work, and what is counted is what is run."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.faults.nodes import why_no_nodes
from bench.onboard_latency import paper, timing, torch_side
from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.onboard import parameters
from reptile_agent.onboard.inner_steps import InnerSteps


@pytest.fixture(scope="module")
def subject(arm_bundle_path) -> torch_side.Subject:
    return torch_side.Subject(arm_bundle_path)


@pytest.mark.parametrize("make", [torch_side.eager_step, torch_side.compiled_step])
def test_torch_takes_the_robots_steps(subject, make):
    batches = timing.minibatches(subject.bundle, 3, 16)
    robot = InnerSteps(subject.bundle, AdaptationConfig(batch=16, rehearsal=0))
    wanted = robot(subject.bundle.start, batches, timing.LR, None).parameters
    minibatches = torch_side.tensors(subject.bundle, 3, 16)
    step, found = make(subject, minibatches[0]), subject.params
    for minibatch in minibatches:
        found = step(found, minibatch)
    arrays = {name: value.numpy() for name, value in found.items()}
    flat = parameters.flatten(arrays, subject.bundle.manifest.parameters)
    moved = wanted - subject.bundle.start
    assert np.linalg.norm(flat - wanted) < 1e-3 * np.linalg.norm(moved)


def test_operations_are_those_of_the_matrix_products(subject, arm_bundle_path):
    (found,) = paper.act("bundle", arm_bundle_path)
    manifest = subject.bundle.manifest
    weights = sum(
        entry.size for entry in manifest.parameters if entry.name.startswith("w")
    )  # of all members
    rolled = 2e-6 * weights * manifest.plan.samples * manifest.plan.horizon
    assert rolled < found.mflop < 1.2 * rolled


def test_kernels_in_a_loop_are_counted_each_time(subject):
    one, two, five = (
        paper.count_kernels(subject.bundle, "adapt.onnx", {"k": k, "rows": 8}) for k in (1, 2, 5)
    )
    assert two - one > 100
    assert five - two == 3 * (two - one)


def test_every_row_of_the_shipped_bundle_is_there(arm_bundle_path):
    command = [sys.executable, "-m", "bench.onboard_latency", "--json", "--subjects", "bundle"]
    command += ["--inner-steps", "2", "--batches", "16", "--repeats", "4"]
    command += ["--domain", "101"]  # none of tests/ros
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    nodes = set() if why_no_nodes() else {"configure policy_node", "configure adapter_node"}
    assert {(row["what"], row["runtime"]) for row in rows} == {
        *((node, "onnxruntime") for node in nodes),
        *(("import", runtime) for runtime in ("onnxruntime", "torch_eager")),
        ("load", "onnxruntime"),
        ("act, bare session", "onnxruntime"),
        ("adapter", "onnxruntime"),
        *(
            (what, runtime)
            for what in ("act", "adapt")
            for runtime in ("onnxruntime", "torch_eager", "torch_compile")
        ),
    }
    assert all(0 < row["p50_us"] <= row["p99_us"] for row in rows)


def test_a_subject_that_there_is_not_is_named():
    command = [sys.executable, "-m", "bench.onboard_latency", "--subjects", "bundle", "mpi"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no subject ['mpi']" in done.stderr


def test_the_subject_runs_in_torch_as_on_the_robot(subject):
    with torch.no_grad():
        action, _, expected = subject.drive(torch.zeros(subject.driver.noise_shape))
    robot = subject.bundle.manifest.robot
    assert action.shape == (len(robot.actions),)
    assert expected.shape == (len(robot.observations),)
