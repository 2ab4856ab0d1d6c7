"""One control period, all guards included: measurement in, command out. Knows no ROS, no clock.

Order of a tick: the envelope looks at the measurement, probation at what the last command did,
new parameters may be swapped in, the policy acts, the envelope looks at the command.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.envelope import Envelope, EnvelopeConfig
from reptile_agent.onboard.policy import Policy
from reptile_agent.probation import Probation, ProbationConfig
from reptile_agent.transition import Transition
from reptile_agent.trust_region import breach

LATE = 1.5
"""A tick that comes after more than so many periods missed one."""
UNEVEN = 0.3
"""Share of a period by which the time between two ticks, and between their measurements, may differ
for the transition to be learned from."""


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
        self.probation = Probation(probation)
        self.version = 0
        """Of the parameters in use; 0 is the start."""
        self.ticks = self.missed = self.rollbacks = self.fallbacks = 0
        self._columns = bundle.manifest.robot.reference_columns
        self._period_s = bundle.manifest.robot.control_period_s
        self._good = (0, bundle.start.copy())
        self._offered: tuple[int, np.ndarray] | None = None
        self._frozen = False
        self._last_s: float | None = None
        self._last_measured_s: float | None = None
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._hold: np.ndarray | None = None
        self._good_obs: np.ndarray | None = None
        self._continues = False

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

    def tick(self, now_s: float, obs: np.ndarray, measured_s: float, reference: np.ndarray) -> Tick:
        """One control period.

        Args:
            now_s: steady clock.
            obs: newest measurement [obs_dim].
            measured_s: when it was received, on the same clock.
            reference: to follow in the next periods [horizon, ref_dim].
        """
        self.ticks += 1
        elapsed = None if self._last_s is None else (now_s - self._last_s) / self._period_s
        if elapsed is not None and elapsed > LATE:
            self.missed += round(elapsed) - 1
        self._last_s = now_s
        even = elapsed is not None and abs(elapsed - 1) <= UNEVEN
        even = even and self._measured_one_period_after(measured_s)
        self._last_measured_s = measured_s
        if not self.envelope.check_measurement(obs, now_s - measured_s):
            return self._fall_back()
        self._good_obs = obs.copy()

        transition, error = None, float("nan")
        if self._last is not None:
            last_obs, action, aim = self._last
            error = float(np.abs(obs[self._columns] - aim).mean())
            if even:
                transition = _transition(last_obs, action, obs, error, first=not self._continues)
                # An uneven period says nothing of the parameters: its aim lies elsewhere in time.
                if self.probation.tick(error):
                    self._roll_back()
            self._continues = transition is not None
        self._swap()

        if not np.isfinite(reference).all():
            self.envelope.latch("the reference is not finite")
            return self._fall_back()
        wanted = self.policy.act(obs, reference)
        # The first command steps from where the robot is, no further than any other.
        last = self.envelope.hold(obs) if self._last is None else self._last[1]
        command = self.envelope.check_command(wanted, last)
        if command is None:
            return self._fall_back()
        self._last = (self._good_obs, command.copy(), reference[0].copy())
        return Tick(command, transition, error)

    def reset(self) -> None:
        """Release a latched fallback and start anew from the last good parameters.

        What was measured before is forgotten: the robot may have been moved since.
        """
        self.envelope.reset()
        self.policy.reset()
        self.probation.reset()
        self._last = self._hold = self._last_s = self._last_measured_s = self._good_obs = None
        self._continues = self._frozen = False

    def stop(self) -> np.ndarray | None:
        """The last command before control ends: hold where the robot was last seen."""
        return None if self._good_obs is None else self.envelope.hold(self._good_obs)

    def back_to_start(self) -> None:
        """Drop adapted parameters for the bundle's start, and take no others until `reset`."""
        self.version, self._good = 0, (0, self.bundle.start.copy())
        self.policy.set_parameters(self.bundle.start)
        self.probation.reset()
        self._offered, self._frozen = None, True

    def _measured_one_period_after(self, measured_s: float) -> bool:
        """Whether this measurement is new and was taken a control period after the last."""
        if self._last_measured_s is None:
            return False
        return abs((measured_s - self._last_measured_s) / self._period_s - 1) <= UNEVEN

    def _swap(self) -> None:
        """Take what is offered, if nothing else is being watched."""
        if self._offered is None or self._frozen or not self.probation.open:
            return
        if self.probation.outcome == "passed":
            self._good = (self.version, self.policy.parameters)
        self.version, flat = self._offered
        self._offered = None
        self.policy.set_parameters(flat)
        self.probation.begin()

    def _roll_back(self) -> None:
        self.version, flat = self._good
        self.policy.set_parameters(flat)
        self.rollbacks += 1
        self._offered = None

    def _fall_back(self) -> Tick:
        """Hold still where the robot was last seen; say nothing if it never was."""
        if self.probation.outcome == "watching":
            # What led here may be the new parameters' doing.
            self.probation.fail()
            self._roll_back()
        if self._hold is None and self._good_obs is not None:
            self._hold = self.envelope.hold(self._good_obs)
            self.fallbacks += 1
        self._last, self._continues = None, False
        return Tick(self._hold, None, float("nan"))


def _transition(
    obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, error: float, first: bool
) -> Transition:
    """One lane; on board the reward is minus the tracking error."""
    return Transition(
        obs=obs[None],
        action=action[None],
        next_obs=next_obs[None].copy(),
        reward=np.array([-error], np.float32),
        first=np.array([first]),
    )
