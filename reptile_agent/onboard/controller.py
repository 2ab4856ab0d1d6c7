"""One control period, all guards included: measurement in, command out. Knows no ROS, no clock.

Order of a tick: the envelope looks at the measurement, probation at what the last command did,
new parameters may be swapped in, the policy acts, the envelope looks at the command.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.envelope import Envelope, EnvelopeConfig
from reptile_agent.onboard.fallback import GuardedFallback
from reptile_agent.onboard.manifest import REWARD
from reptile_agent.onboard.policy import Policy
from reptile_agent.onboard.reward import Reward
from reptile_agent.probation import Probation, ProbationConfig
from reptile_agent.transition import Transition
from reptile_agent.trust_region import breach

LATE = 1.5
"""A tick that comes after more than so many periods missed one."""
UNEVEN = 0.3
"""Share of a period by which the time between two ticks, and between their measurements, may differ
for the transition to be learned from."""


_Last = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of the period before: measurement [obs_dim], command [act_dim] and reference [horizon, ref_dim].
"""


@dataclass(frozen=True)
class Tick:
    """What one control period came to."""

    command: np.ndarray | None
    """To send to the robot [act_dim]; None: send nothing."""
    transition: Transition | None
    """What the period before left behind; None where it is not fit to learn from."""
    tracking_error: float
    """Mean absolute distance from what was to be reached by now; nan at first."""


