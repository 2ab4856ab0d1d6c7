"""A round that the simulator itself plans: what the robot looks like when it is driven well.

A planner with a model that has hardly seen a running robot never makes it run, and so never sees
one. Offline the simulator can stand in for the model: MPPI (Williams et al. 2017, arXiv 1707.02342)
with MuJoCo in its place gives the first rounds that are worth learning from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from reptile_agent.meta.collect import Rollout, roll
from reptile_agent.meta.droppable import Tell, nobody
from reptile_agent.meta.planner import PlannerConfig
from reptile_agent.meta.tried_plans import TriedPlans, foreseeing
from reptile_agent.spec import commanded, limits
from reptile_agent.task import Task, TaskFamily, VecSim

PLANS = 48
"""Tried per lane and period."""
TEMPERATURE = 0.1
"""Softness of their weighting: lower than with a learned model, because MuJoCo does not err."""


def guide(
    sim: VecSim,
    family: TaskFamily,
    steps: int,
    rng: np.random.Generator,
    explore: float = 0.0,
    faults: Mapping[int, list[Task]] | None = None,
    tried: TriedPlans | None = None,
    tell: Tell = nobody,
) -> Rollout:
    """Drive every lane by plans that the simulator tries.

    Args:
        sim: already reset.
        family: whose lanes; it says how far to look ahead, and with how much noise.
        steps: control periods.
        rng: of the noise.
        explore: noise added to the actions of every second lane, in units of the planner's: the
            others show what is good, these what comes of mistakes.
        faults: what tasks the lanes turn into, by control period.
        tried: remembers where variations of the plans lead.
        tell: called after every period.

    Raises:
        ValueError: the simulator cannot try plans.
    """
    sim = foreseeing(sim)
    robot = family.robot
    config = replace(PlannerConfig.of(family), samples=PLANS, temperature=TEMPERATURE)
    columns = robot.action_reference_columns()
    low, high = limits(robot.actions)
    sigma = np.array(config.noise)
    plan = np.zeros((sim.num_envs, config.horizon, sigma.size))
    exploring = explore * sigma * (np.arange(sim.num_envs) % 2)[:, None]

    def act(_: np.ndarray, reference: np.ndarray, first: np.ndarray) -> np.ndarray:
        nonlocal plan
        plan = np.concatenate([plan[:, 1:], plan[:, -1:]], axis=1)
        plan[first] = 0.0
        base = commanded(reference, columns)[:, None]
        varied = config.variations(rng, sim.num_envs, config.samples)
        varied[:, 0] = 0.0  # one is the last plan itself
        actions = np.clip(base + plan[:, None] + varied, low, high)
        value = sim.foresee(actions)
        spread = value.std(axis=1, keepdims=True) + 1e-6
        weight = torch.from_numpy(value / (config.temperature * spread)).softmax(dim=1)
        plan = np.einsum("ln,lnha->lha", weight.numpy(), actions - base)
        if tried is not None:
            tried.see(plan, reference)
        return base[:, 0, 0] + plan[:, 0] + exploring * rng.standard_normal(exploring.shape)

    return roll(sim, robot, config.horizon, steps, act, faults=faults, tell=tell)
