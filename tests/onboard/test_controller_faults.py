"""Every fault that a robot may meet, with a fake clock in fixed ticks: the fallback, and in time.

The same faults in real processes are in tests/ros/test_faults.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reptile_agent.onboard import fallback
from reptile_agent.onboard.controller import Controller, Tick
from reptile_agent.onboard.envelope import EnvelopeConfig
from reptile_agent.spec import RobotSpec, limits

PERIOD_S = 0.04
SIGNALS = range(10)
"""Observations of the shipped arm: five positions, five velocities."""


class Ticks:
    """A fake clock, a robot that does what a test says, and all that was sent to it.

    The policy is one that the test writes too: `wanted`, which swings slowly to begin with.
    """

    def __init__(self, bundle, config: EnvelopeConfig | None = None) -> None:
        self.controller = Controller(bundle, config)
        self.robot: RobotSpec = bundle.manifest.robot
        self.policy = self.controller.policy
        self.now_s, self.n, self.acted = 1000.0, 0, 0
        self.noise = np.random.default_rng(0)
        self.silent: set[int] = set()
        self.frozen: set[int] = set()
        self.spoiled: dict[int, float] = {}
        self.wanted = lambda: np.full(5, 0.3 * np.sin(self.n / 10), np.float32)
        self.obs = np.zeros(len(self.robot.observations), np.float32)
        self.received_s = np.full(self.obs.size, -np.inf)
        self.reference = np.zeros((self.policy.horizon, len(self.robot.references)), np.float32)
        self.sent: list[np.ndarray] = []
        self.policy.act = self._act

    def _act(self, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        self.acted += 1
        return self.wanted()

    def tick(self, periods: float = 1.0) -> Tick:
        self.n += 1
        self.now_s += periods * PERIOD_S
        for i in range(self.obs.size):
            if i not in self.silent:
                self.received_s[i] = self.now_s - 0.001
                if i not in self.frozen:
                    self.obs[i] = self.noise.uniform(-0.1, 0.1)
        obs = self.obs.copy()
        for i, value in self.spoiled.items():
            obs[i] = value
        tick = self.controller.tick(self.now_s, obs, self.received_s, self.reference)
        if tick.command is not None:
            self.sent.append(tick.command)
        return tick

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    @property
    def fault(self) -> str:
        return self.controller.envelope.fault

    def until_fallback(self, most: int) -> int:
        """Ticks until the fallback; from then on no command may be the policy's."""
        for ticks in range(1, most + 1):
            self.tick()
            if self.controller.mode == "fallback":
                acted = self.acted
                self.run(30)
                assert self.acted == acted, "the policy was asked again"
                assert self.controller.mode == "fallback"
                return ticks
        raise AssertionError(f"no fallback within {most} ticks")


@pytest.fixture
def ticks(arm_bundle) -> Ticks:
    made = Ticks(arm_bundle)
    made.run(10)
    assert made.controller.mode == "active"
    return made


@pytest.mark.parametrize("source", SIGNALS)
def test_each_source_that_falls_silent_is_named_within_a_period_of_its_limit(ticks, source):
    ticks.silent.add(source)
    # At 25 Hz the limit is three periods: the tick after these is the first that may find it.
    assert ticks.until_fallback(10) == 3
    name = ticks.robot.observations[source].name
    assert f"the newest measurement of '{name}' is 121 ms old (allowed: 120 ms)" in ticks.fault


@pytest.mark.parametrize(("period_s", "limit_s"), [(0.1, 0.3), (0.02, 0.06), (0.005, 0.05)])
def test_the_limit_of_age_follows_the_control_period_and_is_no_less_than_50_ms(
    robot, period_s, limit_s
):
    other = robot.model_copy(update={"control_period_s": period_s})
    assert EnvelopeConfig().max_age_of(other) == pytest.approx(limit_s)
    assert EnvelopeConfig(max_age_s=0.7).max_age_of(other) == 0.7


