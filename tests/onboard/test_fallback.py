"""reptile_agent.onboard.fallback: what drives the robot when the policy may not."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from reptile_agent.onboard import fallback
from reptile_agent.onboard.fallback import Damp, GuardedFallback, Hold
from reptile_agent.spec import RobotSpec, Signal

NAN = np.float32(np.nan)


@pytest.fixture
def mixed() -> RobotSpec:
    """A servo, a base driven by velocity, a motor whose speed is measured, and one whose is not."""

    def signal(joint, quantity, limit):
        return Signal(joint=joint, quantity=quantity, unit="1", low=-limit, high=limit)

    return RobotSpec(
        name="mixed",
        control_period_s=0.1,
        observations=(
            signal("servo", "position", 2.0),
            signal("servo", "velocity", 5.0),
            signal("motor", "velocity", 10.0),
        ),
        actions=(
            signal("servo", "position", 1.0),
            signal("base", "velocity", 1.0),
            signal("motor", "effort", 4.0),
            signal("winch", "effort", 4.0),
        ),
        references=(signal("servo", "position", 2.0),),
    )


def test_hold_keeps_to_where_it_began(mixed):
    hold = Hold(mixed)
    hold.begin(np.float32([0.5, 3.0, 6.0]))
    for obs in ([0.9, 1.0, 2.0], [NAN, NAN, NAN]):
        assert hold(np.float32(obs)).tolist() == [0.5, 0.0, 0.0, 0.0]


def test_damp_works_against_the_motion_while_that_is_believed(mixed):
    damp = Damp(mixed)
    damp.begin(np.float32([0.5, 3.0, 6.0]))
    assert damp(np.float32([0.9, 1.0, 5.0])).tolist() == [0.5, 0.0, -2.0, 0.0]
    assert damp(np.float32([0.9, 1.0, -10.0])).tolist() == [0.5, 0.0, 4.0, 0.0]
    assert damp(np.float32([0.9, 1.0, NAN])).tolist() == [0.5, 0.0, 0.0, 0.0]


def test_damp_brings_a_motor_to_rest():
    from sim import registry

    family = registry.get("cartpole")
    rests = {}
    for make in (Damp, Hold):
        sim = family.make_sim([{}])
        sim.reset(0)
        for _ in range(5):
            sim.step(np.full((1, 1), 5.0, np.float32))
        stop, slider = make(family.robot), 2
        stop.begin(sim.state()[0].astype(np.float32))
        for _ in range(25):
            sim.step(stop(sim.state()[0].astype(np.float32))[None])
        rests[make] = abs(sim.state()[0, slider])
    assert rests[Damp] < 0.8 * rests[Hold]


def entry_points(monkeypatch, **classes) -> None:
    """Let packages bring these fallbacks."""
    for name, found in classes.items():
        setattr(fallback, f"Test{name}", found)
    points = [
        EntryPoint(name, f"{fallback.__name__}:Test{name}", fallback.GROUP) for name in classes
    ]
    monkeypatch.setattr(fallback, "entry_points", lambda group: points)


class Park:
    def __init__(self, robot):
        self.began = None

    def begin(self, obs):
        self.began = obs

    def __call__(self, obs):
        return [0.1, 0.2, 0.3, float(self.began[0])]


def test_a_packages_own_controller_is_found_by_its_entry_point(mixed, monkeypatch):
    entry_points(monkeypatch, park=Park)
    guarded = GuardedFallback(mixed, "park")
    guarded.begin(np.float32([0.5, 0.0, 0.0]))
    assert guarded.command(np.zeros(3, np.float32)) == pytest.approx([0.1, 0.2, 0.3, 0.5])
    assert (guarded.failures, guarded.error) == (0, "")


def spoiled(**methods) -> type:
    return type("Spoiled", (Park,), methods)


def raises(*_):
    raise RuntimeError("no map")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"begin": raises}, "RuntimeError: no map"),
        ({"__call__": raises}, "RuntimeError: no map"),
        ({"__call__": lambda self, obs: [0.0, np.nan, 0.0, 0.0]}, "not 4 finite numbers"),
        ({"__call__": lambda self, obs: [0.0]}, "not 4 finite numbers"),
        ({"__call__": lambda self, obs: None}, "not 4 finite numbers"),
        ({"__call__": lambda self, obs: "stop"}, "ValueError"),
    ],
)
def test_hold_takes_over_from_one_that_fails_and_says_so(mixed, monkeypatch, spoil, words):
    entry_points(monkeypatch, park=spoiled(**spoil))
    guarded = GuardedFallback(mixed, "park")
    for falls in (1, 2):
        guarded.begin(np.float32([0.5, 0.0, 0.0]))
        for _ in range(3):
            assert guarded.command(np.zeros(3, np.float32)).tolist() == [0.5, 0.0, 0.0, 0.0]
        assert guarded.failures == falls, "once each time that the robot falls back"
        assert guarded.error.startswith("fallback 'park' failed, the robot holds instead: ")
        assert words in guarded.error


def test_one_that_refuses_the_robot_is_not_begun_with(mixed, monkeypatch):
    entry_points(monkeypatch, park=spoiled(__init__=raises))
    with pytest.raises(ValueError, match=r"fallback 'park' cannot drive robot 'mixed': .*no map"):
        GuardedFallback(mixed, "park")


def test_a_fallback_that_nobody_brings_is_named_with_those_there_are(mixed, monkeypatch):
    entry_points(monkeypatch, park=Park)
    with pytest.raises(LookupError, match=r"no fallback 'sit' \(there are: damp, hold, park\)"):
        GuardedFallback(mixed, "sit")


def test_one_that_cannot_be_imported_is_named_by_where_it_should_be(mixed, monkeypatch):
    points = [EntryPoint("park", "nowhere.at_all:Park", fallback.GROUP)]
    monkeypatch.setattr(fallback, "entry_points", lambda group: points)
    with pytest.raises(LookupError, match=r"leads to 'nowhere.at_all:Park', which cannot"):
        GuardedFallback(mixed, "park")


def test_two_packages_may_not_bring_the_same_name(mixed, monkeypatch):
    points = [EntryPoint("park", value, fallback.GROUP) for value in ("a:Park", "b:Park")]
    monkeypatch.setattr(fallback, "entry_points", lambda group: points)
    with pytest.raises(LookupError, match=r"several packages bring a fallback 'park' \(a:Park"):
        GuardedFallback(mixed, "park")
