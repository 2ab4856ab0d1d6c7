"""Lanes that adapt while they act, with the gate and the probation of the robot.

Simulation's side of `reptile_agent.onboard`: many robots in step, in torch, judged by the very
same `reptile_agent.gate` and `reptile_agent.probation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.func import vmap

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence, judge
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks
from reptile_agent.meta.learner import Params, RobotLearner, TensorBatch, stack
from reptile_agent.meta.plan_gate import PlanGate
from reptile_agent.probation import Probation, ProbationConfig
from reptile_agent.replay import Replay, with_rehearsal
from reptile_agent.transition import Batch

GATE_SHARE = 0.25
"""Of the rehearsal: what the gate judges on is never learned from."""


@dataclass(frozen=True)
class OnlineAdaptation:
    """How the lanes adapt while they act."""

    config: AdaptationConfig
    optimizer: InnerOptimizer
    lr: Params
    """Inner step size of each parameter."""
    rehearsal: Batch
    """Segments from simulation to mix in, [n, ...]."""
    gated: bool = False
    """Whether the gate and probation decide what drives, as they do on board."""
    probation: ProbationConfig = ProbationConfig()
    """How new parameters are watched, where the gate is on."""


def minibatches(
    learner: RobotLearner,
    replay: Replay,
    config: AdaptationConfig,
    pool: Batch,
    rng: np.random.Generator,
    end_age: np.ndarray | int = 0,
    lanes: np.ndarray | None = None,
    tau: float | None = None,
    first_step: int | None = 0,
) -> TensorBatch:
    """Minibatches `[lanes, k, batch + rehearsal, ...]`: live segments, then rehearsed ones.

    The recency is `tau`, or the configuration's where that is None; `first_step` is the number of
    inner steps before these, None where they are queries that judge.

    Raises:
        LookupError: a lane has no whole segment in its window.
    """
    live = replay.sample(
        rng,
        config.inner_steps,
        config.batch,
        segment=learner.segment,
        window=config.window,
        tau=tau or config.tau,
        holdout=config.holdout,
        end_age=end_age,
        lanes=lanes,
        fields=learner.experience.fields,
        past_end=learner.experience.past_end,
    )
    mixed = with_rehearsal(live, pool, rng, config.rehearsal, config.rehearsal_weight)
    return to_tensors(learner.inputs(mixed, rng, first_step))


def to_tensors(batch: Batch) -> TensorBatch:
    """The same memory as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}