@pytest.mark.parametrize("source", SIGNALS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_an_observation_that_cannot_be_is_never_acted_upon(ticks, source, value):
    ticks.spoiled[source] = value
    acted = ticks.acted
    assert ticks.until_fallback(1) == 1
    assert ticks.acted == acted
    assert ticks.robot.observations[source].name in ticks.fault
    assert np.isfinite(ticks.sent).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_never_sent(ticks, value):
    ticks.wanted = lambda: np.float32([0.0, 0.0, value, 0.0, 0.0])
    assert ticks.until_fallback(1) == 1
    assert ticks.fault == "the policy's command is not finite"
    assert np.isfinite(ticks.sent).all()


def test_a_reward_that_is_not_finite_is_never_learned_from(ticks):
    ticks.reference[:] = np.finfo(np.float32).max
    learned = []
    with np.errstate(over="ignore"):
        ticks.run(1)
        learned += [ticks.tick().transition for _ in range(5)]
    assert learned == [None] * 5
    assert "the reward is not finite" in ticks.fault


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused_and_control_goes_on(ticks, value):
    flat = ticks.controller.bundle.start.copy()
    flat[3] = value
    with pytest.raises(ValueError, match="offered parameters are not finite"):
        ticks.controller.offer(1, ticks.controller.bundle.manifest.start_sha256, flat)
    ticks.run(40)
    assert (ticks.controller.mode, ticks.controller.version) == ("active", 0)


def test_commands_out_of_limits_are_all_clamped_and_counted_and_then_lead_to_the_fallback(ticks):
    ticks.wanted = lambda: np.float32([9.0, 0.0, -9.0, 0.0, 0.0])
    allowed = EnvelopeConfig().max_clamps
    before = len(ticks.sent)
    # The others step back to zero at once, within their rate.
    assert ticks.until_fallback(allowed + 1) == allowed + 1
    envelope = ticks.controller.envelope
    assert envelope.clamps == allowed + 1
    assert envelope.clamps_by_action.tolist() == [allowed + 1, 0, allowed + 1, 0, 0]
    assert "clamped in 26 periods in a row (allowed: 25)" in ticks.fault
    low, high = limits(ticks.robot.actions)
    step = ticks.robot.actions[0].max_rate * PERIOD_S
    sent = np.array(ticks.sent[before - 1 :])
    assert (sent >= low).all()
    assert (sent <= high).all()
    # The fallback's own commands included: it starts from what was sent last.
    assert np.abs(np.diff(sent, axis=0)).max() <= step + 1e-6


@pytest.mark.parametrize("source", SIGNALS)
def test_a_frozen_sensor_is_named_once_its_joint_should_have_moved(ticks, source):
    ticks.wanted = lambda: np.full(5, 0.3 + 0.1 * (ticks.n % 2), np.float32)
    ticks.run(5)
    ticks.wanted = lambda: np.full(5, -0.3, np.float32)
    ticks.frozen.add(source)
    samples = EnvelopeConfig().max_frozen_of(ticks.robot)
    assert samples == 13
    assert ticks.until_fallback(30) <= samples + 4
    name = ticks.robot.observations[source].name
    assert f"'{name}' did not change to the bit in 13 samples" in ticks.fault


def test_looking_for_frozen_sensors_can_be_switched_off(arm_bundle):
    ticks = Ticks(arm_bundle, EnvelopeConfig(max_frozen=0))
    ticks.frozen.update(SIGNALS)
    ticks.run(200)
    assert ticks.controller.mode == "active"


@pytest.mark.parametrize("late", [1.0, 1.4])
def test_jitter_of_the_clock_misses_no_tick(ticks, late):
    for n in range(100):
        ticks.tick(periods=late if n % 2 else 2.0 - late)
    assert ticks.controller.missed == 0
    assert ticks.controller.mode == "active"


def test_an_effort_measured_out_of_limits_leads_to_the_fallback(robot):
    from reptile_agent.onboard.envelope import Envelope

    wheel = robot.observations[1].model_copy(update={"quantity": "effort", "unit": "N m"})
    envelope = Envelope(
        robot.model_copy(update={"observations": (robot.observations[0], wheel)}),
    )
    assert envelope.check_measurement(np.float32([0, 99]), 0.0)
    assert not envelope.check_measurement(np.float32([0, 101]), 0.0)
    assert "'wheel.effort' is 101, outside [-100, 100]" in envelope.fault


class Wild:
    """A user's fallback that goes to the end of the range, as fast as it may."""

    def __init__(self, robot):
        self.seen = []

    def begin(self, obs):
        pass

    def __call__(self, obs):
        self.seen.append(obs)
        return np.full(5, 99.0)


@pytest.fixture
def wild(arm_bundle, monkeypatch) -> Ticks:
    monkeypatch.setitem(fallback.BUILT_IN, "wild", Wild)
    made = Ticks(arm_bundle, EnvelopeConfig(fallback="wild"))
    made.run(10)
    return made


def test_a_users_fallback_drives_within_the_limits_and_sees_only_what_is_believed(wild):
    wild.spoiled[2] = 1e30
    before = len(wild.sent)
    wild.until_fallback(1)
    low, high = limits(wild.robot.actions)
    sent = np.array(wild.sent[before - 1 :])
    np.testing.assert_allclose(sent[-1], high)
    step = wild.robot.actions[0].max_rate * PERIOD_S
    assert np.abs(np.diff(sent, axis=0)).max() <= step + 1e-6
    assert (sent >= low).all()
    seen = wild.controller.fallback._fallback.seen
    assert all(np.isnan(obs[2]) and np.isfinite(obs[[0, 1, 3]]).all() for obs in seen)
    assert wild.controller.envelope.clamps == 0, "not the policy's"


def test_a_users_fallback_that_raises_is_replaced_by_hold_and_that_is_said(wild, monkeypatch):
    monkeypatch.setattr(Wild, "__call__", lambda self, obs: 1 / 0)
    wild.spoiled[2] = np.nan
    held = wild.controller._good_obs[:5].copy()
    wild.until_fallback(1)
    np.testing.assert_allclose(wild.sent[-1], held)
    assert wild.controller.fallback.failures == 1
    assert wild.controller.reason.startswith("'elbow_flex.position' is not finite: nan; fallback")
    assert "the robot holds instead: ZeroDivisionError" in wild.controller.reason
    wild.controller.reset()
    wild.spoiled.clear()
    wild.run(3)
    assert (wild.controller.mode, wild.controller.reason) == ("active", "")


def test_where_several_sources_feed_the_robot_all_must_be_new_to_learn_from(ticks):
    assert ticks.tick().transition is not None
    ticks.silent.add(7)
    assert ticks.tick().transition is None
    ticks.silent.clear()
    assert ticks.tick().transition is None, "two periods since the signal before"
    assert ticks.tick().transition is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age_s": 0.0},
        {"max_age_s": np.nan},
        {"max_clamps": -1},
        {"max_frozen": -1},
        {"frozen_share": 0.0},
        {"frozen_share": np.nan},
    ],
)
def test_an_envelope_that_guards_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(EnvelopeConfig(), **wrong)
