"""reptile_agent.onboard.frozen: dead sensors are found, robots at rest are not."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.onboard.envelope import EnvelopeConfig
from reptile_agent.onboard.frozen import FrozenSensors
from reptile_agent.spec import RobotSpec, Signal, limits
from sim import registry

STEPS = 250
NEW = 0.0
"""Age of a measurement that was not seen before."""


def signal(joint: str, quantity: str = "position", **fields) -> Signal:
    return Signal(joint=joint, quantity=quantity, unit="1", low=-1.0, high=1.0, **fields)


@pytest.fixture
def watched() -> RobotSpec:
    """Two driven joints, one that follows both, and a goal that none moves."""
    return RobotSpec(
        name="watched",
        control_period_s=0.1,
        observations=(signal("a"), signal("b"), signal("tail"), signal("goal", may_rest=True)),
        actions=(signal("a"), signal("b")),
        references=(signal("a"),),
    )


class Driven:
    """Feeds one FrozenSensors; signals change unless they are named frozen."""

    def __init__(self, robot: RobotSpec, samples: int = 5, share: float = 0.1) -> None:
        self.sensors = FrozenSensors(robot, samples, share)
        self.names = [s.joint for s in robot.observations]
        self.rng = np.random.default_rng(0)
        self.obs = np.zeros(len(self.names), np.float32)

    def step(self, sent, frozen=(), ages_s=NEW) -> list[str]:
        new = self.rng.uniform(-1, 1, self.obs.size).astype(np.float32)
        still = np.isin(self.names, list(frozen))
        self.obs = np.where(still, self.obs, new)
        ages = np.full(self.obs.size, ages_s)
        self.sensors.update(self.obs, ages, np.array(sent, np.float32))
        return [name for name, found in zip(self.names, self.sensors.found) if found]


def test_a_frozen_joint_is_found_after_so_many_samples_and_no_sooner(watched):
    driven = Driven(watched)
    driven.step([0.0, 0.0])
    for sample in range(4):
        assert driven.step([0.5, 0.0], frozen="a") == [], sample
    assert driven.step([0.5, 0.0], frozen="a") == ["a"]
    assert driven.step([0.5, 0.0]) == ["a"], "until reset"
    driven.sensors.reset()
    assert driven.step([0.0, 0.0]) == []


def test_a_joint_at_rest_is_not_frozen_whatever_the_others_do(watched):
    driven = Driven(watched)
    for t in range(100):
        assert driven.step([0.0, np.sin(t)], frozen="a") == []


def test_commands_within_the_share_of_the_range_prove_nothing(watched):
    driven = Driven(watched)
    for t in range(100):
        assert driven.step([0.19 * (t % 2), 0.0], frozen="a") == []


def test_a_command_after_a_long_rest_leaves_the_joint_its_time_to_move(watched):
    driven = Driven(watched)
    for _ in range(100):
        driven.step([0.0, 0.0], frozen="a")
    for _ in range(4):
        assert driven.step([0.5, 0.0], frozen="a") == []
    assert driven.step([0.5, 0.0]) == []


def test_a_measurement_seen_twice_is_one_sample(watched):
    driven = Driven(watched, samples=5)
    driven.step([0.0, 0.0])
    for t in range(20):
        # Every other tick has nothing new: all is as it was, and a period older.
        seen_before = t % 2 == 1
        found = driven.step(
            [0.5, 0.0], frozen=driven.names if seen_before else "a", ages_s=0.1 * seen_before
        )
        assert bool(found) == (t >= 8), t


def test_a_joint_without_an_action_is_held_against_all_of_them(watched):
    driven = Driven(watched)
    driven.step([0.0, 0.0])
    for _ in range(20):
        assert driven.step([0.9, 0.0], frozen=["tail"]) == []
    for _ in range(4):
        assert driven.step([0.9, 0.9], frozen=["tail"]) == []
    assert driven.step([0.9, 0.9], frozen=["tail"]) == ["tail"]


def test_what_may_rest_is_not_watched(watched):
    driven = Driven(watched)
    for t in range(100):
        assert driven.step([np.sin(t), np.cos(t)], frozen=["goal"]) == []


def commands(kind: str, robot: RobotSpec, rng: np.random.Generator) -> np.ndarray:
    """Commands that vary, [STEPS, act_dim]."""
    low, high = limits(robot.actions)
    t, size = np.arange(STEPS)[:, None], low.size
    share = {
        "noise": rng.uniform(-1, 1, (STEPS, size)),
        "steps": rng.uniform(-1, 1, (STEPS, size))[np.arange(STEPS) // 20],
        "sine": np.sin(2 * np.pi * (t / 40 + np.arange(size) / 7)),
        "little": 0.15 * np.sin(2 * np.pi * (t / 60 + np.arange(size) / 7)),
    }[kind]
    return ((low + high) / 2 + share * (high - low) / 2).astype(np.float32)


def exactly(robot: RobotSpec, obs: np.ndarray) -> np.ndarray:
    return obs


def encoders(robot: RobotSpec, obs: np.ndarray) -> np.ndarray:
    """What encoders of 12 bits and velocities counted to 0.01 would read of it."""
    counted = [s.quantity == "position" for s in robot.observations]
    step = np.where(counted, 2 * np.pi / 4096, 0.01)
    return (np.round(obs / step) * step).astype(np.float32)


# Not the cart with encoders: pushed against the end of its rail it stays there to the bit, and a
# joint that stays where it is pushed is what is to be found.
@pytest.mark.parametrize(
    ("family", "sees"),
    [
        *((name, exactly) for name in ("arm", "cartpole", "half_cheetah", "rover")),
        *((name, encoders) for name in ("arm", "half_cheetah", "rover")),
    ],
)
@pytest.mark.parametrize("kind", ["noise", "steps", "sine", "little"])
def test_no_robot_that_moves_raises_an_alarm_and_a_frozen_joint_does(family, kind, sees):
    found = registry.get(family)
    robot, config = found.robot, EnvelopeConfig()
    sim = found.make_sim([{}])
    sim.reset(0)
    sensors, spoiled = (
        FrozenSensors(robot, config.max_frozen_of(robot), config.frozen_share) for _ in range(2)
    )
    ages, seen, since = np.zeros(len(robot.observations)), None, None
    for t, command in enumerate(commands(kind, robot, np.random.default_rng(1))):
        obs = sees(robot, sim.state()[0].astype(np.float32))
        assert not sensors.update(obs, ages, command), robot.observations[sensors.found.argmax()]
        if t == 50:
            seen = obs[-1]
        if seen is not None:
            obs[-1] = seen
        if spoiled.update(obs, ages, command) and since is None:
            since = t - 50
        sim.step(command[None])
    assert spoiled.found.nonzero()[0].tolist() == ([len(robot.observations) - 1] if since else [])
    if kind == "steps":
        assert since is not None
        assert since <= 20 + config.max_frozen_of(robot)
