"""The envelope: a simple trusted part that overrules the learned one (Simplex architecture).

Every period it looks at the measurement before the policy does, and at the command after. What
is stale, frozen, not finite or out of reason leads to the fallback, latched until `reset`. It
knows no clock: ages come from the steady clock of whoever calls it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reptile_agent.onboard.command_limits import CommandLimits
from reptile_agent.onboard.fallback import Hold
from reptile_agent.onboard.frozen import FrozenSensors
from reptile_agent.spec import RobotSpec, limits

MAX_AGE_PERIODS, MIN_MAX_AGE_S = 3.0, 0.05
"""A signal may be three control periods old: one lost message and some jitter; and 50 ms."""
FROZEN_S, MIN_FROZEN = 0.5, 10
"""Within half a second, and ten samples, a driven joint leaves its stiction and its dead time."""
TOLERANCE = 1e-6
"""A command changed by no more than this was not clamped."""


@dataclass(frozen=True)
class EnvelopeConfig:
    """How much is tolerated."""

    max_age_s: float | None = None
    """Oldest measurement of a signal that is acted upon; None: three control periods, and no less
    than 50 ms."""
    max_clamps: int = 25
    """Control periods in a row in which a command may be clamped."""
    max_frozen: int | None = None
    """Samples in which a signal may stay the same to the bit while its joint is commanded
    elsewhere; 0: any number; None: those of half a second, and no fewer than ten."""
    frozen_share: float = 0.1
    """A command so far from what it was, as a share of its range, should move its joint."""
    fallback: str = "hold"
    """What drives the robot then: hold, damp, or one of the group reptile_agent.fallbacks."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where a signal is measured, by its name; reasons name it. Others go without."""

    def __post_init__(self) -> None:
        """Refuse what guards nothing.

        Raises:
            ValueError: a value is out of its range.
        """
        if self.max_age_s is not None and not 0 < self.max_age_s < math.inf:
            raise ValueError(f"max_age_s is {self.max_age_s}; set it above 0, or leave it out")
        if self.max_clamps < 0 or (self.max_frozen or 0) < 0:
            raise ValueError(
                f"max_clamps is {self.max_clamps} and max_frozen {self.max_frozen}; "
                "set neither below 0"
            )
        if not 0 < self.frozen_share <= 1:
            raise ValueError(f"frozen_share is {self.frozen_share}; set it above 0 and up to 1")

    def max_age_of(self, robot: RobotSpec) -> float:
        """The limit in force for a robot, in seconds."""
        if self.max_age_s is not None:
            return self.max_age_s
        return max(MAX_AGE_PERIODS * robot.control_period_s, MIN_MAX_AGE_S)

    def max_frozen_of(self, robot: RobotSpec) -> int:
        """The limit in force for a robot, in samples; 0: none."""
        if self.max_frozen is not None:
            return self.max_frozen
        return max(math.ceil(FROZEN_S / robot.control_period_s), MIN_FROZEN)


