"""What the robot would have done with other parameters: the robot's side of `plan_evidence`."""

from __future__ import annotations

from collections import deque

import numpy as np

from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.manifest import VALUE
from reptile_agent.onboard.policy import Policy
from reptile_agent.plan_evidence import plan_gain
from reptile_agent.transition import Transition

SeenState = tuple[np.ndarray, np.ndarray, bool]
"""Measurement [obs_dim], reference [horizon, ref_dim], and whether the robot began anew there."""


class PlanGate:
    """Plans anew along the last moments, as `reptile_agent.meta.plan_gate` does for many lanes.

    Args:
        bundle: verified.
        states: control periods to plan along; the later half of the plans is judged, when the plan
            that is carried from one to the next has settled.
        seed: of the planner's noise, which both parameters share.
    """

    def __init__(self, bundle: Bundle, states: int, seed: int = 0) -> None:
        self._seen: deque[SeenState] = deque(maxlen=states)
        self._policies = [Policy(bundle, seed) for _ in range(2)]
        self._session = bundle.session(VALUE)
        self._entries = bundle.manifest.parameters
        self._start = bundle.start
        self._horizon = self._policies[0].horizon
        # Where references are learned from, a transition knows that of its end as well.
        rows = 2 if bundle.manifest.experience.sees_reference else self._horizon
        self._shape = (rows, len(bundle.manifest.robot.references))

    def check(self, transition: Transition) -> None:
        """Refuse a transition whose reference cannot be planned along.

        Raises:
            ValueError: the reference has another shape or is not finite.
        """
        if transition.reference is None:
            return
        reference = transition.reference[0]
        if reference.shape != self._shape or not np.isfinite(reference).all():
            raise ValueError(
                f"the reference should be finite numbers of shape {self._shape}, control periods "
                f"and references; it is of shape {reference.shape}"
            )

    def see(self, transition: Transition) -> None:
        """Look at one transition that `check` let pass; without a reference all is forgotten."""
        if transition.reference is None:
            self.clear()  # what is not known cannot be planned along
            return
        first = bool(transition.first[0])
        self._seen.append((transition.obs[0], transition.reference[0, : self._horizon], first))

    def clear(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    @property
    def seen(self) -> list[SeenState]:
        """States that a verdict would look at now, oldest first."""
        return list(self._seen)

    def gain(
        self, old: np.ndarray, new: np.ndarray, error: np.ndarray, seen: list[SeenState]
    ) -> float:
        """What the committee thinks that the plans of `new` are worth more per control period.

        Args:
            old: parameters in use, flat.
            new: adapted ones, flat.
            error: on the last moments, of the start, of `old` and of `new`, [3].
            seen: states to plan along.

        Returns:
            In units of the task's objective; nan where no model has a say, or nothing was seen.
        """
        gains = np.zeros(3)
        for policy, flat in zip(self._policies, (old, new)):
            policy.reset()
            policy.set_parameters(flat)
        judged = 0
        for number, (obs, reference, first) in enumerate(seen):
            for policy in self._policies:
                if first:
                    policy.reset()
                policy.act(obs, reference)
            if number < len(seen) // 2:
                continue
            judged += 1
            plans = np.stack([policy.plan for policy in self._policies])
            if np.array_equal(*plans):
                continue  # and not what rounding makes of it
            for judge, flat in enumerate((self._start, old, new)):
                worth = self._values(flat, obs, reference, plans)
                gains[judge] += worth[1] - worth[0]
        return float(plan_gain(error, gains / judged)) if judged else float("nan")

    def _values(
        self, flat: np.ndarray, obs: np.ndarray, reference: np.ndarray, plans: np.ndarray
    ) -> np.ndarray:
        feed = {f"p.{n}": v for n, v in parameters.views(flat, self._entries).items()}
        feed |= {"obs": obs, "reference": reference, "plan": plans}
        (value,) = self._session.run(["value"], feed)
        return np.asarray(value, float)
