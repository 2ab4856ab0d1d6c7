"""Adaptations from a recording: those that the robot made, to the bit, or others along the way.

The random numbers of an adapter depend on its seed and on what was adapted before; what it learns
from, on the moments of adapting. adapter_node reports those (AdaptationStatus), so that an adapter
that is led through the same moments takes the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reptile_agent.adaptation import MIN_NEW_TRANSITIONS, AdaptationConfig
from reptile_agent.bags.recording import Attempt, Recording
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation, Asked
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import Stepped
from reptile_agent.transition import Batch


@dataclass(frozen=True)
class Outcome:
    """An adaptation from a bag, beside the robot's own where that was repeated."""

    time_s: float
    """By the recorder's clock."""
    adaptation: Adaptation | None
    """None: it could not be repeated."""
    attempt: Attempt | None = None
    """What the robot's adapter said."""
    differs: str = ""
    """Where it is not the robot's to the bit: what is not, or what is missing."""


def repeat(bundle: Bundle, recording: Recording, seed: int = 0) -> Iterator[Outcome]:
    """Every adaptation that the recording tells of, as the robot made it.

    Args:
        bundle: that drove the robot.
        recording: with attempts.
        seed: parameter of adapter_node.
    """
    adapter = _Again(bundle, seed=seed)
    memory, known = _Memory(adapter, recording), dict(recording.offers)
    known[bundle.manifest.start_sha256] = bundle.start
    for attempt in recording.attempts:
        if not attempt.asked_steps:
            continue  # ~/restore: nothing was learned
        missing = memory.as_at(attempt)
        in_use = known.get(attempt.in_use_sha256)
        if in_use is None:
            missing = missing or (
                f"parameters {attempt.in_use_sha256[:12]} were in use and are not in the bag"
            )
        adapter.in_use = bundle.start if in_use is None else in_use
        try:
            found = adapter.repeat(attempt)
        except (LookupError, ValueError) as error:
            yield Outcome(attempt.time_s, None, attempt, missing or str(error))
            continue
        known.setdefault(parameters.sha256(found.parameters), found.parameters)
        differs = missing or _difference(found, attempt, recording)
        yield Outcome(attempt.time_s, found, attempt, differs)


def every(
    bundle: Bundle, recording: Recording, config: AdaptationConfig, every_s: float, seed: int = 0
) -> Iterator[Outcome]:
    """Adapt every so often, as if the robot had taken whatever the gate accepted.

    Args:
        bundle: that drove the robot.
        recording: of transitions.
        config: how to adapt.
        every_s: time from one adaptation to the next.
        seed: of the minibatches.
    """
    adapter = Adapter(bundle, config, seed=seed)
    memory, fallbacks = _Memory(adapter, recording), list(recording.fallbacks_s)
    due_s, new = recording.times_s[0] + every_s, 0
    for at, time_s in enumerate(recording.times_s):
        while fallbacks and fallbacks[0] <= time_s:
            fallbacks.pop(0)
            adapter.forget()  # what led to a fallback is not to be learned from
        new += memory.up_to(at)
        if time_s < due_s:
            continue
        due_s += every_s * (1 + (time_s - due_s) // every_s)
        if new < MIN_NEW_TRANSITIONS or not adapter.ready:
            continue
        try:
            found = adapter.adapt()
        except LookupError:
            continue  # uneven periods: what is remembered lies in too many pieces
        new = 0
        yield Outcome(time_s, found)


class _Again(Adapter):
    """An adapter that is stopped where the robot's clock, or somebody, stopped the robot's."""

    def repeat(self, attempt: Attempt) -> Adaptation:
        """The same adaptation again.

        Raises:
            LookupError: too few transitions are remembered.
            ValueError: what was asked for is out of reason.
        """
        asked = {
            "inner_steps": attempt.asked_steps,
            "inner_lr": attempt.inner_lr,
            "window": attempt.asked_window,
            "start": attempt.asked_start,
        }
        self.config = AdaptationConfig.model_validate(self.config.model_dump() | asked)
        self._attempt = attempt
        return self.adapt()

    def _stepped(
        self, asked: Asked, minibatches: Mapping[float, Batch], *rest: Any
    ) -> tuple[float, Stepped]:
        """Only the steps that the robot's adapter chose: of the others it says nothing."""
        attempt = self._attempt
        if attempt.tau not in minibatches:
            raise ValueError(f"its recency was {attempt.tau:g}, the bundle has {[*minibatches]}")
        # One cancelled while the gate looked had taken all its steps.
        cut = attempt.stop == "deadline" or (
            attempt.stop == "cancelled" and not np.isfinite(attempt.live_before)
        )
        steps = attempt.steps if cut else attempt.asked_steps
        fewer = {name: value[:steps] for name, value in minibatches[attempt.tau].items()}
        tau, stepped = super()._stepped(asked, {attempt.tau: fewer}, *rest)
        return tau, stepped._replace(stop=attempt.stop) if cut else stepped


class _Memory:
    """Leads an adapter's memory through a recording."""

    def __init__(self, adapter: Adapter, recording: Recording) -> None:
        self._adapter, self._recording = adapter, recording
        self._next = 0
        self._taken: list[int] = []
        self._step, self._time_s = np.array(recording.steps), np.array(recording.times_s)

    def up_to(self, at: int) -> int:
        """Remember transitions up to number `at`; how many the adapter took."""
        before = len(self._taken)
        for number in range(self._next, at + 1):
            try:
                self._adapter.remember(self._recording.transitions[number])
            except ValueError:
                continue  # as adapter_node does: refused, said, and nothing else
            self._taken.append(number)
        self._next = max(self._next, at + 1)
        return len(self._taken) - before

    def as_at(self, attempt: Attempt) -> str:
        """Remember what the robot did at an attempt; what is missing, or nothing."""
        same = np.flatnonzero(self._step == attempt.newest_step)
        if same.size:
            self.up_to(int(same[np.abs(self._time_s[same] - attempt.time_s).argmin()]))
        replay, remembered = self._adapter.replay, attempt.remembered
        if len(replay) != remembered:
            # It began to listen later than the recorder, or forgot what led to a fallback.
            self._adapter.forget()
            for number in self._taken[-remembered:]:
                self._adapter.remember(self._recording.transitions[number])
        if not same.size:
            return f"transition {attempt.newest_step} is not in the bag"
        if len(replay) < remembered:
            lost = remembered - len(replay)
            return f"{lost} of the {remembered} transitions remembered are not in the bag"
        return ""


def _difference(found: Adaptation, attempt: Attempt, recording: Recording) -> str:
    """What is not as the robot's adapter said, to the bit."""
    if not np.array_equal(found.loss, attempt.loss):
        return "the loss"
    ours = np.array([found.evidence.live_before, found.evidence.live_after], np.float32)
    theirs = np.array([attempt.live_before, attempt.live_after], np.float32)
    if not np.array_equal(ours, theirs, equal_nan=True):
        return "the errors on held-out data"
    if found.verdict.word != attempt.verdict and attempt.verdict != "cancelled":
        return "the verdict"
    published = recording.offers
    if attempt.accepted and published and parameters.sha256(found.parameters) not in published:
        return "the parameters"
    return ""
