"""How long a robot takes to act and to adapt, with onnxruntime and with torch, in one run.

    python -m bench.onboard_latency --json

Each runtime gets a process of its own, one thread, and the same bundle, so that the memory
is its own too. torch_eager is plain autograd on the same loss: the fastest eager way, without
the functional transforms that training uses. `adapt` is the k steps alone; `adapter` is all that
the robot does for one adaptation: drawing minibatches, the steps, and the gate with its plans;
`load` is a new process from its start to its first action, with every check of the bundle.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

SHIPPED = Path(__file__).parent.parent / "ros2_ws/src/reptile_agent/bundle/arm"
WARM_UP = 20
LOADS = 7
"""Processes started for the row `load`."""
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


@dataclass
class Args:
    """Time act and adapt with onnxruntime and torch eager."""

    bundle: Path = SHIPPED
    """Bundle to time; default: the one that the ROS package ships."""
    inner_steps: tuple[int, ...] = (1, 5, 10, 20)
    """Numbers of inner steps (k)."""
    batches: tuple[int, ...] = (48, 256)
    """Segments in a minibatch; 48 is what the bundle's robot takes."""
    repeats: int = 300
    """Runs of act; a tenth of it of each adapt."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    save: Path | None = None
    """Also write rows, machine and versions into this file."""
    runtime: str = ""
    """For the benchmark's own use: time this runtime here and print its rows."""


def main() -> None:
    """Time both runtimes, each in its own process."""
    args = tyro.cli(Args)
    if args.runtime:
        rows = _onnxruntime(args) if args.runtime == "onnxruntime" else _torch_eager(args)
        print(json.dumps(rows))
        return
    rows = [_load_row(args)]
    rows += [row for runtime in ("onnxruntime", "torch_eager") for row in _child(args, runtime)]
    if args.save:
        from bench.machine import about

        args.save.write_text(json.dumps({"about": about(), "rows": rows}, indent=1) + "\n")
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"{'what':<8}{'runtime':<14}{'k':>4}{'batch':>7}{'p50 us':>10}{'p99 us':>10}{'RSS MB':>8}"
    )
    for r in rows:
        print(
            f"{r['what']:<8}{r['runtime']:<14}{r['k']:>4}{r['batch']:>7}{r['p50_us']:>10.0f}"
            f"{r['p99_us']:>10.0f}{r['rss_mb']:>8.0f}"
        )


def _load_row(args: Args) -> dict:
    """A process from nothing to its first action; its memory is in the rows of onnxruntime."""
    command = [sys.executable, "-c", FIRST_ACTION, str(args.bundle)]

    def start() -> None:
        subprocess.run(command, check=True)

    return _row("load", "onnxruntime", 0, 1, start, LOADS, warm_up=1)


