"""Parameters that look good and are bad: what only the plan gate, or only the robot, finds out."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from reptile_agent.gate import Evidence, Verdict, judge
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.controller import Controller, Tick
from reptile_agent.onboard.memory import Memory
from reptile_agent.onboard.plan_gate import PlanGate
from reptile_agent.transition import Transition
from sim import registry

READS_TOO_FAR_RAD = 0.1
STEPS, STEP_SIZE = 60, 0.03
JUDGED = 20
"""Control periods that a model's error is measured on."""


class Driven:
    """The bundle's own family, simulated, under the bundle's controller."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self.controller = Controller(bundle, seed=seed)
        self._sim = registry.get(bundle.manifest.provenance.family).make_sim([{}])
        self._obs = self._sim.reset(seed=seed)
        self._period_s = bundle.manifest.robot.control_period_s
        self._horizon = bundle.manifest.plan.horizon
        self._now_s = 1.0
        self.wall_s = 0.0
        """What the controller took for the last tick."""
        self.transitions: list[Transition] = []
        """All that is fit to learn from."""

    def tick(self) -> Tick:
        """One control period."""
        reference = self._sim.reference(self._horizon)[0]
        began = time.perf_counter()
        found = self.controller.tick(self._now_s, self._obs[0], self._now_s, reference)
        self.wall_s = time.perf_counter() - began
        assert found.command is not None
        self._obs, *_ = self._sim.step(found.command[None])
        self._now_s += self._period_s
        if found.transition is not None:
            self.transitions.append(found.transition)
        return found


def better_on_paper(bundle: Bundle, log: list[Transition], seed: int) -> Adaptation:
    """Learned from a log whose encoders read too far after every command.

    Raises:
        RuntimeError: they lie outside the trust region, or predict that log no better.
    """
    loose = {"rehearsal_margin": 1e6, "plans": 0, "inner_lr": STEP_SIZE}
    config = bundle.manifest.adaptation.model_copy(update=loose)
    adapter, position = Adapter(bundle, config, seed=seed), bundle.manifest.robot.servo_columns()
    for transition in log:
        after = transition.next_obs.copy()
        after[:, position] += READS_TOO_FAR_RAD
        adapter.remember(dataclasses.replace(transition, next_obs=after))
    found = adapter.adapt(STEPS)
    if not found.verdict.accepted:
        raise RuntimeError(f"what was planted is not accepted: {found.verdict.reason}")
    return found


def errors(planted: Adaptation) -> tuple[float, float]:
    """Of the start and of what was planted, on the held-out part of its log."""
    return planted.evidence.live_before, planted.evidence.live_after


def turned(bundle: Bundle, actuator: int) -> np.ndarray:
    """The start, with the sign of an actuator turned in the model: flat parameters."""
    flat, robot = bundle.start.copy(), bundle.manifest.robot
    first = parameters.views(flat, bundle.manifest.parameters)["w0"]
    first[:, len(robot.observations) + actuator] *= -1.0
    return flat


@dataclass(frozen=True)
class Turned:
    """What the gate says of a model with the sign of one actuator turned."""

    measured: Verdict
    """By its error as it is."""
    plans_alone: Verdict
    """Were its error on paper half of the start's: what is left then is the plan gate."""


def judge_turned(
    bundle: Bundle, log: list[Transition], actuator: int, plans: int, seed: int
) -> Turned:
    """Ask the gate; its trust region, which no turned sign lies in, is set aside.

    Args:
        bundle: verified.
        log: what the robot did, references included.
        actuator: whose sign is turned in the model.
        plans: control periods, the newest, that the plan gate plans along.
        seed: of the planner's noise.
    """
    gate, new = PlanGate(bundle, plans, seed), turned(bundle, actuator)
    for transition in log[-plans:]:
        gate.see(transition)
    before, after = (_error(bundle, flat, log) for flat in (bundle.start, new))
    gain = gate.gain(bundle.start, new, np.array([before, before, after]), gate.seen)
    measured = Evidence(
        live_before=before,
        live_after=after,
        rehearsal_start=1.0,
        rehearsal_after=1.0,
        distance=0.0,
        plan_gain=gain,
    )
    halved = dataclasses.replace(measured, live_after=before / 2)
    config = bundle.manifest.adaptation
    return Turned(judge(measured, config), judge(halved, config))


def _error(bundle: Bundle, flat: np.ndarray, log: list[Transition]) -> float:
    """Mean prediction error on the newest part of a log."""
    memory = Memory(bundle.manifest.robot, JUDGED)
    for transition in log[-JUDGED:]:
        memory.push(transition)
    feed = {f"p.{n}": v for n, v in parameters.views(flat, bundle.manifest.parameters).items()}
    batch = memory.latest(JUDGED // 2, bundle.manifest.segment)
    feed |= {name: batch[name] for name in ("obs", "action", "next_obs")}
    (error,) = bundle.session("evaluate.onnx").run(["error"], feed)
    return float(np.asarray(error).mean())
