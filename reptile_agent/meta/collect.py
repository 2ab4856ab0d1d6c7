"""Rounds of experience: every lane's planner drives its own task, adapting online if asked to.

One function serves the gathering of training data and evaluation, so that what is trained on is
what is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import vmap

from reptile_agent.meta.agent import Agent
from reptile_agent.meta.droppable import Tell, nobody
from reptile_agent.meta.learner import Params
from reptile_agent.meta.online import AdaptingLanes, OnlineAdaptation
from reptile_agent.meta.plan_gate import PlanGate
from reptile_agent.meta.tried_plans import TriedPlans
from reptile_agent.replay import Replay
from reptile_agent.spec import RobotSpec, commanded, limits
from reptile_agent.task import Task, VecSim
from reptile_agent.transition import Transition, with_reference


@dataclass(frozen=True)
class Rollout:
    """What the lanes did: arrays [lanes, steps, ...]."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    """True where a lane had just started anew, bool [lanes, steps]."""
    terminated: np.ndarray
    """True where an episode ended for good, bool [lanes, steps]."""
    reference: np.ndarray
    """What was to be followed when the action was chosen."""
    next_reference: np.ndarray
    """What was to be followed one period later."""
    tracking_error: np.ndarray
    """Mean absolute distance from the reference, in the references' units."""
    accepted: np.ndarray | None = None
    """Adaptations of each lane that came to drive or were offered; None: it did not adapt."""
    refused: np.ndarray | None = None
    """Adaptations of each lane that the gate refused."""
    rolled_back: np.ndarray | None = None
    """Parameters of each lane that probation took back."""

    def flat(self) -> dict[str, np.ndarray]:
        """What normalisers are measured on, [lanes * steps, ...]."""
        names = ("obs", "action", "next_obs", "reference", "reward")
        arrays = {name: getattr(self, name) for name in names}
        return {name: value.reshape(-1, *value.shape[2:]) for name, value in arrays.items()}

    def transitions(self, replay: Replay, sees_reference: bool = False) -> None:
        """Append everything to `replay`, as a learner sees it."""
        names = ("obs", "action", "next_obs", "reward", "first", "terminated")
        rows = {name: getattr(self, name) for name in (*names, "reference", "next_reference")}
        for t in range(self.obs.shape[1]):
            row = {name: value[:, t] for name, value in rows.items()}
            replay.push(_transition(row, sees_reference))


def excite(
    sim: VecSim,
    robot: RobotSpec,
    sigma: tuple[float, ...],
    steps: int,
    scale: float,
    rng: np.random.Generator,
    tell: Tell = nobody,
) -> Rollout:
    """Follow the reference with strong, slowly changing noise: the first round, without a model.

    Args:
        sim: already reset.
        robot: what is driven.
        sigma: usual variation of each action, in its unit.
        steps: control periods.
        scale: of the noise, in units of `sigma`.
        rng: of the noise.
        tell: called after every period.
    """
    columns = robot.action_reference_columns()
    noise = np.zeros((sim.num_envs, columns.size))

    def act(_: np.ndarray, reference: np.ndarray, __: np.ndarray) -> np.ndarray:
        nonlocal noise
        noise = 0.8 * noise + 0.6 * rng.standard_normal(noise.shape)
        base = commanded(reference[:, 0], columns)
        return base + scale * np.array(sigma) * noise

    return roll(sim, robot, 1, steps, act, tell=tell)