def _child(args: Args, runtime: str) -> list[dict]:
    command = [sys.executable, "-m", "bench.onboard_latency", "--runtime", runtime]
    command += ["--bundle", str(args.bundle), "--repeats", str(args.repeats)]
    command += ["--inner-steps", *map(str, args.inner_steps), "--batches", *map(str, args.batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"timing {runtime} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _onnxruntime(args: Args) -> list[dict]:
    """What runs on the robot: Policy and the adapter's steps; torch is never imported."""
    from reptile_agent.adaptation import AdaptationConfig
    from reptile_agent.onboard.bundle import Bundle
    from reptile_agent.onboard.inner_steps import InnerSteps
    from reptile_agent.onboard.policy import Policy

    bundle = Bundle.load(args.bundle)
    policy, (obs, reference) = Policy(bundle), _inputs(bundle)
    rows = [_row("act", "onnxruntime", 0, 1, lambda: policy.act(obs, reference), args.repeats)]
    for batch in args.batches:
        steps = InnerSteps(bundle, AdaptationConfig(batch=batch, rehearsal=0))
        for k in args.inner_steps:
            batches = _batches(bundle, k, batch)

            def adapt(steps=steps, batches=batches) -> None:
                steps(bundle.start, batches, 0.01, None)

            rows.append(_row("adapt", "onnxruntime", k, batch, adapt, args.repeats // 10))
    adapter = _fed_adapter(bundle)
    for k in args.inner_steps:
        batch = adapter.config.batch
        call = functools.partial(adapter.adapt, k)
        rows.append(_row("adapter", "onnxruntime", k, batch, call, args.repeats // 10))
    assert "torch" not in sys.modules
    return rows


def _torch_eager(args: Args) -> list[dict]:
    """The same work by torch, one thread."""
    import torch

    from reptile_agent.export import remade
    from reptile_agent.meta.planner import Planner, PlannerConfig
    from reptile_agent.onboard import parameters
    from reptile_agent.onboard.bundle import Bundle
    from reptile_agent.task import objective_of
    from sim import registry

    torch.set_num_threads(1)
    bundle = Bundle.load(args.bundle)
    learner = remade.learner_of(bundle)
    settings = dict(bundle.manifest.hyperparameters["planner"])
    settings["noise"] = tuple(settings["noise"])
    family = registry.get(bundle.manifest.provenance.family)
    planner = Planner(learner, PlannerConfig(**settings), objective_of(family))
    tensors = parameters.views(bundle.start.copy(), bundle.manifest.parameters)
    params = {name: torch.from_numpy(value) for name, value in tensors.items()}
    obs, reference = (torch.from_numpy(a) for a in _inputs(bundle))
    plan = torch.zeros(planner.config.horizon, len(learner.robot.actions))

    @torch.no_grad()
    def act() -> None:
        planner(params, obs, reference, plan, torch.randn(planner.noise_shape))

    rows = [_row("act", "torch_eager", 0, 1, act, args.repeats)]
    for batch in args.batches:
        for k in args.inner_steps:
            batches = {n: torch.from_numpy(v) for n, v in _batches(bundle, k, batch).items()}

            def adapt(k=k, batches=batches) -> None:
                current = {n: v.detach().requires_grad_() for n, v in params.items()}
                for step in range(k):
                    one = {name: value[step] for name, value in batches.items()}
                    loss = learner.loss(current, one)
                    grads = torch.autograd.grad(loss, list(current.values()))
                    norm = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
                    scale = 0.01 / norm.clamp(min=1.0)
                    current = {
                        name: (value - scale * grad).detach().requires_grad_()
                        for (name, value), grad in zip(current.items(), grads)
                    }

            rows.append(_row("adapt", "torch_eager", k, batch, adapt, args.repeats // 10))
    return rows


def _fed_adapter(bundle: Any) -> Any:
    """The robot's adapter after a window of the bundle's own rehearsal data."""
    from reptile_agent.onboard.adapter import Adapter
    from reptile_agent.transition import Transition

    adapter, rows = Adapter(bundle), bundle.rehearsal
    _, reference = _inputs(bundle)
    for number in range(rows["obs"].shape[0]):
        obs = rows["obs"][number][None]
        for at in range(bundle.manifest.segment):
            after, action = rows["next_obs"][number, at][None], rows["action"][number, at][None]
            zero, first = np.zeros(1, np.float32), np.array([at == 0])
            adapter.remember(Transition(obs, action, after, zero, first, reference=reference[None]))
            obs = after
    return adapter


def _inputs(bundle: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    robot, horizon = bundle.manifest.robot, bundle.manifest.plan.horizon
    obs = 0.1 * rng.standard_normal(len(robot.observations))
    reference = 0.1 * rng.standard_normal((horizon, len(robot.references)))
    return obs.astype(np.float32), reference.astype(np.float32)


def _batches(bundle: Any, k: int, batch: int) -> dict[str, np.ndarray]:
    """Minibatches of the bundle's own rehearsal data, `[k, batch, ...]`."""
    rows = bundle.rehearsal["obs"].shape[0]
    at = np.random.default_rng(1).integers(rows, size=(k, batch))
    return {name: np.ascontiguousarray(value[at]) for name, value in bundle.rehearsal.items()}


def _row(
    what: str,
    runtime: str,
    k: int,
    batch: int,
    call: Callable[[], object],
    repeats: int,
    warm_up: int = WARM_UP,
) -> dict:
    from bench.machine import peak_rss_mb

    for _ in range(min(warm_up, repeats)):
        call()
    times_us = []
    for _ in range(max(repeats, 5)):
        began = time.perf_counter()
        call()
        times_us.append(1e6 * (time.perf_counter() - began))
    return {
        "what": what,
        "runtime": runtime,
        "k": k,
        "batch": batch,
        "p50_us": float(np.percentile(times_us, 50)),
        "p99_us": float(np.percentile(times_us, 99)),
        "rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    main()
