"""What the envelope costs a control period: `python -m tools.envelope_cost [bundle]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.envelope import Envelope
from reptile_agent.spec import RobotSpec

ARM = Path(__file__).parents[1] / "ros2_ws/src/reptile_agent/bundle/arm"
TICKS, REPEATS = 50, 100


def main() -> None:
    """Print the least time a tick of three envelopes, in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=ARM)
    robot = Bundle.load(parser.parse_args().bundle).manifest.robot
    braked = tuple(a.model_copy(update={"max_acceleration": 500.0}) for a in robot.actions)
    cases = {
        "all signals move": ticks(robot),
        "one stands still": ticks(robot, still=0),
        "acceleration limited": ticks(robot.model_copy(update={"actions": braked})),
    }
    # In turn, and the least of many: other work on the machine only ever adds.
    least = dict.fromkeys(cases, float("inf"))
    for _ in range(REPEATS):
        for name, run in cases.items():
            began_s = time.perf_counter()
            run()
            least[name] = min(least[name], (time.perf_counter() - began_s) / TICKS)
    for name, seconds in least.items():
        print(f"{name:22s} {1e6 * seconds:5.1f} us")


def ticks(robot: RobotSpec, still: int | None = None) -> Callable[[], None]:
    """Measurements and commands of TICKS periods through an envelope that lets them pass."""
    rng, envelope = np.random.default_rng(0), Envelope(robot)
    obs = rng.normal(0, 0.05, (TICKS, len(robot.observations))).astype(np.float32)
    commands = rng.normal(0, 0.01, (TICKS, len(robot.actions))).astype(np.float32)
    ages_s = np.full(len(robot.observations), 0.01)
    if still is not None:
        obs[:, still] = 0.05

    def run() -> None:
        last = commands[0]
        for measured, command in zip(obs, commands):
            envelope.check_measurement(measured, ages_s)
            sent = envelope.check_command(command, last)
            if sent is None:
                raise SystemExit(f"the envelope fell back: {envelope.fault}")
            last = sent

    return run


if __name__ == "__main__":
    main()
