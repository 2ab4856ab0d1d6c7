"""Adapts: remembers the last transitions, takes k steps of `adapt.onnx`, asks the gate."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence, Verdict, judge
from reptile_agent.onboard.adapted import Adaptation, Asked
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import InnerSteps, Stepped, Stop
from reptile_agent.onboard.judging import HeldOut, Judging
from reptile_agent.onboard.manifest import REWARD
from reptile_agent.onboard.memory import Memory
from reptile_agent.onboard.saved import load_parameters, save_parameters
from reptile_agent.replay import with_rehearsal
from reptile_agent.transition import Batch, Transition
from reptile_agent.trust_region import pulled_back

REFUSED_STOPS: dict[Stop, str] = {
    "not_finite": "loss or gradient norm of step {step} is not finite; inner_lr may be too large",
    "diverged": "at step {step} the gradient norm is {norm:.3g} (max_grad_norm {max_norm}), or the "
    "loss has risen {patience} times in a row (patience)",
    "cancelled": "it was cancelled after {step} steps",
}
"""Ways of stopping after which the gate is not even asked, and what is said then."""


class Adapter:
    """The robot's inner loop.

    One thread may `learn`; meanwhile another may call everything that neither learns nor asks the
    gate: `remember`, `forget`, `take`, `cancel`, `freeze`, `reset`, `save`, and set `in_use`.

    Args:
        bundle: verified.
        config: how to adapt; default: the bundle's.
        budget_s: an adaptation stops stepping when this is spent; None for no limit.
        seed: of the minibatches.
        spool: folder that what is remembered is kept in, across restarts; None: nowhere.

    Raises:
        SpoolError: the folder belongs to another robot, or another process uses it.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: AdaptationConfig | None = None,
        budget_s: float | None = None,
        seed: int = 0,
        spool: Path | None = None,
    ) -> None:
        self.bundle, self.budget_s = bundle, budget_s
        self.config = config or bundle.manifest.adaptation
        manifest = bundle.manifest
        capacity = self.config.window + self.config.holdout + manifest.segment
        reward = manifest.files[REWARD].sha256 if REWARD in manifest.graphs else ""
        self.replay = Memory(manifest.robot, capacity, spool, manifest.experience, reward)
        self.start = bundle.start.copy()
        """Where adaptations begin: the bundle's start, or one that was consolidated."""
        self.in_use = bundle.start.copy()
        """Parameters that drive the robot: what was accepted last, until its owner knows better."""
        self.frozen = False
        self._before = self.in_use
        self._accepted: Adaptation | None = None
        self._lock = threading.Lock()
        self._remembering = threading.Lock()
        self._newest = 0
        self._cancelled = threading.Event()
        self._rng = np.random.default_rng(seed)
        with contextlib.ExitStack() as on_error:
            # Or the spool's lock would be held for as long as this process lives.
            on_error.callback(self.close)
            self._prepare(seed)
            on_error.pop_all()

    def _prepare(self, seed: int) -> None:
        """Sessions, and what the gate looks at."""
        bundle = self.bundle
        self._steps = InnerSteps(bundle, self.config)
        # What the gate judges on is never learned from.
        rows = self._rng.permutation(bundle.rehearsal["obs"].shape[0])
        cut = rows.size // 4
        judged = {n: v[rows[:cut]] for n, v in bundle.rehearsal.items()}
        self._pool = {n: v[rows[cut:]] for n, v in bundle.rehearsal.items()}
        self._judging = Judging(bundle, self.config, judged, seed)

    def succeed(self, before: Adapter) -> None:
        """Go on where an adapter with another bundle of the same robot stood; that one is closed.

        What it remembered comes along if this one can learn from it, spool and all; what it
        adapted does not. Neither may be learning.
        """
        self.replay.close()
        self.replay = before.replay.hand_over(self.replay)
        self.frozen = before.frozen
        self._newest = before._newest

    def remember(self, transition: Transition, number: int = 0) -> None:
        """Append one transition of the robot.

        Args:
            transition: what happened last.
            number: that names it to its owner (`Asked.newest`).

        Raises:
            ValueError: it does not fit the bundle's robot or is not finite.
        """
        self._judging.check(transition)
        with self._remembering:
            self.replay.push(transition)
            self._judging.see(transition)
            self._newest = number

    def forget(self) -> None:
        """Forget everything remembered, on the disk as well."""
        with self._remembering:
            self.replay.clear()
            self._judging.forget()

    @property
    def ready(self) -> bool:
        """Whether enough was seen for an adaptation."""
        config, segment = self.config, self.bundle.manifest.segment
        return len(self.replay) >= config.holdout + segment + min(config.batch, config.window // 2)

    def adapt(
        self,
        steps: int | None = None,
        start: str | None = None,
        window: int | None = None,
        tell: Callable[[int, float], None] | None = None,
    ) -> Adaptation:
        """`learn` and `take`, with the same arguments and errors."""
        return self.take(self.learn(steps, start, window, tell))

    def learn(
        self,
        steps: int | None = None,
        start: str | None = None,
        window: int | None = None,
        tell: Callable[[int, float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Adaptation:
        """Take `steps` inner steps (default: the configuration's) and ask the gate.

        Nothing is used of it before `take`.

        Args:
            steps: k.
            start: 'start' or 'last' (default: the configuration's).
            window: newest transitions to look at (default: the configuration's).
            tell: called with the number and loss of every step, as they are taken; of two
                recencies, the second goes on counting.
            cancelled: cancels it when set, even before it begins.

        Raises:
            LookupError: too few transitions yet.
            ValueError: no steps, or a start that there is not.
            RuntimeError: the adapter is frozen.
        """
        began = self._begin(cancelled)
        config = self.config
        steps = config.inner_steps if steps is None else steps
        start = start or config.start
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if start not in ("start", "last"):
            raise ValueError(f"start must be 'start' or 'last', got '{start}'")
        # What comes in meanwhile belongs to the next adaptation, for the gate as well.
        with self._remembering:
            asked = Asked(
                steps=steps,
                window=window or config.window,
                start=start,
                inner_lr=config.inner_lr,
                in_use=self.in_use,
                remembered=len(self.replay),
                newest=self._newest,
            )
            batches = {tau: self._minibatches(asked, tau) for tau in config.taus}
            held_out = self._judging.held_out(self.replay)
        deadline = None if self.budget_s is None else began + self.budget_s
        tau, best = self._stepped(asked, batches, held_out, deadline, tell)
        adapted, loss, grad_norm, stop = best
        if stop in REFUSED_STOPS:
            reason = REFUSED_STOPS[stop].format(
                step=loss.size,
                norm=grad_norm[-1] if grad_norm.size else 0.0,
                max_norm=config.max_grad_norm,
                patience=config.patience,
            )
            evidence = self._judging.distances(adapted)
            verdict = Verdict(False, stop, reason, evidence.figures)
        else:
            evidence = self._judging.evidence(asked.in_use, adapted, held_out)
            verdict = judge(evidence, config)
        took = _ms_since(began)
        return Adaptation(adapted, loss, grad_norm, evidence, verdict, took, stop, asked, tau)

    def take(self, found: Adaptation) -> Adaptation:
        """Use what the gate accepted, unless it was cancelled since."""
        with self._lock:
            if self._cancelled.is_set() and found.verdict.accepted:
                verdict = Verdict(
                    False,
                    "cancelled",
                    "it was cancelled before it was taken",
                    found.verdict.figures,
                )
                return dataclasses.replace(found, verdict=verdict, stop="cancelled")
            if found.verdict.accepted:
                self._before, self.in_use = self.in_use, found.parameters
                self._accepted = found
        return found

    def cancel(self) -> None:
        """End the adaptation that runs now after its present step; it is refused.

        Without one it does nothing.
        """
        with self._lock:
            self._cancelled.set()

    def freeze(self) -> None:
        """Cancel what runs, and refuse to adapt, restore or consolidate until `thaw`."""
        with self._lock:
            self.frozen = True
            self._cancelled.set()

    def thaw(self) -> None:
        """Adapt again."""
        self.frozen = False

    def rollback(self) -> None:
        """Put back what was in use before the last that was accepted."""
        self.cancel()
        self.in_use, self._accepted = self._before, None

    def reset(self) -> None:
        """Back to the bundle's own start; what was consolidated is dropped, the replay stays."""
        self.cancel()
        self.start = self.in_use = self._before = self.bundle.start.copy()
        self._accepted = None

    def save(self, path: Path, version: int = 0) -> None:
        """Keep what is in use in a file, for `restore`.

        Raises:
            OSError: the disk refuses; what was there stays.
        """
        last, in_use = self._accepted, self.in_use
        known = last is not None and last.parameters is in_use
        figures = last.verdict.figures if last is not None and known else {}
        save_parameters(path, self.bundle, in_use, "adapted", version, figures)

    def restore(self, path: Path) -> Adaptation:
        """Read parameters that `save` wrote and ask the gate, on what was seen since.

        What it accepts becomes `in_use`.

        Raises:
            SavedError: they are damaged, of another bundle, or outside the trust region.
            LookupError: too few transitions to judge them by.
            RuntimeError: the adapter is frozen.
            OSError: there is no such file.
        """
        began = self._begin()
        found = load_parameters(path, self.bundle, "adapted").parameters
        evidence = self._judging.evidence(self.in_use, found, self._judging.held_out(self.replay))
        return self.take(self._without_steps(found, evidence, began))

    def consolidate(self, epsilon: float) -> Adaptation:
        """One outer Reptile step on the robot: `start + epsilon * (in_use - start)`.

        Nichol et al. 2018 (arXiv 1803.02999), Algorithm 1, with this robot as the only task. The
        gate compares it with the start that it would replace; the trust region and rehearsal are
        the bundle's start's, so that many such steps cannot wander off. The bundle is not touched;
        parameters adapted from it still name the bundle's start_sha256.

        Args:
            epsilon: outer step size, in (0, 1].

        Raises:
            ValueError: epsilon is out of range.
            LookupError: nothing adapted is in use, or too few transitions to judge by.
            RuntimeError: the adapter is frozen.
        """
        began = self._begin()
        if not 0 < epsilon <= 1:
            raise ValueError(f"epsilon must be in (0, 1], got {epsilon}")
        in_use, start = self.in_use, self.start
        if np.array_equal(in_use, self.bundle.start):
            raise LookupError("the bundle's start is in use: adapt first, then consolidate")
        moved = start + np.float32(epsilon) * (in_use - start)
        evidence = self._judging.evidence(start, moved, self._judging.held_out(self.replay))
        found = self._without_steps(moved, evidence, began)
        if found.verdict.accepted:
            self.start = found.parameters
        return found

    def save_start(self, path: Path, version: int = 0) -> None:
        """Keep the start, as it was consolidated, in a file beside the bundle.

        Raises:
            OSError: the disk refuses; what was there stays.
        """
        save_parameters(path, self.bundle, self.start, "start", version)

    def restore_start(self, path: Path) -> None:
        """Begin adaptations at a start that `save_start` wrote.

        Raises:
            SavedError: it is damaged, of another bundle, or outside the trust region.
            OSError: there is no such file.
        """
        self.start = load_parameters(path, self.bundle, "start").parameters

    def close(self) -> None:
        """Let go of the spool's files."""
        self.replay.close()

    def _begin(self, cancelled: threading.Event | None = None) -> float:
        """When it began; cancellations of earlier ones are past."""
        with self._lock:
            if self.frozen:
                raise RuntimeError("the adapter is frozen; thaw it first")
            self._cancelled = cancelled or threading.Event()
        return time.monotonic()

    def _minibatches(self, asked: Asked, tau: float) -> Batch:
        """K minibatches [k, rows, ...] that favour what is at most about `tau` transitions old."""
        config = self.config
        live = self.replay.sample(
            self._rng,
            asked.steps,
            config.batch,
            segment=self.bundle.manifest.segment,
            window=asked.window,
            tau=tau,
            holdout=config.holdout,
        )
        mixed = with_rehearsal(
            live, self._pool, self._rng, config.rehearsal, config.rehearsal_weight
        )
        complete = self.bundle.manifest.experience.complete(mixed, self._rng)
        return {name: value[0] for name, value in complete.items()}

    def _stepped(
        self,
        asked: Asked,
        minibatches: Mapping[float, Batch],
        held_out: HeldOut,
        deadline: float | None,
        tell: Callable[[int, float], None] | None,
    ) -> tuple[float, Stepped]:
        """K steps on the minibatches of each recency; those that predict best what is held out.

        What was cancelled, or left no time for more, is the last that is tried.
        """
        origin = self.start if asked.start == "start" else asked.in_use
        found: list[tuple[float, Stepped]] = []
        taken = 0
        for tau, batches in minibatches.items():
            told = None if tell is None else lambda step, loss, at=taken: tell(at + step, loss)
            stepped = self._steps(origin, batches, asked.inner_lr, deadline, told, self._cancelled)
            if np.isfinite(flat := stepped.parameters).all():
                near = pulled_back(flat, self.bundle.start, self.config.projection_radius)
                stepped = stepped._replace(parameters=near)
            else:
                stepped = stepped._replace(stop="not_finite")
            found.append((tau, stepped))
            taken += stepped.loss.size
            if stepped.stop in ("cancelled", "deadline"):
                break
        sound = [each for each in found if each[1].stop not in REFUSED_STOPS]
        if found[-1][1].stop == "cancelled" or not sound:
            return found[-1]
        if len(sound) == 1:
            return sound[0]
        segments = held_out.segments
        return min(sound, key=lambda each: self._judging.error(each[1].parameters, segments))

    def _without_steps(self, flat: np.ndarray, evidence: Evidence, began: float) -> Adaptation:
        nothing = np.zeros(0, np.float32)
        verdict = judge(evidence, self.config)
        return Adaptation(flat, nothing, nothing, evidence, verdict, _ms_since(began))


def _ms_since(began: float) -> float:
    return 1e3 * (time.monotonic() - began)
