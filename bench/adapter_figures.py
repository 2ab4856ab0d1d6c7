"""What the adapter's limits and costs rest on: layer distances, steps per graph run, the spool.

    python -m bench.adapter_figures

Robots of the arm family drive closed loops in simulation, each with the robot's own Controller and
Adapter; what the gate accepted is measured layer by layer. Then one thread times the rest.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from bench.machine import about
from bench.shipped import SHIPPED
from reptile_agent.onboard import inner_steps
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.controller import Controller
from reptile_agent.transition import Transition
from sim import registry

PERIOD = 10
"""Control periods from one adaptation to the next."""


@dataclass(frozen=True)
class Args:
    """Measure what the adapter's limits and costs rest on."""

    bundle: Path = SHIPPED
    """Bundle that adapts."""
    tasks: int = 16
    """Robots of each split, the first ones."""
    ticks: int = 250
    """Control periods that each drives."""
    repeats: int = 200
    """Adaptations timed for each number of steps per run."""
    pushes: int = 20_000
    """Transitions timed."""


def main() -> None:
    """Print all figures as JSON."""
    args = tyro.cli(Args)
    bundle = Bundle.load(args.bundle)
    print(
        json.dumps(
            {
                "about": about(),
                "layers": [
                    _layers(bundle, args, "validation", "start"),
                    _layers(bundle, args, "validation", "last"),
                    _layers(bundle, args, "train", "start"),
                ],
                "steps_per_run_ms_p50": _steps_per_run(bundle, args.repeats),
                "push_us_p50": _pushes(bundle, args.pushes),
            },
            indent=1,
        )
    )


def _layers(bundle: Bundle, args: Args, split: str, start: Literal["start", "last"]) -> dict:
    """Largest relative distance of each layer among what the gate accepted."""
    family = registry.get(bundle.manifest.provenance.family)
    tasks = family.splits()[split][: args.tasks]
    sim, verdicts = family.make_sim(tasks), []
    obs = sim.reset(seed=3)
    robots = [(Controller(bundle, seed=i), Adapter(bundle, seed=i)) for i in range(len(tasks))]
    for tick in range(args.ticks):
        reference, commands = sim.reference(bundle.manifest.plan.horizon), []
        now_s = bundle.manifest.robot.control_period_s * (tick + 1)
        for (controller, adapter), seen, aims in zip(robots, obs, reference):
            found = controller.tick(now_s, seen, now_s, aims)
            assert found.command is not None
            commands.append(found.command)
            if found.transition is not None:
                adapter.remember(found.transition)
            if tick % PERIOD == PERIOD // 2 and adapter.ready:
                adapted = adapter.adapt(start=start)
                verdicts.append(adapted.verdict)
                if adapted.verdict.accepted:
                    sha256 = bundle.manifest.start_sha256
                    controller.offer(tick, sha256, adapted.parameters)
        obs, *_ = sim.step(np.array(commands, np.float32))
    accepted = [verdict.figures for verdict in verdicts if verdict.accepted]
    names = [name for name in accepted[0] if name.startswith("layer.")]
    return {
        "split": split,
        "start": start,
        "adaptations": len(verdicts),
        "accepted": len(accepted),
        "largest": {name: max(figures[name] for figures in accepted) for name in names},
    }


def _steps_per_run(bundle: Bundle, repeats: int) -> dict[str, float]:
    """Time of 20 inner steps by the steps in one run of the graph, taken in turn."""
    config, shipped = bundle.manifest.adaptation, inner_steps.CHUNK_STEPS
    rows = config.batch + config.rehearsal
    at = np.random.default_rng(1).integers(len(bundle.rehearsal["weight"]), size=(20, rows))
    batches = {name: np.ascontiguousarray(value[at]) for name, value in bundle.rehearsal.items()}
    made, times = {}, {1: [], 5: []}
    for chunk in times:
        inner_steps.CHUNK_STEPS = chunk
        made[chunk] = inner_steps.InnerSteps(bundle, config)
    for _ in range(repeats):
        for chunk, steps in made.items():
            inner_steps.CHUNK_STEPS = chunk
            times[chunk].append(_timed(lambda: steps(bundle.start, batches, 0.1, None)))  # noqa: B023
    inner_steps.CHUNK_STEPS = shipped
    return {str(chunk): 1e3 * float(np.median(taken)) for chunk, taken in times.items()}


def _pushes(bundle: Bundle, count: int) -> dict[str, float]:
    """Time to remember one transition, without and with a spool, and the spool's bytes."""
    rng, robot, found = np.random.default_rng(0), bundle.manifest.robot, {}
    obs, act = len(robot.observations), len(robot.actions)
    seen, done, after = (rng.standard_normal((1, n)).astype(np.float32) for n in (obs, act, obs))
    transition = Transition(seen, done, after, np.zeros(1, np.float32), np.zeros(1, bool))
    with tempfile.TemporaryDirectory() as folder:
        for name, spool in (("memory", None), ("spool", Path(folder))):
            adapter = Adapter(bundle, spool=spool)
            times = [_timed(lambda: adapter.remember(transition)) for _ in range(count)]  # noqa: B023
            adapter.close()
            found[name] = 1e6 * float(np.median(times))
        found["spool_bytes"] = sum(file.stat().st_size for file in Path(folder).iterdir())
    return found


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