@torch.no_grad()
def drive(
    sim: VecSim,
    agent: Agent,
    params: Params,
    steps: int,
    rng: np.random.Generator,
    *,
    stacked: bool = False,
    adaptation: OnlineAdaptation | None = None,
    adapt_from: int = 0,
    explore: float = 0.0,
    faults: Mapping[int, list[Task]] | None = None,
    tried: TriedPlans | None = None,
    tell: Tell = nobody,
) -> Rollout:
    """Let the agent drive every lane from one start.

    Args:
        sim: already reset.
        agent: of the family.
        params: the start.
        steps: control periods.
        rng: of the driver's noise, the exploration and the minibatches. Methods that are given
            the same see the same noise, whether they adapt or not.
        stacked: every lane has a start of its own, `[lanes, ...]`, and keeps it.
        adaptation: how lanes adapt; None: they keep the start.
        adapt_from: control period of the first adaptation.
        explore: noise added to the actions, in units of the driver's exploration.
        faults: what tasks the lanes turn into, by control period.
        tried: remembers where variations of a planner's plans lead.
        tell: called after every period.

    Raises:
        ValueError: lanes with starts of their own are to adapt.
    """
    if stacked and adaptation is not None:
        raise ValueError("lanes with starts of their own keep them: drive without adaptation")
    driver, lanes = agent.driver, sim.num_envs
    noises, minibatches = rng.spawn(2)
    plan = torch.zeros(lanes, driver.horizon, len(driver.robot.actions))
    sigma = np.array(driver.exploration)
    adapting = plans = None
    if adaptation is not None:
        asked = adaptation.config.plans if adaptation.gated else 0
        if asked:
            plans = PlanGate(driver, params, asked, minibatches.spawn(1)[0])
        adapting = AdaptingLanes(agent.learner, params, lanes, adaptation, minibatches, plans)
    own = stacked or adapting is not None
    act_all = vmap(driver, in_dims=(0 if own else None, 0, 0, 0, 0))
    replay = agent.replay(steps if adapting else 1, lanes)

    def act(obs: np.ndarray, reference: np.ndarray, first: np.ndarray) -> np.ndarray:
        nonlocal plan
        plan[torch.from_numpy(first)] = 0.0
        if plans is not None:
            plans.see(obs, reference, first)
        noise = noises.standard_normal((lanes, *driver.noise_shape), dtype=np.float32)
        arrays = (torch.from_numpy(obs), torch.from_numpy(reference), plan, torch.from_numpy(noise))
        action, plan, _ = act_all(params if adapting is None else adapting.live, *arrays)
        if tried is not None:
            tried.see(plan.numpy(), reference)
        return action.numpy() + explore * sigma * noises.standard_normal(action.shape)

    def after(t: int, row: dict[str, np.ndarray]) -> None:
        if adapting is not None:
            replay.push(_transition(row, agent.learner.experience.sees_reference))
            adapting.tick(row["tracking_error"], row["reward"], row["terminated"])
            seen = t + 1
            if max(adapt_from, 1) <= seen < steps and seen % adapting.period == 0:
                adapting.adapt(replay)

    rollout = roll(sim, driver.robot, driver.horizon, steps, act, after, faults, tell)
    if adapting is None:
        return rollout
    return dataclasses.replace(
        rollout,
        accepted=adapting.accepted,
        refused=adapting.refused,
        rolled_back=adapting.rolled_back,
    )


def _transition(row: dict[str, np.ndarray], sees_reference: bool) -> Transition:
    """One period of all lanes, as a learner sees it."""
    names = ("obs", "action", "next_obs", "reward", "first", "terminated")
    found = Transition(**{name: row[name] for name in names})
    if not sees_reference:
        return found
    reference = np.stack([row["reference"], row["next_reference"]], axis=1)
    return with_reference(dataclasses.replace(found, reference=reference))


def roll(
    sim: VecSim,
    robot: RobotSpec,
    horizon: int,
    steps: int,
    act: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    after: Callable[[int, dict[str, np.ndarray]], None] = lambda *_: None,
    faults: Mapping[int, list[Task]] | None = None,
    tell: Tell = nobody,
) -> Rollout:
    """The loop that all rounds share.

    A lane whose episode is over for good starts anew, the others go on.

    Args:
        sim: already reset.
        robot: what is driven.
        horizon: periods of reference that `act` is given.
        steps: control periods.
        act: chooses the actions from obs, reference and which lanes have just started anew.
        after: told of every period, its number and its arrays [lanes, ...].
        faults: what tasks the lanes turn into, by control period.
        tell: called after every period.
    """
    low, high = limits(robot.actions)
    columns = robot.reference_columns
    obs, first = sim.obs, np.ones(sim.num_envs, bool)
    rows: dict[str, list[np.ndarray]] = {}
    for t in range(steps):
        reference = sim.reference(horizon + 1)
        action = np.clip(act(obs, reference[:, :horizon], first), low, high).astype(np.float32)
        next_obs, reward, terminated, _ = sim.step(action)
        row = {
            "obs": obs,
            "action": action,
            "next_obs": next_obs,
            "reward": reward,
            "first": first,
            "terminated": terminated,
            "reference": reference[:, 0],
            "next_reference": reference[:, 1],
            "tracking_error": np.abs(next_obs[:, columns] - reference[:, 0]).mean(axis=1),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
        after(t, row)
        tell(t + 1, steps)
        if faults and t + 1 in faults:
            sim.set_tasks(faults[t + 1])
        first = terminated
        # The same start at the same period, so that methods stay comparable.
        obs = sim.reset(seed=t + 1, lanes=terminated) if terminated.any() else next_obs
    return Rollout(**{name: np.stack(values, axis=1) for name, values in rows.items()})
