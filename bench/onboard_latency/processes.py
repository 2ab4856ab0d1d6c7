"""What processes take to be there: to import, to a first action, and the ROS nodes to configure."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from bench.faults.nodes import change_state, ros_domain, why_no_nodes
from bench.onboard_latency.timing import Row

STARTS = 7
"""Processes started for a row, at most."""
IMPORTS = {
    "onnxruntime": "from reptile_agent.onboard import adapter, controller",
    "torch_eager": "import torch",
}
FIRST_ACTION = """
import sys
import numpy as np
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.policy import Policy
bundle = Bundle.load(sys.argv[1])
robot, policy = bundle.manifest.robot, Policy(bundle)
obs = np.zeros(len(robot.observations), np.float32)
policy.act(obs, np.zeros((policy.horizon, len(robot.references)), np.float32))
"""
PEAK = "\nfrom bench.machine import peak_rss_mb; print(peak_rss_mb())"
NODES = ("policy_node", "adapter_node")
CONFIGURE, ACTIVATE = 1, 3
SETTLE_S = 2.0
"""After a node is active, before its memory is looked at."""


def rows(bundle: Path, repeats: int, domain: int) -> list[Row]:
    """Rows `import`, `load` and, where there is ROS, `configure NODE` with the node's memory.

    Args:
        bundle: that is loaded.
        repeats: starts of each process, `STARTS` at most.
        domain: of ROS.
    """
    starts = max(1, min(repeats, STARTS))
    found = [_started("import", runtime, starts, code) for runtime, code in IMPORTS.items()]
    found.append(_started("load", "onnxruntime", starts, FIRST_ACTION, str(bundle)))
    return found if why_no_nodes() else found + _nodes(bundle, domain)


def _started(what: str, runtime: str, starts: int, code: str, *arguments: str) -> Row:
    """New processes, each from nothing to its end."""
    times_us, rss_mb = [], 0.0
    for number in range(starts + 1):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code + PEAK, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        if number:  # the first one reads the files
            times_us.append(1e6 * (time.perf_counter() - began))
        rss_mb = max(rss_mb, float(done.stdout))
    return _row(what, runtime, times_us, rss_mb)


def _nodes(bundle: Path, domain: int) -> list[Row]:
    """Time to configure, which loads and checks the bundle, and memory once active."""
    found = []
    with tempfile.TemporaryDirectory() as folder, ros_domain(domain, Path(folder)) as (start, peer):
        for name in NODES:
            node = start(f"reptile_agent_ros.{name}", bundle=bundle)
            peer.wait_for(lambda node=node: "unconfigured" in node.output(), name, 20.0)
            began = time.perf_counter()
            if not change_state(peer, name, CONFIGURE):
                raise RuntimeError(f"{name} does not configure: {node.output()}")
            took_us = 1e6 * (time.perf_counter() - began)
            if not change_state(peer, name, ACTIVATE):
                raise RuntimeError(f"{name} does not activate: {node.output()}")
            peer.spin_for(SETTLE_S)
            rss_mb = psutil.Process(node.process.pid).memory_info().rss / 2**20
            found.append(_row(f"configure {name}", "onnxruntime", [took_us], rss_mb))
    return found


def _row(what: str, runtime: str, times_us: list[float], rss_mb: float) -> Row:
    p50, p99 = (float(np.percentile(times_us, q)) for q in (50, 99))
    return Row("bundle", what, runtime, 0, 1, p50, p99, rss_mb)
