"""What is timed: the shipped bundle, and two of sizes that others publish figures for.

    python -m bench.onboard_latency.subjects mppi FOLDER

writes one of the latter, in a process of its own: its memory is not the timed one's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path


def make_mppi(folder: Path) -> None:
    """A planner of 512 plans, 15 periods, five members of 2 x 128; hardly trained."""
    from reptile_agent.meta.learners.dynamics import DynamicsConfig
    from sim.families.arm import Arm

    class FarSighted(Arm):
        plan_horizon = 15

    model = DynamicsConfig(hidden=(128, 128), members=5)
    _write(FarSighted(), folder, model=model, samples=512)


def make_reactive(folder: Path) -> None:
    """A policy network of 2 x 256, twin critics beside it; hardly trained."""
    from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
    from sim.families.arm import Arm

    network = ActorCriticConfig(hidden=(256, 256))
    _write(Arm(), folder, learner="actor_critic", actor_critic=network)


MADE: dict[str, Callable[[Path], None]] = {"mppi": make_mppi, "reactive": make_reactive}
"""Subject -> what writes its bundle; how well it controls does not change how long it takes."""


def _write(family, folder: Path, **agent) -> None:
    from reptile_agent.export.write_bundle import write_bundle
    from reptile_agent.meta.train_config import TrainConfig
    from reptile_agent.meta.trainer import Trainer

    short = TrainConfig(tasks=1, rounds=1, round_steps=150, fit_iterations=1, iterations=0)
    trainer = Trainer(family, replace(short, **agent))
    for _ in trainer.run():
        pass
    write_bundle(trainer, folder)


if __name__ == "__main__":
    MADE[sys.argv[1]](Path(sys.argv[2]))