class Envelope:
    """Guards one robot.

    Args:
        robot: limits of every signal.
        config: what is tolerated.
    """

    def __init__(self, robot: RobotSpec, config: EnvelopeConfig | None = None) -> None:
        self.robot, self.config = robot, config or EnvelopeConfig()
        self.max_age_s = self.config.max_age_of(robot)
        self.fault = ""
        """Why the fallback is latched; empty: it is not."""
        self.clamps = 0
        """Control periods in which a command was clamped, ever."""
        self.clamps_by_action = np.zeros(len(robot.actions), int)
        """The same for each action, [act_dim]."""
        self._clamped_in_a_row = 0
        samples = self.config.max_frozen_of(robot)
        self._frozen = FrozenSensors(robot, samples, self.config.frozen_share) if samples else None
        self._limits, self._hold = CommandLimits(robot), Hold(robot)
        self._obs_low, self._obs_high = limits(robot.observations)
        self._ages_s = np.zeros(len(robot.observations))
        self._good, self._also = np.ones((2, len(robot.observations)), bool)
        self._sent: np.ndarray | None = None
        self._moved = np.zeros(len(robot.actions), np.float32)

    def check_measurement(self, obs: np.ndarray, ages_s: np.ndarray | float) -> bool:
        """Whether the policy may act on this; latches the fallback if not.

        Args:
            obs: measurement, float32 [obs_dim].
            ages_s: since each signal was received, or all of them, on a steady clock; [obs_dim].
        """
        # A comparison with NaN is false: each of these finds what is not finite, too.
        good, also = self._good, self._also
        self._ages_s[:] = ages_s
        np.less_equal(self._ages_s, self.max_age_s, out=good)
        good &= np.greater_equal(obs, self._obs_low, out=also)
        good &= np.less_equal(obs, self._obs_high, out=also)
        if not good.all():
            self._latch_measurement(obs)
        elif not self.fault:
            self._look_for_frozen(obs)
        return not self.fault

    def believable(self, obs: np.ndarray) -> np.ndarray:
        """The measurement last checked, NaN where it was stale, frozen or out of limits."""
        good = self._good if self._frozen is None else self._good & ~self._frozen.found
        return np.where(good, obs, np.float32(np.nan))

    def check_command(self, command: np.ndarray, last: np.ndarray) -> np.ndarray | None:
        """The command as it may be sent, or None: then the fallback is latched.

        Args:
            command: what the policy wants, [act_dim].
            last: what was sent one period ago, or `hold` where nothing was.
        """
        if not np.isfinite(command).all():
            self.latch("the policy's command is not finite")
            return None
        allowed = self._limits.apply(command, last, self._moved)
        clamped = np.abs(allowed - command) > TOLERANCE
        if clamped.any():
            self.clamps += 1
            self.clamps_by_action += clamped
            self._clamped_in_a_row += 1
            if self._clamped_in_a_row > self.config.max_clamps:
                self.latch(
                    f"commands were clamped in {self._clamped_in_a_row} periods in a row "
                    f"(allowed: {self.config.max_clamps})"
                )
                return None
        else:
            self._clamped_in_a_row = 0
        self._note(allowed, last)
        return allowed

    def limit(self, command: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The finite command nearest to this that may be sent; nothing is latched.

        Args:
            command: finite, [act_dim].
            last: what was sent one period ago, or `hold` where nothing was.
        """
        allowed = self._limits.apply(command, last, self._moved)
        self._note(allowed, last)
        return allowed

    def hold(self, obs: np.ndarray) -> np.ndarray:
        """The command that holds the robot: servos where they were measured, motors at zero.

        Args:
            obs: last good measurement [obs_dim].
        """
        return self._hold.at(obs)

    def reset(self) -> None:
        """Release the fallback; it latches again at once if its cause still stands."""
        self.fault, self._clamped_in_a_row, self._sent = "", 0, None
        self._moved = np.zeros_like(self._moved)
        if self._frozen is not None:
            self._frozen.reset()

    def latch(self, reason: str) -> None:
        """Fall back for a reason that something else found; the first reason stays."""
        self.fault = self.fault or reason

    def _note(self, sent: np.ndarray, last: np.ndarray) -> None:
        """Remember what goes out now, for what comes next."""
        self._sent, self._moved = sent, sent - last

    def _look_for_frozen(self, obs: np.ndarray) -> None:
        if self._frozen is None or self._sent is None:
            return
        if self._frozen.update(obs, self._ages_s, self._sent):
            self.latch(
                f"{self._name(self._frozen.found)} did not change to the bit in "
                f"{self._frozen.samples} samples while its joint was commanded elsewhere; is the "
                "sensor frozen, or the joint jammed?"
            )

    def _latch_measurement(self, obs: np.ndarray) -> None:
        """Say what is wrong with a measurement."""
        stale = ~(self._ages_s <= self.max_age_s)
        if stale.any():
            of = "" if stale.all() else f" of {self._name(stale)}"
            self.latch(
                f"the newest measurement{of} is {self._ages_s[np.argmax(stale)] * 1e3:.0f} ms old "
                f"(allowed: {self.max_age_s * 1e3:.0f} ms); are the robot's drivers running?"
            )
        bad = ~np.isfinite(obs)
        if bad.any():
            self.latch(f"{self._name(bad)} is not finite: {obs[np.argmax(bad)]}")
        out = (obs < self._obs_low) | (obs > self._obs_high)
        if out.any():
            i = int(np.argmax(out))
            self.latch(
                f"{self._name(out)} is {obs[i]:.4g}, outside "
                f"[{self._obs_low[i]:.4g}, {self._obs_high[i]:.4g}]"
            )

    def _name(self, which: np.ndarray) -> str:
        name = self.robot.observations[int(np.argmax(which))].name
        source = self.config.sources.get(name)
        return f"'{name}'" if source is None else f"'{name}' ({source})"
