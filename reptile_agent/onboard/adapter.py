"""Adapts: remembers the last transitions, takes k steps of `adapt.onnx`, asks the gate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence, Verdict, judge
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle, step_sizes
from reptile_agent.replay import Replay, with_rehearsal
from reptile_agent.transition import Batch, Transition

CHUNK_STEPS = 5
"""Inner steps in one run of the graph; the time budget is checked in between."""


@dataclass(frozen=True)
class Adaptation:
    """One adaptation: what came out, and what the gate says of it."""

    parameters: np.ndarray
    """Adapted, flat float32."""
    loss: np.ndarray
    """Inner loss before each step taken, [steps]."""
    grad_norm: np.ndarray
    """Gradient norm of each step taken, [steps]."""
    evidence: Evidence
    verdict: Verdict
    duration_ms: float


class Adapter:
    """The robot's inner loop.

    Args:
        bundle: verified.
        config: how to adapt; default: the bundle's.
        budget_s: an adaptation stops stepping when this is spent; None for no limit.
        seed: of the minibatches.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: AdaptationConfig | None = None,
        budget_s: float | None = None,
        seed: int = 0,
    ) -> None:
        self.bundle, self.budget_s = bundle, budget_s
        self.config = config or bundle.manifest.adaptation
        robot = bundle.manifest.robot
        capacity = self.config.window + self.config.holdout + bundle.manifest.segment
        self.replay = Replay(capacity, len(robot.observations), len(robot.actions))
        self.in_use = bundle.start.copy()
        """Parameters that drive the robot: what was accepted last, until its owner knows better."""
        self._rng = np.random.default_rng(seed)
        self._steps = InnerSteps(bundle, self.config)
        self._errors = _Errors(bundle)
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
        self.replay.push(transition)

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
        """
        began = time.monotonic()
        steps = self.config.inner_steps if steps is None else steps
        start = start or self.config.start
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if start not in ("start", "last"):
            raise ValueError(f"start must be 'start' or 'last', got '{start}'")
        segment = self.bundle.manifest.segment
        live = self.replay.sample(
            self._rng,
            steps,
            self.config.batch,
            segment=segment,
            window=window or self.config.window,
            tau=self.config.tau,
            holdout=self.config.holdout,
        )
        config = self.config
        mixed = with_rehearsal(
            live, self._pool, self._rng, config.rehearsal, config.rehearsal_weight
        )
        batches = {name: value[0] for name, value in mixed.items()}
        origin = self.bundle.start if start == "start" else self.in_use
        deadline = None if self.budget_s is None else began + self.budget_s
        adapted, loss, grad_norm = self._steps(
            origin, batches, self.config.inner_lr, deadline, tell
        )

        judged = self.replay.latest(max(self.config.holdout, segment), segment)
        evidence = Evidence(
            live_before=self._errors(self.in_use, judged),
            live_after=self._errors(adapted, judged),
            rehearsal_start=self._rehearsal_start,
            rehearsal_after=self._errors(adapted, self._gate_rehearsal),
            distance=float(np.linalg.norm(adapted - self.bundle.start)),
        )
        verdict = judge(evidence, self.config)
        if verdict.accepted:
            self.in_use = adapted
        duration_ms = 1e3 * (time.monotonic() - began)
        return Adaptation(adapted, loss, grad_norm, evidence, verdict, duration_ms)


class InnerSteps:
    """Runs `adapt.onnx` in chunks; parameters and moments alternate between two buffers."""

    def __init__(self, bundle: Bundle, config: AdaptationConfig) -> None:
        manifest = bundle.manifest
        self._session = bundle.session("adapt.onnx")
        self._entries = manifest.parameters
        self._manifest = manifest
        sizes = (
            sum(e.size for e in manifest.parameters),
            sum(e.size for e in manifest.optimizer_state),
        )
        self._flat = [np.zeros(sizes[0], np.float32) for _ in range(2)]
        self._moments = [np.zeros(sizes[1], np.float32) for _ in range(2)]
        robot, segment = manifest.robot, manifest.segment
        rows, obs, act = (
            config.batch + config.rehearsal,
            len(robot.observations),
            len(robot.actions),
        )
        self._batch = {
            "obs": np.zeros((CHUNK_STEPS, rows, obs), np.float32),
            "action": np.zeros((CHUNK_STEPS, rows, segment, act), np.float32),
            "next_obs": np.zeros((CHUNK_STEPS, rows, segment, obs), np.float32),
            "weight": np.zeros((CHUNK_STEPS, rows), np.float32),
        }
        self._info = {name: np.zeros(CHUNK_STEPS, np.float32) for name in ("loss", "grad_norm")}
        self._lr = step_sizes(manifest, 0.0)
        self._bindings: dict[tuple[int, int], tuple[ort.IOBinding, list[ort.OrtValue]]] = {}

    def __call__(
        self,
        origin: np.ndarray,
        batches: dict[str, np.ndarray],
        lr: float,
        deadline: float | None,
        tell: Callable[[int, float], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Adapted parameters, and loss and gradient norm of each step taken."""
        for name, value in step_sizes(self._manifest, lr).items():
            self._lr[name][...] = value
        self._flat[0][:] = origin
        self._moments[0][:] = 0.0
        side, losses, norms = 0, [], []
        total = batches["obs"].shape[0]
        for at in range(0, total, CHUNK_STEPS):
            if deadline is not None and at > 0 and time.monotonic() >= deadline:
                break
            count = min(CHUNK_STEPS, total - at)
            for name, buffer in self._batch.items():
                buffer[:count] = batches[name][at : at + count]
            self._session.run_with_iobinding(self._binding(side, count))
            side = 1 - side
            losses.append(self._info["loss"][:count].copy())
            norms.append(self._info["grad_norm"][:count].copy())
            for step, loss in enumerate(losses[-1] if tell else ()):
                tell(at + step, float(loss))  # type: ignore[misc]
        return self._flat[side].copy(), np.concatenate(losses), np.concatenate(norms)

    def _binding(self, side: int, count: int) -> ort.IOBinding:
        """The binding that reads buffers `side`, writes the other ones, and takes `count` steps."""
        if (side, count) not in self._bindings:
            binding, keep = self._session.io_binding(), []
            state = self._manifest.optimizer_state
            inputs = {f"lr.{name}": value for name, value in self._lr.items()}
            inputs |= {name: buffer[:count] for name, buffer in self._batch.items()}
            outputs = {name: buffer[:count] for name, buffer in self._info.items()}
            for flat, entries, prefix in (
                (self._flat, self._entries, "p."),
                (self._moments, state, "s."),
            ):
                old = parameters.views(flat[side], entries)
                new = parameters.views(flat[1 - side], entries)
                inputs |= {prefix + name: value for name, value in old.items()}
                outputs |= {"new." + prefix + name: value for name, value in new.items()}
            for name, array in inputs.items():
                keep.append(ort.OrtValue.ortvalue_from_numpy(array))
                binding.bind_ortvalue_input(name, keep[-1])
            for name, array in outputs.items():
                keep.append(ort.OrtValue.ortvalue_from_numpy(array))
                binding.bind_ortvalue_output(name, keep[-1])
            self._bindings[side, count] = (binding, keep)
        return self._bindings[side, count][0]


class _Errors:
    """Mean prediction error by `evaluate.onnx`."""

    def __init__(self, bundle: Bundle) -> None:
        self._session = bundle.session("evaluate.onnx")
        self._entries = bundle.manifest.parameters

    def __call__(self, flat: np.ndarray, batch: Batch) -> float:
        feed = {f"p.{n}": v for n, v in parameters.views(flat, self._entries).items()}
        feed |= {name: batch[name] for name in ("obs", "action", "next_obs")}
        (error,) = self._session.run(["error"], feed)
        return float(np.asarray(error).mean())