class AdaptingLanes:
    """Parameters of robots that adapt side by side.

    Args:
        learner: that adapts.
        start: where every lane begins.
        lanes: robots.
        adaptation: how.
        rng: of the minibatches.
        plans: what the gate asks about plans; None: nothing.
    """

    def __init__(
        self,
        learner: RobotLearner,
        start: Params,
        lanes: int,
        adaptation: OnlineAdaptation,
        rng: np.random.Generator,
        plans: PlanGate | None = None,
    ) -> None:
        self._plans = plans
        self._learner, self._start, self._adaptation = learner, start, adaptation
        self._rng = rng
        self._rewarded = "reward" in learner.experience.fields
        self.live = {name: value.clone() for name, value in stack(start, lanes).items()}
        """What drives each lane, `[lanes, ...]`."""
        self.accepted = np.zeros(lanes, int)
        self.refused = np.zeros(lanes, int)
        self.rolled_back = np.zeros(lanes, int)
        rows = next(iter(adaptation.rehearsal.values())).shape[0]
        cut = int(rows * GATE_SHARE) if adaptation.gated else 0
        self._pool = {name: value[cut:] for name, value in adaptation.rehearsal.items()}
        if adaptation.gated:
            self._good = {name: value.clone() for name, value in self.live.items()}
            self._offered = {name: value.clone() for name, value in self.live.items()}
            self._waiting = np.zeros(lanes, bool)
            self._probations = [Probation(adaptation.probation) for _ in range(lanes)]
            judged = {name: value[:cut] for name, value in adaptation.rehearsal.items()}
            self._gate_rehearsal = to_tensors(learner.inputs(_one_step(judged), rng))
            self._rehearsal_start = float(
                learner.prediction_error(start, _row(self._gate_rehearsal)).mean()
            )

    @property
    def period(self) -> int:
        """Control periods from one adaptation to the next."""
        return self._adaptation.config.period

    def adapt(self, replay: Replay) -> None:
        """K inner steps of every lane on its own last transitions, if all have enough of them."""
        config, learner = self._adaptation.config, self._learner
        if len(replay) < config.holdout + learner.segment + config.batch:
            return
        lanes = replay.lanes
        try:
            batches = [
                minibatches(learner, replay, config, self._pool, self._rng, tau=tau)
                for tau in config.taus
            ]
            asked = self._adaptation.gated or len(batches) > 1
            judged = self._judged(replay) if asked else {}
        except LookupError:  # a lane that fell again and again has no whole segment
            return
        origin = stack(self._start, lanes) if config.start == "start" else self.live
        adapted = self._best([self._stepped(origin, each) for each in batches], judged)
        if self._adaptation.gated:
            self._ask_gate(adapted, judged)
            self._swap()
        else:
            self.live = adapted
            self.accepted += 1

    def tick(self, error: np.ndarray, reward: np.ndarray, started: np.ndarray) -> None:
        """One control period has passed.

        Args:
            error: tracking error of each lane in it, [lanes].
            reward: of each lane, [lanes]; watched where it is learned from, as on board.
            started: lanes that start anew now, bool [lanes].
        """
        if not self._adaptation.gated:
            return
        watched = reward.tolist() if self._rewarded else [None] * len(reward)
        for lane, probation in enumerate(self._probations):
            if started[lane] and probation.outcome == "watching":
                # It fell with the new parameters.
                probation.fail()
                self._roll_back(lane)
            elif probation.tick(float(error[lane]), watched[lane]):
                self._roll_back(lane)
        self._swap()

    def _stepped(self, origin: Params, batches: TensorBatch) -> Params:
        """K inner steps of every lane."""
        how = self._adaptation
        with torch.enable_grad():
            found, _ = adapt_tasks(
                self._learner, how.optimizer, origin, batches, how.lr, stacked=True
            )
        radius = how.config.projection_radius
        return found if radius is None else self._pulled_back(found, radius)

    def _pulled_back(self, params: Params, radius: float) -> Params:
        """As `trust_region.pulled_back`, lane by lane: what lies within, or overflows, stays."""
        share = radius / self._distance(params)
        found = {}
        for name, start in self._start.items():
            of_lane = share.view(-1, *[1] * start.ndim)
            near = start + (params[name] - start) * of_lane
            found[name] = torch.where((of_lane > 0) & (of_lane < 1), near, params[name])
        return found

    def _distance(self, params: Params) -> torch.Tensor:
        """Euclidean distance of each lane's parameters from the start, [lanes]."""
        away = [(params[n] - start).square().flatten(1).sum(1) for n, start in self._start.items()]
        return torch.stack(away).sum(0).sqrt()

    def _best(self, found: list[Params], judged: TensorBatch) -> Params:
        """Of each lane the parameters that predict the held-out transitions best."""
        if len(found) == 1:
            return found[0]
        error = vmap(self._learner.prediction_error)
        errors = torch.stack([error(params, judged).mean(1) for params in found])
        # What is not a number is never the best.
        best = errors.nan_to_num(nan=torch.inf).argmin(0)
        lanes = torch.arange(best.shape[0])
        return {
            name: torch.stack([params[name] for params in found])[best, lanes] for name in found[0]
        }

    def _ask_gate(self, adapted: Params, judged: TensorBatch) -> None:
        error = vmap(self._learner.prediction_error)
        before = error(self.live, judged).mean(1)
        after = error(adapted, judged).mean(1)
        remembered = vmap(self._learner.prediction_error, in_dims=(0, None))(
            adapted, _row(self._gate_rehearsal)
        ).mean(1)
        distance = self._distance(adapted)
        gain = None
        if self._plans is not None:
            start = vmap(self._learner.prediction_error, in_dims=(None, 0))(self._start, judged)
            errors = torch.stack([start.mean(1), before, after])
            gain = self._plans.gain(self.live, adapted, errors.numpy())
        for lane in range(before.shape[0]):
            verdict = judge(
                Evidence(
                    live_before=float(before[lane]),
                    live_after=float(after[lane]),
                    rehearsal_start=self._rehearsal_start,
                    rehearsal_after=float(remembered[lane]),
                    distance=float(distance[lane]),
                    plan_gain=None if gain is None else float(gain[lane]),
                ),
                self._adaptation.config,
            )
            if verdict.accepted:
                _copy(adapted, self._offered, lane)
                self._waiting[lane] = True
            self.accepted[lane] += verdict.accepted
            self.refused[lane] += not verdict.accepted

    def _judged(self, replay: Replay) -> TensorBatch:
        """Segments of the newest transitions, which no minibatch holds, [lanes, rows, ...]."""
        held, segment = self._adaptation.config.holdout, self._learner.segment
        starts = max(held - segment + 1, 1)
        found = replay.sample(
            self._rng,
            1,
            2 * starts,
            segment=segment,
            window=starts,
            fields=self._learner.experience.fields,
            past_end=self._learner.experience.past_end,
        )
        return _first_step(to_tensors(self._learner.inputs(found, self._rng)))

    def _swap(self) -> None:
        """Lanes in which nothing is watched take what is offered."""
        for lane in np.flatnonzero(self._waiting).tolist():
            probation = self._probations[lane]
            if not probation.open:
                continue
            if probation.outcome == "passed":
                _copy(self.live, self._good, lane)
            _copy(self._offered, self.live, lane)
            self._waiting[lane] = False
            probation.begin()

    def _roll_back(self, lane: int) -> None:
        _copy(self._good, self.live, lane)
        self._waiting[lane] = False
        self.rolled_back[lane] += 1


def _copy(source: Params, target: Params, lane: int) -> None:
    for name, value in source.items():
        target[name][lane] = value[lane]


def _one_step(batch: Batch) -> Batch:
    """[rows, ...] -> [1 step, rows, ...]."""
    return {name: value[None] for name, value in batch.items()}


def _row(batch: TensorBatch) -> TensorBatch:
    """[1 step, rows, ...] -> [rows, ...]."""
    return {name: value[0] for name, value in batch.items()}


def _first_step(batch: TensorBatch) -> TensorBatch:
    """[lanes, 1 step, rows, ...] -> [lanes, rows, ...]."""
    return {name: value[:, 0] for name, value in batch.items()}
