"""The envelope: a simple trusted part that overrules the learned one (Simplex architecture).

Every period it looks at the measurement before the policy does, and at the command after. What
is stale, not finite or out of reason leads to the fallback, which is latched until `reset`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reptile_agent.spec import RobotSpec, limits


@dataclass(frozen=True)
class EnvelopeConfig:
    """How much is tolerated."""

    max_age_s: float = 0.12
    """Oldest measurement that is acted upon: three periods at 25 Hz."""
    max_clamps: int = 25
    """Control periods in a row in which a command may be clamped."""


class Envelope:
    """Guards one robot.

    Args:
        robot: limits of every signal.
        config: what is tolerated.
    """

    def __init__(self, robot: RobotSpec, config: EnvelopeConfig | None = None) -> None:
        self.robot, self.config = robot, config or EnvelopeConfig()
        self.fault = ""
        """Why the fallback is latched; empty: it is not."""
        self.clamps = 0
        """Control periods in which a command was clamped, ever."""
        self._clamped_in_a_row = 0
        self._obs_low, self._obs_high = limits(robot.observations)
        self._low, self._high = limits(robot.actions)
        rates = [np.inf if s.max_rate is None else s.max_rate for s in robot.actions]
        self._step = np.array(rates, np.float32) * np.float32(robot.control_period_s)
        servo = robot.servo_columns()
        self._hold_columns = np.where(servo >= 0, servo, 0)
        self._is_servo = servo >= 0

    def check_measurement(self, obs: np.ndarray, age_s: float) -> bool:
        """Whether the policy may act on this; latches the fallback if not.

        Args:
            obs: measurement [obs_dim].
            age_s: since it was received, on a steady clock.
        """
        if not age_s <= self.config.max_age_s:
            self.latch(
                f"the newest measurement is {age_s * 1e3:.0f} ms old "
                f"(allowed: {self.config.max_age_s * 1e3:.0f} ms); are the robot's drivers running?"
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
        return not self.fault

    def check_command(self, command: np.ndarray, last: np.ndarray) -> np.ndarray | None:
        """The command as it may be sent, or None: then the fallback is latched.

        Args:
            command: what the policy wants, [act_dim].
            last: what was sent one period ago, or `hold` where nothing was.
        """
        if not np.isfinite(command).all():
            self.latch("the policy's command is not finite")
            return None
        allowed = command
        if np.isfinite(last).all():
            allowed = np.clip(allowed, last - self._step, last + self._step)
        allowed = np.clip(allowed, self._low, self._high)
        if (np.abs(allowed - command) > 1e-6).any():
            self.clamps += 1
            self._clamped_in_a_row += 1
            if self._clamped_in_a_row > self.config.max_clamps:
                self.latch(
                    f"commands were clamped in {self._clamped_in_a_row} periods in a row "
                    f"(allowed: {self.config.max_clamps})"
                )
                return None
        else:
            self._clamped_in_a_row = 0
        return allowed

    def hold(self, obs: np.ndarray) -> np.ndarray:
        """The fallback's command: servos hold where they were measured, motors get zero.

        Args:
            obs: last good measurement [obs_dim].
        """
        command = np.where(self._is_servo, obs[self._hold_columns], 0.0).astype(np.float32)
        return np.clip(command, self._low, self._high)

    def reset(self) -> None:
        """Release the fallback; it latches again at once if its cause still stands."""
        self.fault, self._clamped_in_a_row = "", 0

    def latch(self, reason: str) -> None:
        """Fall back for a reason that something else found; the first reason stays."""
        self.fault = self.fault or reason

    def _name(self, which: np.ndarray) -> str:
        return f"'{self.robot.observations[int(np.argmax(which))].name}'"
