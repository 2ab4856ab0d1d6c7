"""Rounds of experience: every lane's planner drives its own task, adapting online if asked to.

One function serves the gathering of training data and evaluation, so that what is trained on is
what is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import vmap

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.learner import Params, TensorBatch, stack
from reptile_agent.meta.planner import Planner
from reptile_agent.replay import Replay, with_rehearsal
from reptile_agent.spec import RobotSpec, limits
from reptile_agent.task import VecSim
from reptile_agent.transition import Batch, Transition


@dataclass(frozen=True)
class OnlineAdaptation:
    """How the lanes adapt while they act."""

    config: AdaptationConfig
    optimizer: InnerOptimizer
    lr_scale: dict[str, float]
    rehearsal: Batch
    """Segments from simulation to mix in, [n, ...]."""


@dataclass(frozen=True)
class Rollout:
    """What the lanes did: arrays [lanes, steps, ...]."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    """True where a lane had just started anew, bool [lanes, steps]."""
    tracking_error: np.ndarray
    """Mean absolute distance from the reference, in the references' units."""

    def transitions(self, replay: Replay) -> None:
        """Append everything to `replay`."""
        for t in range(self.obs.shape[1]):
            replay.push(
                Transition(
                    obs=self.obs[:, t],
                    action=self.action[:, t],
                    next_obs=self.next_obs[:, t],
                    reward=self.reward[:, t],
                    first=self.first[:, t],
                )
            )


def excite(
    sim: VecSim,
    robot: RobotSpec,
    sigma: tuple[float, ...],
    steps: int,
    scale: float,
    rng: np.random.Generator,
) -> Rollout:
    """Follow the reference with strong, slowly changing noise: the first round, without a model.

    Args:
        sim: already reset.
        robot: what is driven.
        sigma: usual variation of each action, in its unit.
        steps: control periods.
        scale: of the noise, in units of `sigma`.
        rng: of the noise.
    """
    columns = robot.action_reference_columns()
    noise = np.zeros((sim.num_envs, columns.size))

    def act(_: np.ndarray, reference: np.ndarray, __: np.ndarray) -> np.ndarray:
        nonlocal noise
        noise = 0.8 * noise + 0.6 * rng.standard_normal(noise.shape)
        base = np.where(columns >= 0, reference[:, 0, columns], 0.0)
        return base + scale * np.array(sigma) * noise

    return _roll(sim, robot, 1, steps, act, None)


@torch.no_grad()
def drive(
    sim: VecSim,
    planner: Planner,
    params: Params,
    steps: int,
    rng: np.random.Generator,
    *,
    adaptation: OnlineAdaptation | None = None,
    adapt_from: int = 0,
    explore: float = 0.0,
) -> Rollout:
    """Let the planner drive every lane from one start.

    Args:
        sim: already reset.
        planner: of the family.
        params: the start.
        steps: control periods.
        rng: of the planner's noise, the exploration and the minibatches.
        adaptation: how lanes adapt; None: they keep the start.
        adapt_from: control period of the first adaptation.
        explore: noise added to the actions, in units of the planner's.
    """
    lanes, robot = sim.num_envs, planner.learner.robot
    plan = torch.zeros(lanes, planner.config.horizon, len(robot.actions))
    sigma = np.array(planner.config.noise)
    live = stack(params, lanes)
    plan_all = vmap(planner, in_dims=(None, 0, 0, 0, 0))
    plan_each = vmap(planner, in_dims=(0, 0, 0, 0, 0))
    replay = Replay(steps, len(robot.observations), len(robot.actions), lanes)
    adapted = False

    def act(obs: np.ndarray, reference: np.ndarray, first: np.ndarray) -> np.ndarray:
        nonlocal plan, live, adapted
        plan[torch.from_numpy(first)] = 0.0
        seen = len(replay)
        if adaptation and seen >= max(adapt_from, 1) and seen % adaptation.config.period == 0:
            fresh = adapt_lanes(planner, params, live, replay, adaptation, rng)
            if fresh is not None:
                live, adapted = fresh, True
        noise = rng.standard_normal((lanes, *planner.noise_shape), dtype=np.float32)
        arrays = (torch.from_numpy(obs), torch.from_numpy(reference), plan, torch.from_numpy(noise))
        call = plan_each if adapted else plan_all
        action, plan, _ = call(live if adapted else params, *arrays)
        return action.numpy() + explore * sigma * rng.standard_normal(action.shape)

    live_replay = replay if adaptation is not None else None
    return _roll(sim, robot, planner.config.horizon, steps, act, live_replay)


def adapt_lanes(
    planner: Planner,
    start: Params,
    live: Params,
    replay: Replay,
    adaptation: OnlineAdaptation,
    rng: np.random.Generator,
) -> Params | None:
    """K inner steps of every lane on its own last transitions; None while one has too few."""
    config = adaptation.config
    segment = planner.learner.config.segment
    if len(replay) < config.holdout + segment + config.batch:
        return None
    try:
        batches = mixed_batches(replay, adaptation, segment, rng)
    except LookupError:  # a lane that fell again and again has no whole segment in its window
        return None
    origin = stack(start, replay.lanes) if config.start == "start" else live
    lr = step_sizes(start, config.inner_lr, adaptation.lr_scale)
    with torch.enable_grad():
        adapted, _ = adapt_tasks(
            planner.learner, adaptation.optimizer, origin, batches, lr, stacked=True
        )
    return adapted


def mixed_batches(
    replay: Replay,
    adaptation: OnlineAdaptation,
    segment: int,
    rng: np.random.Generator,
    end_age: np.ndarray | int = 0,
    lanes: np.ndarray | None = None,
) -> TensorBatch:
    """Minibatches `[lanes, k, batch + rehearsal, ...]`: live segments, then rehearsed ones."""
    config = adaptation.config
    live = replay.sample(
        rng,
        config.inner_steps,
        config.batch,
        segment=segment,
        window=config.window,
        tau=config.tau,
        holdout=config.holdout,
        end_age=end_age,
        lanes=lanes,
    )
    pool, weight = adaptation.rehearsal, config.rehearsal_weight
    return to_tensors(with_rehearsal(live, pool, rng, config.rehearsal, weight))


def to_tensors(batch: Batch) -> TensorBatch:
    """The same memory as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}


def _roll(
    sim: VecSim,
    robot: RobotSpec,
    horizon: int,
    steps: int,
    act: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    live_replay: Replay | None,
) -> Rollout:
    """The loop that all rounds share; `act(obs, reference, first)` chooses the actions.

    A lane whose episode is over for good starts anew, the others go on.
    """
    low, high = limits(robot.actions)
    columns = robot.reference_columns
    obs, first = sim.obs, np.ones(sim.num_envs, bool)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in Rollout.__dataclass_fields__}
    for t in range(steps):
        reference = sim.reference(horizon)
        action = np.clip(act(obs, reference, first), low, high).astype(np.float32)
        next_obs, reward, terminated, _ = sim.step(action)
        error = np.abs(next_obs[:, columns] - reference[:, 0]).mean(axis=1)
        row = dict(zip(rows, (obs, action, next_obs, reward, first, error)))
        for name, value in row.items():
            rows[name].append(value)
        if live_replay is not None:
            live_replay.push(Transition(obs, action, next_obs, reward, first))
        first = terminated
        # The same start at the same period, so that methods stay comparable.
        obs = sim.reset(seed=t + 1, lanes=terminated) if terminated.any() else next_obs
    return Rollout(**{name: np.stack(values, axis=1) for name, values in rows.items()})
