"""Robots that adapted on their way, as their nodes would have said it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from said import Robot

from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.transition import Transition


@dataclass
class Lived:
    """A robot that adapted on its way, and what came of each adaptation."""

    robot: Robot
    found: list[Adaptation]


@pytest.fixture(scope="session")
def faulty_arm(shaken) -> list[Transition]:
    """What a faulty arm did in 180 periods of shaky commands."""
    from sim.families.arm import Arm

    return shaken(Arm(), 180)


@pytest.fixture(scope="session")
def live(arm_bundle, faulty_arm) -> Callable[..., Lived]:
    """Let an adapter live through what the faulty arm did, every 12 periods adapting."""

    def make(seed: int = 5, heard_from: int = 0, cancelled: dict[int, int] | None = None) -> Lived:
        adapter = Adapter(arm_bundle, seed=seed)
        robot = Robot(arm_bundle.manifest.start_sha256)
        found: list[Adaptation] = []
        for step, transition in enumerate(faulty_arm, start=1):
            robot.moved(step, transition)
            if step <= heard_from:
                continue
            adapter.remember(transition)
            if step % 12 or not adapter.ready:
                continue
            in_use = parameters.sha256(adapter.in_use)
            # Every third time the clock ends it after one step; every fourth takes fewer, larger.
            adapter.budget_s = 1e-9 if len(found) % 3 == 2 else None
            asked = {"steps": 3, "start": "last", "window": 40} if len(found) % 4 == 3 else {}
            last = (cancelled or {}).get(len(found))

            def tell(step: int, _: float, last: int | None = last) -> None:
                if step == last:
                    adapter.cancel()

            found.append(adapter.adapt(**asked, tell=tell))
            robot.now_s += 0.01
            said = {f"asked_{name}": value for name, value in asked.items()}
            robot.adapted(adapter, found[-1], step, in_use, **said)
        return Lived(robot, found)

    return make