class Controller:
    """Drives one robot with a bundle, within an envelope, under probation.

    Args:
        bundle: verified.
        envelope: what is tolerated of measurements and commands.
        probation: how new parameters are watched.
        seed: of the planner's noise.
    """

    def __init__(
        self,
        bundle: Bundle,
        envelope: EnvelopeConfig | None = None,
        probation: ProbationConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.bundle = bundle
        self.policy = Policy(bundle, seed)
        self.envelope = Envelope(bundle.manifest.robot, envelope)
        self.fallback = GuardedFallback(bundle.manifest.robot, self.envelope.config.fallback)
        self.probation = Probation(probation)
        self.version = 0
        """Of the parameters in use; 0 is the start."""
        self.ticks = self.missed = self.rollbacks = self.fallbacks = 0
        manifest = bundle.manifest
        self._reward = Reward(bundle) if REWARD in manifest.graphs else None
        self._sees_reference = manifest.experience.sees_reference
        self._columns = manifest.robot.reference_columns
        self._period_s = bundle.manifest.robot.control_period_s
        self._servos = bundle.manifest.robot.servo_columns() >= 0
        self._good = (0, bundle.start.copy())
        self._offered: tuple[int, np.ndarray] | None = None
        self._frozen = False
        self._last_s: float | None = None
        self._last_measured_s: np.ndarray | float | None = None
        self._last: _Last | None = None
        self._fallen: np.ndarray | None = None
        """What the fallback sent last, [act_dim]; None where it does not drive."""
        self._good_obs: np.ndarray | None = None
        self._continues = False

    @property
    def reason(self) -> str:
        """Why the robot falls back, and what became of that; empty where it does not."""
        return "; ".join(filter(None, (self.envelope.fault, self.fallback.error)))

    @property
    def frozen(self) -> bool:
        """Whether `roll_back` keeps adapted parameters out, until `reset`."""
        return self._frozen

    @property
    def mode(self) -> str:
        """`active`, or `fallback` while that is latched."""
        return "fallback" if self.envelope.fault else "active"

    def offer(self, version: int, start_sha256: str, flat: np.ndarray) -> None:
        """Hand over parameters that the gate accepted; they are taken between two periods.

        Raises:
            ValueError: they were adapted from another start, do not fit, are not finite, or lie
                outside the trust region. Nothing changes then.
        """
        manifest = self.bundle.manifest
        if start_sha256 != manifest.start_sha256:
            raise ValueError(
                f"parameters were adapted from start {start_sha256[:12] or '(none)'}, this "
                f"bundle's is {manifest.start_sha256[:12]}; give both nodes the same bundle"
            )
        if flat.shape != self.bundle.start.shape:
            raise ValueError(f"got {flat.size} parameters, the bundle has {self.bundle.start.size}")
        if not np.isfinite(flat).all():
            raise ValueError("offered parameters are not finite")
        distance, layers = parameters.distances(flat, self.bundle.start, manifest)
        outside = breach(distance, layers, manifest.adaptation)
        if outside is not None:
            raise ValueError(f"offered parameters are outside the trust region: {outside[1]}")
        self._offered = (version, np.array(flat, np.float32))

    def tick(
        self,
        now_s: float,
        obs: np.ndarray,
        measured_s: np.ndarray | float,
        reference: np.ndarray,
    ) -> Tick:
        """One control period.

        Args:
            now_s: steady clock.
            obs: newest measurement, float32 [obs_dim].
            measured_s: when each signal of it, or all, was received, on the same clock; [obs_dim].
            reference: to follow in the next periods [horizon, ref_dim].
        """
        self.ticks += 1
        elapsed = None if self._last_s is None else (now_s - self._last_s) / self._period_s
        if elapsed is not None and elapsed > LATE:
            self.missed += round(elapsed) - 1
        self._last_s = now_s
        even = elapsed is not None and abs(elapsed - 1) <= UNEVEN
        even = even and self._measured_one_period_after(measured_s)
        # A copy: the caller may write into its own when the next message comes.
        self._last_measured_s = np.array(measured_s)
        if not self.envelope.check_measurement(obs, now_s - measured_s):
            return self._fall_back(obs)
        self._good_obs = obs.copy()

        transition, error, reward = None, float("nan"), float("nan")
        if self._last is not None:
            before, sent, aim = self._last
            error = float(np.abs(obs[self._columns] - aim[0]).mean())
            reward = -error
            if self._reward is not None and even:
                reward = self._reward(before, sent, obs, aim[0])
            if not (math.isfinite(error) and math.isfinite(reward)):
                self.envelope.latch(
                    f"the reward is not finite: it is {reward}, the tracking error {error}"
                )
                return self._fall_back(obs)
            if even:
                transition = self._transition(obs, reward, reference)
            self._continues = transition is not None
        # An uneven period says nothing of the parameters: its aim lies elsewhere in time.
        if self._is_worse(error, reward, transition is not None):
            self._roll_back()
        self._swap()

        if not np.isfinite(reference).all():
            self.envelope.latch("the reference is not finite")
            return self._fall_back(obs)
        wanted = self.policy.act(obs, reference)
        command = self.envelope.check_command(wanted, self._last_sent(obs))
        if command is None:
            return self._fall_back(obs)
        self._last = (self._good_obs, command.copy(), np.array(reference, np.float32))
        return Tick(command, transition, error)

    def reset(self) -> None:
        """Release a latched fallback and start anew from the last good parameters.

        What was measured before is forgotten: the robot may have been moved since.
        """
        if self.probation.outcome == "watching":
            self._roll_back()
        self._keep_what_passed()
        self.envelope.reset()
        self.policy.reset()
        self.probation.reset()
        self._last = self._fallen = self._last_s = self._last_measured_s = self._good_obs = None
        self.fallback.error = ""
        self._continues = self._frozen = False

    def stop(self) -> np.ndarray | None:
        """The last command before control ends: hold where the robot was last seen.

        Where a fallback drove, servos stay at what it sent last: the robot has moved since.
        """
        if self._good_obs is None:
            return None
        command = self.envelope.hold(self._good_obs)
        return command if self._fallen is None else np.where(self._servos, self._fallen, command)

    def fail(self, reason: str) -> np.ndarray | None:
        """Fall back for a reason that control itself was not able to find; the command to send."""
        self.envelope.latch(reason)
        unknown = np.full(len(self.bundle.manifest.robot.observations), np.nan, np.float32)
        return self._fall_back(unknown).command

    def roll_back(self) -> None:
        """Put back the last parameters that passed probation before those in use.

        Where there are none since the last `reset`, or what was put back is in use, the bundle's
        start. No others are taken until `reset`.
        """
        if self.version == self._good[0]:
            self._good = (0, self.bundle.start.copy())
        self._put_back()
        self.probation.reset()
        self._frozen = True

    def _is_worse(self, error: float, reward: float, even: bool) -> bool:
        """Whether probation takes back what drives; an uneven period tells it nothing."""
        if not even:
            return self.probation.skip()
        return self.probation.tick(error, None if self._reward is None else reward)

    def _last_sent(self, obs: np.ndarray) -> np.ndarray:
        """The command that the next one steps from: the first, from where the robot is."""
        return self.envelope.hold(obs) if self._last is None else self._last[1]

    def _measured_one_period_after(self, measured_s: np.ndarray | float) -> bool:
        """Whether every signal is new and was measured a control period after the last."""
        if self._last_measured_s is None:
            return False
        periods = (measured_s - self._last_measured_s) / self._period_s
        return bool(np.all(np.abs(periods - 1) <= UNEVEN))

    def _transition(self, next_obs: np.ndarray, reward: float, reference: np.ndarray) -> Transition:
        """What the period before left behind, for one lane.

        Args:
            next_obs: measurement now.
            reward: by `reward.onnx`, or else minus the tracking error, which nobody learns from.
            reference: to follow from now on, [horizon, ref_dim].
        """
        assert self._last is not None
        obs, action, aim = self._last
        if self._sees_reference:
            aim = np.concatenate([aim[:1], reference[:1]]).astype(np.float32)
        return Transition(
            obs=obs[None],
            action=action[None],
            next_obs=next_obs[None].copy(),
            reward=np.array([reward], np.float32),
            first=np.array([not self._continues]),
            reference=aim[None],
        )

    def _swap(self) -> None:
        """Take what is offered, if nothing else is being watched."""
        if self._offered is None or self._frozen or not self.probation.open:
            return
        self._keep_what_passed()
        self.version, flat = self._offered
        self._offered = None
        self.policy.set_parameters(flat)
        self.probation.begin()

    def _keep_what_passed(self) -> None:
        if self.probation.outcome == "passed":
            self._good = (self.version, self.policy.parameters)

    def _roll_back(self) -> None:
        self.rollbacks += 1
        self._put_back()

    def _put_back(self) -> None:
        self.version, flat = self._good
        self.policy.set_parameters(flat)
        self._offered = None

    def _fall_back(self, obs: np.ndarray) -> Tick:
        """Let the fallback drive from what was sent last; say nothing if nothing was ever good."""
        if self.probation.outcome == "watching":
            # What led here may be the new parameters' doing.
            self.probation.fail()
            self._roll_back()
        if self._good_obs is not None:
            drove = self._fallen
            if self._fallen is None:
                self.fallback.begin(self._good_obs)
                self.fallbacks += 1
                self._fallen = self._last_sent(self._good_obs)
            wanted = self.fallback.command(self.envelope.believable(obs), drove)
            self._fallen = self.envelope.limit(wanted, self._fallen)
        self._last, self._continues = None, False
        return Tick(self._fallen, None, float("nan"))
