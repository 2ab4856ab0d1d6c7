"""The control period with a fake clock in fixed ticks: what is sent, and what never is."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.onboard.controller import Controller
from reptile_agent.probation import ProbationConfig

PERIOD_S = 0.04


class Clock:
    """Steps a controller; the robot goes wherever the test says."""

    def __init__(self, controller: Controller) -> None:
        self.controller, self.now_s = controller, 100.0
        robot = controller.bundle.manifest.robot
        self.obs = np.zeros(len(robot.observations), np.float32)
        self.reference = np.zeros((controller.policy.horizon, len(robot.references)), np.float32)

    def settle(self) -> None:
        """Run until there is enough to judge new parameters by."""
        for _ in range(ProbationConfig().baseline_ticks + 2):
            self.tick()

    def tick(self, age_s: float = 0.0, periods: float = 1.0):
        self.now_s += periods * PERIOD_S
        return self.controller.tick(self.now_s, self.obs, self.now_s - age_s, self.reference)


@pytest.fixture
def clock(arm_bundle) -> Clock:
    return Clock(Controller(arm_bundle))


def offer(controller: Controller, version: int, change: float = 1e-4) -> np.ndarray:
    flat = controller.bundle.start + np.float32(change)
    controller.offer(version, controller.bundle.manifest.start_sha256, flat)
    return flat


def test_a_fresh_measurement_gives_a_command_and_then_transitions(clock):
    first, second, third = clock.tick(), clock.tick(), clock.tick()
    assert first.command is not None
    assert first.transition is None
    assert second.transition.first.tolist() == [True]
    assert third.transition.first.tolist() == [False]
    assert third.transition.action[0] == pytest.approx(second.command)


@pytest.mark.parametrize("value", [np.nan, np.inf, 50.0])
def test_what_is_not_believable_holds_the_robot_until_reset(clock, value):
    clock.obs[2] = 0.5
    clock.tick()
    clock.obs[1] = value
    held = clock.tick()
    assert clock.controller.mode == "fallback"
    assert "shoulder_lift.position" in clock.controller.envelope.fault
    assert held.command[2] == pytest.approx(0.5)
    clock.obs[1] = 0.0
    assert clock.tick().command == pytest.approx(held.command), "latched"
    clock.controller.reset()
    clock.tick()
    assert clock.controller.mode == "active"


def test_without_any_good_measurement_nothing_is_sent(clock):
    clock.obs[:] = np.nan
    assert clock.tick().command is None
    assert clock.tick().command is None


def test_a_stale_measurement_holds_the_robot(clock):
    clock.tick()
    clock.tick(age_s=0.11)
    assert clock.controller.mode == "active"
    clock.tick(age_s=0.13)
    assert clock.controller.mode == "fallback"
    assert "130 ms old" in clock.controller.envelope.fault


def test_a_missed_period_is_counted_and_breaks_the_transitions(clock):
    clock.tick()
    clock.tick()
    late = clock.tick(periods=3.0)
    assert clock.controller.missed == 2
    assert late.transition is None
    assert clock.tick().transition.first.tolist() == [True]


def test_a_reference_that_is_not_finite_holds_the_robot(clock):
    clock.tick()
    clock.reference[0, 0] = np.nan
    assert np.isfinite(clock.tick().command).all()
    assert clock.controller.envelope.fault == "the reference is not finite"


def test_offered_parameters_are_taken_at_the_next_tick_and_watched(clock):
    clock.settle()
    flat = offer(clock.controller, 3)
    assert clock.controller.version == 0
    clock.tick()
    assert clock.controller.version == 3
    assert clock.controller.probation.outcome == "watching"
    assert clock.controller.policy.parameters == pytest.approx(flat)


def test_while_watching_newer_ones_wait_and_the_newest_wins(clock):
    clock.settle()
    offer(clock.controller, 1)
    clock.tick()
    offer(clock.controller, 2)
    offer(clock.controller, 3, 2e-4)
    clock.tick()
    assert clock.controller.version == 1
    for _ in range(ProbationConfig().ticks):
        clock.tick()
    assert clock.controller.version == 3


def test_worse_tracking_rolls_back_to_the_last_good_within_one_period(clock):
    clock.settle()
    good = offer(clock.controller, 1)
    for _ in range(ProbationConfig().ticks + 2):
        clock.tick()
    assert clock.controller.probation.outcome == "passed"
    offer(clock.controller, 2, 5e-4)
    clock.tick()
    assert clock.controller.version == 2
    clock.reference[:] = 0.3  # the robot no longer gets where it should
    ticks = 0
    while clock.controller.rollbacks == 0:
        clock.tick()
        ticks += 1
        assert ticks < 10
    assert clock.controller.version == 1
    assert clock.controller.policy.parameters == pytest.approx(good)
    assert clock.controller.probation.outcome == "rolled_back"
    offer(clock.controller, 4)
    clock.tick()
    assert clock.controller.version == 1, "after a roll-back nothing is taken for a while"


@pytest.mark.parametrize("passed", [False, True])
def test_asked_to_it_goes_back_to_the_last_good_and_asked_again_to_the_start(clock, passed):
    clock.settle()
    good = offer(clock.controller, 1)
    clock.tick()
    clock.settle()
    offer(clock.controller, 2, 5e-4)
    clock.tick()
    assert clock.controller.version == 2
    if passed:
        clock.settle()
        assert clock.controller.probation.outcome == "passed"
    for version, flat in ((1, good), (0, clock.controller.bundle.start)):
        clock.controller.roll_back()
        offer(clock.controller, 3)
        clock.settle()
        assert clock.controller.version == version
        assert clock.controller.policy.parameters == pytest.approx(flat)
    assert clock.controller.rollbacks == 0, "counts what probation takes back"


def test_rolled_back_by_hand_it_takes_no_other_until_reset(clock):
    clock.settle()
    offer(clock.controller, 1)
    clock.tick()
    assert clock.controller.version == 1
    clock.controller.roll_back()
    assert clock.controller.version == 0
    assert (clock.controller.policy.parameters == clock.controller.bundle.start).all()
    offer(clock.controller, 2)
    clock.settle()
    assert clock.controller.version == 0
    clock.controller.reset()
    clock.settle()
    clock.tick()
    assert clock.controller.version == 2


def test_the_first_command_goes_no_further_than_one_step(clock):
    clock.reference[:] = 1.2
    step = clock.controller.bundle.manifest.robot.actions[0].max_rate * PERIOD_S
    assert np.abs(clock.tick().command).max() <= step + 1e-6
    clock.obs[:5] = -0.5
    clock.controller.reset()
    assert np.abs(clock.tick().command + 0.5).max() <= step + 1e-6


def test_what_was_measured_before_a_reset_is_not_held(clock):
    clock.obs[:5] = 1.0
    clock.tick()
    clock.controller.reset()
    clock.obs[:] = np.nan
    assert clock.tick().command is None


def test_a_fallback_while_watching_takes_the_parameters_back(clock):
    clock.settle()
    offer(clock.controller, 1)
    clock.tick()
    clock.obs[0] = np.nan
    clock.tick()
    assert clock.controller.version == 0
    assert clock.controller.rollbacks == 1
    assert clock.controller.probation.outcome == "rolled_back"


def test_a_measurement_used_twice_makes_no_transition(clock):
    clock.tick()
    assert clock.tick().transition is not None
    assert clock.tick(age_s=PERIOD_S).transition is None, "the same measurement again"
    assert clock.tick().transition is None, "two periods between the measurements"
    assert clock.tick().transition.first.tolist() == [True]


def test_before_control_ends_the_robot_is_told_to_hold(clock):
    assert clock.controller.stop() is None
    clock.obs[2] = 0.5
    clock.tick()
    assert clock.controller.stop()[2] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda flat: flat[:-1], "got"),
        (lambda flat: np.where(np.arange(flat.size) == 5, np.nan, flat), "not finite"),
        (lambda flat: flat + np.float32(1.0), "exceeds max_distance"),
        # The last 64 numbers are of one layer: the whole moves by 2.8 of the 3 allowed.
        (
            lambda flat: np.where(
                np.arange(flat.size) < flat.size - 64, flat, flat + np.float32(0.35)
            ),
            "layer 'shift1' is at .* beyond max_layer_distance",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(clock, spoil, sentence):
    manifest = clock.controller.bundle.manifest
    flat = spoil(clock.controller.bundle.start)
    with pytest.raises(ValueError, match=sentence):
        clock.controller.offer(1, manifest.start_sha256, flat)
    with pytest.raises(ValueError, match="give both nodes the same bundle"):
        clock.controller.offer(1, "0" * 64, clock.controller.bundle.start)
    clock.tick()
    assert clock.controller.version == 0


def test_a_reset_takes_back_what_is_still_watched_and_keeps_what_has_passed(clock):
    clock.settle()
    good = offer(clock.controller, 1)
    for _ in range(ProbationConfig().ticks + 2):
        clock.tick()
    assert clock.controller.probation.outcome == "passed"
    clock.controller.reset()
    clock.settle()
    offer(clock.controller, 2, 5e-4)
    clock.tick()
    assert (clock.controller.version, clock.controller.probation.outcome) == (2, "watching")
    clock.controller.reset()
    assert clock.controller.version == 1
    assert clock.controller.policy.parameters == pytest.approx(good)


def test_what_cannot_be_judged_does_not_drive_on_for_ever(clock):
    clock.settle()
    offer(clock.controller, 1)
    clock.tick()
    assert clock.controller.version == 1
    for _ in range(2 * ProbationConfig().ticks):
        clock.tick(periods=1.35)
    assert clock.controller.version == 1
    clock.tick(periods=1.35)
    assert (clock.controller.version, clock.controller.rollbacks) == (0, 1)


def test_after_a_fallback_that_moved_the_robot_the_last_command_is_no_jump_back(clock):
    clock.settle()
    clock.controller.envelope.latch("something")
    clock.controller.fallback.command = lambda obs, sent=None: np.full(5, 0.5, np.float32)
    for _ in range(10):
        sent = clock.tick().command
    np.testing.assert_allclose(sent, 0.5)
    np.testing.assert_allclose(clock.controller.stop(), sent)


def test_a_fallback_that_fails_late_holds_where_it_has_driven_the_robot(clock):
    clock.settle()
    clock.controller.envelope.latch("something")
    controller = clock.controller
    controller.fallback._fallback = lambda obs: np.full(5, 0.5, np.float32)
    controller.fallback._fallback.begin = lambda obs: None
    for _ in range(10):
        clock.tick()
    controller.fallback._fallback = lambda obs: 1 / 0
    for _ in range(3):
        np.testing.assert_allclose(clock.tick().command, 0.5)
    assert controller.fallback.failures == 1


def test_a_failure_of_control_itself_falls_back_within_the_limits(clock):
    clock.settle()
    last = clock.tick().command
    step = clock.controller.bundle.manifest.robot.actions[0].max_rate * PERIOD_S
    command = clock.controller.fail("ZeroDivisionError: planted")
    assert np.abs(command - last).max() <= step + 1e-6
    assert clock.controller.mode == "fallback"
    assert np.abs(clock.tick().command - command).max() <= step + 1e-6
