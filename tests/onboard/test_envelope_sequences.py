"""The envelope under random sequences: whatever comes, what goes out keeps to the limits."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reptile_agent.onboard.envelope import Envelope, EnvelopeConfig
from reptile_agent.onboard.fallback import GuardedFallback
from reptile_agent.spec import RobotSpec, Signal

PERIOD_S, RATE, ACCELERATION = 0.1, 2.0, 8.0
STEP, CHANGE = RATE * PERIOD_S, ACCELERATION * PERIOD_S**2
MAX_AGE_S, MAX_CLAMPS, MAX_FROZEN = 0.3, 3, 4
ROUNDING = 2e-6
ROBOT = RobotSpec(
    name="toy",
    control_period_s=PERIOD_S,
    observations=(
        Signal(joint="lift", quantity="position", unit="rad", low=-2.0, high=2.0),
        Signal(joint="wheel", quantity="velocity", unit="rad/s", low=-50.0, high=50.0),
    ),
    actions=(
        Signal(
            joint="lift",
            quantity="position",
            unit="rad",
            low=-1.0,
            high=1.0,
            max_rate=RATE,
            max_acceleration=ACCELERATION,
        ),
        Signal(joint="wheel", quantity="effort", unit="N m", low=-3.0, high=3.0),
    ),
    references=(Signal(joint="lift", quantity="position", unit="rad", low=-2.0, high=2.0),),
)
LOW, HIGH = np.float32([-1, -3]), np.float32([1, 3])

any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
good_obs = st.tuples(st.floats(-1, 1, width=32), st.floats(-50, 50, width=32))
any_obs = good_obs | st.tuples(any_float, any_float) | st.just((0.5, 0.5))
good_ages = st.tuples(st.floats(0, 0.05), st.floats(0, 0.05))
any_ages = good_ages | st.tuples(any_float, any_float) | any_float
commands = st.tuples(st.floats(-2, 2, width=32), st.floats(-4, 4, width=32)) | st.tuples(
    any_float, any_float
)


class EnvelopeMachine(RuleBasedStateMachine):
    """Drives an envelope and its fallback as a controller does, with nothing that fits."""

    @initialize(name=st.sampled_from(["hold", "damp"]))
    def begin(self, name: str) -> None:
        config = EnvelopeConfig(
            max_age_s=MAX_AGE_S, max_clamps=MAX_CLAMPS, max_frozen=MAX_FROZEN, fallback=name
        )
        self.envelope, self.fallback = Envelope(ROBOT, config), GuardedFallback(ROBOT, name)
        self.sent: list[np.ndarray] = []
        self.stretch = 0
        self.good: np.ndarray | None = None
        self.fell = False

    @rule(obs=any_obs, ages=any_ages, command=commands)
    def period(self, obs, ages, command) -> None:
        self._period(np.float32(obs), np.float64(ages), np.float32(command))

    @precondition(lambda self: not self.envelope.fault)
    @rule(obs=good_obs, ages=good_ages, command=commands)
    def good_period(self, obs, ages, command) -> None:
        self._period(np.float32(obs), np.float64(ages), np.float32(command))

    @rule()
    def reset(self) -> None:
        self.envelope.reset()
        assert self.envelope.fault == ""
        self.sent, self.good, self.fell = [], None, False

    def _period(self, obs: np.ndarray, ages_s: np.ndarray, command: np.ndarray) -> None:
        latched, envelope = self.envelope.fault, self.envelope
        believed = envelope.check_measurement(obs, ages_s)
        fit = np.isfinite(obs).all() and (np.abs(obs) <= [2, 50]).all()
        fit = fit and bool(np.all(ages_s <= MAX_AGE_S))
        if believed:
            assert fit
            assert not latched
            self.good = obs
        elif not latched and fit:
            assert "did not change to the bit" in envelope.fault
        known = envelope.believable(obs)
        assert (np.isnan(known) | (known == obs)).all()
        if self.good is None:
            return
        last = self.sent[-1] if self.sent else envelope.hold(self.good)
        sent = envelope.check_command(command, last) if believed else None
        if sent is None:
            assert envelope.fault
            if not self.fell:
                self.fallback.begin(self.good)
            self.fell = True
            sent = envelope.limit(self.fallback.command(envelope.believable(obs)), last)
        else:
            assert np.isfinite(command).all()
            assert not self.fell
        if not self.sent:
            self.sent = [last, last]
        self.sent.append(sent)

    @invariant()
    def what_is_sent_is_finite_and_within_all_limits(self) -> None:
        sent = np.array(getattr(self, "sent", [])[-3:])
        if len(sent) < 3:
            return
        assert np.isfinite(sent).all()
        assert (sent >= LOW).all()
        assert (sent <= HIGH).all()
        steps = np.diff(sent[:, 0])
        assert np.abs(steps).max() <= STEP + ROUNDING
        assert abs(steps[1] - steps[0]) <= CHANGE + ROUNDING

    @invariant()
    def clamps_are_counted_by_action(self) -> None:
        if hasattr(self, "envelope"):
            envelope = self.envelope
            assert envelope.clamps_by_action.max() <= envelope.clamps
            assert envelope.clamps <= envelope.clamps_by_action.sum()


TestEnvelope = EnvelopeMachine.TestCase
