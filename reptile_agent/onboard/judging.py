"""What the gate looks at, and what it finds of adapted parameters: the robot's side of `gate`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.memory import Memory
from reptile_agent.onboard.plan_gate import PlanGate, SeenState
from reptile_agent.transition import Batch, Transition


@dataclass(frozen=True)
class HeldOut:
    """What is not learned from, as of one moment."""

    segments: Batch
    """The newest, [n, ...]."""
    states: list[SeenState]
    """To plan along; none where nobody asks about plans."""


class Judging:
    """Measures the evidence of adapted parameters.

    Args:
        bundle: verified.
        config: how much is held out, and whether plans are compared.
        rehearsal: segments from simulation that are never learned from, [n, ...].
        seed: of the planner's noise.
    """

    def __init__(
        self, bundle: Bundle, config: AdaptationConfig, rehearsal: Batch, seed: int
    ) -> None:
        self._bundle, self._config, self._rehearsal = bundle, config, rehearsal
        self._session = bundle.session("evaluate.onnx")
        self._plans = PlanGate(bundle, config.plans, seed) if config.plans else None
        self._rehearsal_start = self.error(bundle.start, rehearsal)

    def check(self, transition: Transition) -> None:
        """Refuse what cannot be planned along.

        Raises:
            ValueError: the reference has another shape or is not finite.
        """
        if self._plans is not None:
            self._plans.check(transition)

    def see(self, transition: Transition) -> None:
        """Look at one transition that `check` let pass."""
        if self._plans is not None:
            self._plans.see(transition)

    def forget(self) -> None:
        """Forget what was seen."""
        if self._plans is not None:
            self._plans.clear()

    def held_out(self, memory: Memory) -> HeldOut:
        """What there is to judge by now.

        Raises:
            LookupError: nothing is held out yet.
        """
        segment = self._bundle.manifest.segment
        segments = memory.latest(max(self._config.holdout, segment), segment)
        return HeldOut(segments, [] if self._plans is None else self._plans.seen)

    def error(self, flat: np.ndarray, segments: Batch) -> float:
        """Mean prediction error on some segments, by `evaluate.onnx`."""
        manifest = self._bundle.manifest
        feed = {f"p.{n}": v for n, v in parameters.views(flat, manifest.parameters).items()}
        feed |= {name: segments[name] for name in manifest.experience.fields}
        (error,) = self._session.run(["error"], feed)
        return float(np.asarray(error).mean())

    def evidence(self, before: np.ndarray, after: np.ndarray, held_out: HeldOut) -> Evidence:
        """What the gate judges on.

        Args:
            before: parameters to be better than, flat.
            after: adapted ones, flat.
            held_out: what to judge by.
        """
        start, segments = self._bundle.start, held_out.segments
        live_before, live_after = self.error(before, segments), self.error(after, segments)
        plan_gain = None
        if self._plans is not None:
            errors = np.array([self.error(start, segments), live_before, live_after])
            plan_gain = self._plans.gain(before, after, errors, held_out.states)
        return dataclasses.replace(
            self.distances(after),
            live_before=live_before,
            live_after=live_after,
            rehearsal_after=self.error(after, self._rehearsal),
            plan_gain=plan_gain,
        )

    def distances(self, after: np.ndarray) -> Evidence:
        """How far parameters are from the start; errors are not measured, and nan."""
        manifest = self._bundle.manifest
        distance, layers = parameters.distances(after, self._bundle.start, manifest)
        return Evidence(
            live_before=math.nan,
            live_after=math.nan,
            rehearsal_start=self._rehearsal_start,
            rehearsal_after=math.nan,
            distance=distance,
            layers=layers,
        )
