"""Plans that the simulator carries out on the side: experience of what robots do not do.

A planner asks its model about noisy plans, nearly all of which no robot ever carries out, and takes
the one that the model thinks best: the one it is most wrong about. Offline the simulator can say
what they come to. One segment of each is remembered, from a random place in the plan.
"""

from __future__ import annotations

import numpy as np
import torch

from reptile_agent.meta.learner import TensorBatch
from reptile_agent.meta.planner import PlannerConfig
from reptile_agent.spec import RobotSpec, commanded, limits
from reptile_agent.task import ForesightSim, VecSim
from reptile_agent.transition import Batch


def foreseeing(sim: VecSim) -> ForesightSim:
    """The simulator, if it can try plans.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(sim, ForesightSim):
        raise ValueError(
            f"{type(sim).__name__} cannot try plans (it has no `foresee` and `follow`); "
            f"train without them: --guided-rounds 0 --tried-plans 0"
        )
    return sim


class TriedPlans:
    """Varies what is planned, and remembers where that leads.

    Args:
        sim: whose lanes are driven.
        robot: what is driven.
        config: how the planner varies its plans.
        plans: tried per lane and control period.
        segment: consecutive transitions that are remembered of each, at most `config.horizon`.
        rng: of the plans' noise and of the places that segments are taken from.

    Raises:
        ValueError: the simulator cannot try plans.
    """

    def __init__(
        self,
        sim: VecSim,
        robot: RobotSpec,
        config: PlannerConfig,
        plans: int,
        segment: int,
        rng: np.random.Generator,
    ) -> None:
        self._sim, self._plans, self._segment, self._rng = foreseeing(sim), plans, segment, rng
        self._config = config
        self._low, self._high = limits(robot.actions)
        self._columns = robot.action_reference_columns()
        self._seen: list[Batch] = []

    def see(self, plan: np.ndarray, reference: np.ndarray) -> None:
        """Try variations of what the lanes are about to do.

        Args:
            plan: as `Planner` keeps it, relative to the reference, [lanes, horizon, act_dim].
            reference: what is followed, [lanes, horizon, ref_dim].
        """
        planned = commanded(reference, self._columns) + plan
        begin = int(self._rng.integers(self._config.horizon - self._segment + 1))
        end = begin + self._segment
        varied = self._config.variations(self._rng, len(plan), self._plans)
        actions = np.clip(planned[:, None] + varied, self._low, self._high).astype(np.float32)
        obs, lasts = self._sim.follow(actions[:, :, :end])
        self._seen.append(
            {
                "obs": obs[:, :, begin],
                "action": actions[:, :, begin:end],
                "next_obs": obs[:, :, begin + 1 :],
                "weight": lasts[:, :, end - 1].astype(np.float32),
            }
        )

    def segments(self) -> Batch:
        """All that is remembered since the first period, [lanes, n, ...].

        Those in which an episode ends weigh nothing.
        """
        return {
            name: np.concatenate([row[name] for row in self._seen], axis=1)
            for name in self._seen[0]
        }


def joined(one: Batch | None, two: Batch | None) -> Batch | None:
    """Segments of both, [lanes, n, ...]."""
    if one is None or two is None:
        return two if one is None else one
    return {name: np.concatenate([value, two[name]], axis=1) for name, value in one.items()}


def drawn(
    segments: Batch,
    rng: np.random.Generator,
    steps: int,
    batch: int,
    lanes: np.ndarray | None = None,
) -> Batch:
    """Some of them, `[lanes, steps, batch, ...]` as `Replay.sample` gives them.

    Args:
        segments: [lanes, n, ...].
        rng: source of the draw.
        steps: minibatches per lane.
        batch: segments in each.
        lanes: which lanes; None: all.
    """
    every, held = segments["weight"].shape
    which = np.arange(every) if lanes is None else lanes
    at = rng.integers(held, size=(which.size, steps, batch))
    return {name: value[which[:, None, None], at] for name, value in segments.items()}


def asked_about_tried(
    query: TensorBatch, tried: Batch | None, lanes: np.ndarray, rng: np.random.Generator
) -> TensorBatch:
    """Query minibatches of plans that were tried on the same tasks, where there are any.

    Args:
        query: minibatches of what robots did, [lanes, steps, batch, ...].
        tried: segments of the simulated tasks, [tasks, n, ...]; None: there are none.
        lanes: which lane of the replay each is; those after the simulated ones are recorded robots,
            who keep what they have.
        rng: of the draw.
    """
    if tried is None:
        return query
    simulated = np.flatnonzero(lanes < len(tried["weight"]))
    steps, batch = query["weight"].shape[1:3]
    found = drawn(tried, rng, steps, batch, lanes[simulated])
    asked = {name: value.clone() for name, value in query.items()}
    for name, value in asked.items():
        value[torch.from_numpy(simulated)] = torch.from_numpy(found[name])
    return asked


def all_rows(parts: list[Batch]) -> Batch:
    """Segments `[lanes, 1, n, ...]` of several kinds, as one minibatch `[1, 1, rows, ...]`."""
    return {
        name: np.concatenate([p[name].reshape(-1, *p[name].shape[3:]) for p in parts])[None, None]
        for name in parts[0]
    }
