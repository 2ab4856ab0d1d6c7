"""Adapts: remembers the last transitions, takes k steps of `adapt.onnx`, asks the gate."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence, Verdict, judge
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import InnerSteps, Stop
from reptile_agent.onboard.manifest import REWARD
from reptile_agent.onboard.memory import Memory
from reptile_agent.onboard.plan_gate import PlanGate
from reptile_agent.onboard.saved import load_parameters, save_parameters
from reptile_agent.replay import with_rehearsal
from reptile_agent.transition import Batch, Transition

REFUSED_STOPS: dict[Stop, str] = {
    "not_finite": "loss or gradient norm of step {step} is not finite; inner_lr may be too large",
    "diverged": "at step {step} the gradient norm is {norm:.3g} (max_grad_norm {max_norm}), or the "
    "loss has risen {patience} times in a row (patience)",
    "cancelled": "it was cancelled after {step} steps",
}
"""Ways of stopping after which the gate is not even asked, and what is said then."""


@dataclass(frozen=True)
class Adaptation:
    """One adaptation: what came out, and what the gate says of it."""

    parameters: np.ndarray
    """Adapted, flat float32."""
    loss: np.ndarray
    """Inner loss before each step taken, [steps]; none where nothing was learned (a restore)."""
    grad_norm: np.ndarray
    """Gradient norm of each step taken, [steps]."""
    evidence: Evidence
    """Errors that were not measured, because the steps were stopped, are nan."""
    verdict: Verdict
    duration_ms: float
    stop: Stop = "done"
    """Why no further step was taken."""

    @property
    def steps(self) -> int:
        """Inner steps taken."""
        return self.loss.size


class Adapter:
    """The robot's inner loop.

    One thread adapts; meanwhile others may call `remember`, `cancel` and `freeze`.

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
        self._errors = _Errors(bundle)
        asked = self.config.plans if bundle.manifest.plans else 0
        self._plans = PlanGate(bundle, asked, seed) if asked else None
        # What the gate judges on is never learned from.
        rows = self._rng.permutation(bundle.rehearsal["obs"].shape[0])
        cut = rows.size // 4
        self._gate_rehearsal = {n: v[rows[:cut]] for n, v in bundle.rehearsal.items()}
        self._pool = {n: v[rows[cut:]] for n, v in bundle.rehearsal.items()}
        self._rehearsal_start = self._errors(bundle.start, self._gate_rehearsal)

    def remember(self, transition: Transition) -> None:
        """Append one transition of the robot.

        Raises:
            ValueError: it does not fit the bundle's robot or is not finite.
        """
        if self._plans is not None:
            self._plans.check(transition)
        self.replay.push(transition)
        if self._plans is not None:
            self._plans.see(transition)

    def forget(self) -> None:
        """Forget everything remembered, on the disk as well."""
        self.replay.clear()
        if self._plans is not None:
            self._plans.clear()

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
        """Take `steps` inner steps (default: the configuration's) and ask the gate.

        What the gate accepts becomes `in_use`.

        Args:
            steps: k.
            start: 'start' or 'last' (default: the configuration's).
            window: newest transitions to look at (default: the configuration's).
            tell: called with the number and loss of every step, as they are taken.

        Raises:
            LookupError: too few transitions yet.
            ValueError: no steps, or a start that there is not.
            RuntimeError: the adapter is frozen.
        """
        began = self._begin()
        config, segment = self.config, self.bundle.manifest.segment
        steps = config.inner_steps if steps is None else steps
        start = start or config.start
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if start not in ("start", "last"):
            raise ValueError(f"start must be 'start' or 'last', got '{start}'")
        live = self.replay.sample(
            self._rng,
            steps,
            config.batch,
            segment=segment,
            window=window or config.window,
            tau=config.tau,
            holdout=config.holdout,
        )
        mixed = with_rehearsal(
            live, self._pool, self._rng, config.rehearsal, config.rehearsal_weight
        )
        complete = self.bundle.manifest.experience.complete(mixed, self._rng)
        batches = {name: value[0] for name, value in complete.items()}
        origin = self.start if start == "start" else self.in_use
        deadline = None if self.budget_s is None else began + self.budget_s
        adapted, loss, grad_norm, stop = self._steps(
            origin, batches, config.inner_lr, deadline, tell, self._cancelled
        )
        if not np.isfinite(adapted).all():
            stop = "not_finite"
        if stop in REFUSED_STOPS:
            reason = REFUSED_STOPS[stop].format(
                step=loss.size,
                norm=grad_norm[-1] if grad_norm.size else 0.0,
                max_norm=config.max_grad_norm,
                patience=config.patience,
            )
            evidence = self._evidence(None, adapted)
            verdict = Verdict(False, stop, reason, evidence.figures)
        else:
            evidence = self._evidence(self.in_use, adapted)
            verdict = judge(evidence, config)
        return self._take(
            Adaptation(adapted, loss, grad_norm, evidence, verdict, _ms_since(began), stop)
        )

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
        return self._take(self._without_steps(found, self._evidence(self.in_use, found), began))

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
        found = self._without_steps(moved, self._evidence(start, moved), began)
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

    def _begin(self) -> float:
        """When it began; cancellations of earlier ones are past."""
        with self._lock:
            if self.frozen:
                raise RuntimeError("the adapter is frozen; thaw it first")
            self._cancelled.clear()
        return time.monotonic()

    def _evidence(self, before: np.ndarray | None, after: np.ndarray) -> Evidence:
        """What the gate judges on; `before` None: errors are not measured.

        Raises:
            LookupError: nothing is held out yet.
        """
        held_out = max(self.config.holdout, segment := self.bundle.manifest.segment)
        distance, layers = parameters.distances(after, self.bundle.start, self.bundle.manifest)
        live_before = live_after = rehearsal_after = float("nan")
        plan_gain = None
        if before is not None:
            judged = self.replay.latest(held_out, segment)
            live_before, live_after = self._errors(before, judged), self._errors(after, judged)
            rehearsal_after = self._errors(after, self._gate_rehearsal)
            if self._plans is not None:
                errors = (self._errors(self.bundle.start, judged), live_before, live_after)
                plan_gain = self._plans.gain(before, after, np.array(errors))
        return Evidence(
            live_before=live_before,
            live_after=live_after,
            rehearsal_start=self._rehearsal_start,
            rehearsal_after=rehearsal_after,
            distance=distance,
            layers=layers,
            plan_gain=plan_gain,
        )

    def _without_steps(self, flat: np.ndarray, evidence: Evidence, began: float) -> Adaptation:
        nothing = np.zeros(0, np.float32)
        verdict = judge(evidence, self.config)
        return Adaptation(flat, nothing, nothing, evidence, verdict, _ms_since(began))

    def _take(self, found: Adaptation) -> Adaptation:
        """Use what the gate accepted, unless it was cancelled while the gate looked."""
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


def _ms_since(began: float) -> float:
    return 1e3 * (time.monotonic() - began)


class _Errors:
    """Mean prediction error by `evaluate.onnx`."""

    def __init__(self, bundle: Bundle) -> None:
        self._session = bundle.session("evaluate.onnx")
        self._entries = bundle.manifest.parameters
        self._fields = bundle.manifest.experience.fields

    def __call__(self, flat: np.ndarray, batch: Batch) -> float:
        feed = {f"p.{n}": v for n, v in parameters.views(flat, self._entries).items()}
        feed |= {name: batch[name] for name in self._fields}
        (error,) = self._session.run(["error"], feed)
        return float(np.asarray(error).mean())
