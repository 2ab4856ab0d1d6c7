"""One round of meta-training's experience: excited, planned by the simulator, or driven."""

from __future__ import annotations

import numpy as np

from reptile_agent.meta.agent import Agent
from reptile_agent.meta.collect import Rollout, drive, excite
from reptile_agent.meta.droppable import Tell, nobody
from reptile_agent.meta.guide import PLANS, guide
from reptile_agent.meta.learner import Params
from reptile_agent.meta.planner import PlannerConfig
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.tried_plans import TriedPlans, foreseeing
from reptile_agent.task import Task, TaskFamily
from reptile_agent.transition import Batch


def check_plans(family: TaskFamily, config: TrainConfig, tasks: list[Task]) -> None:
    """Refuse a run whose plans nobody could try, before it begins.

    Raises:
        ValueError: the simulator cannot try plans, or they hold no segment.
    """
    if config.guided_rounds or config.tried_plans:
        foreseeing(family.make_sim(tasks[:1]))
    if config.tried_plans and config.model.segment > family.plan_horizon:
        raise ValueError(
            f"tried_plans: plans of '{family.name}' are {family.plan_horizon} periods long and "
            f"hold no segment of model.segment = {config.model.segment}"
        )


def judging_seed(seed: int) -> int:
    """Of the first starts and the courses that a run is judged on; no round's own seed."""
    return 2**31 - 1 - seed


def run_round(
    family: TaskFamily,
    config: TrainConfig,
    tasks: list[Task],
    number: int,
    rngs: tuple[np.random.Generator, np.random.Generator],
    driving: tuple[Agent, Params] | None,
    tell: Tell = nobody,
) -> tuple[Rollout, Batch | None]:
    """What the robots do in a round, and segments of what else the simulator tried, if anything.

    Args:
        family: whose robots.
        config: of the run.
        tasks: one lane each.
        number: of the round, from 0.
        rngs: of all noise of what the robots do, and of what is tried beside it.
        driving: agent and start, for rounds that are neither excited nor guided.
        tell: called after every period.

    Raises:
        ValueError: nothing drives yet, or the simulator cannot try plans.
    """
    sim, steps, (rng, tries) = family.make_sim(tasks), config.round_steps, rngs
    sim.reset(seed=config.seed * 1000 + number)
    if number == 0:
        sigma = family.plan_noise
        return excite(sim, family.robot, sigma, steps, config.excitation, rng, tell), None
    tried = None
    if config.tried_plans:
        planner = PlannerConfig.of(family)
        plans, segment = config.tried_plans, config.model.segment
        tried = TriedPlans(sim, family.robot, planner, plans, segment, tries)
    if number <= config.guided_rounds:
        rollout = guide(sim, family, steps, rng, config.explore, tried=tried, tell=tell)
    elif driving is not None:
        agent, params = driving
        explore = config.explore
        rollout = drive(sim, agent, params, steps, rng, explore=explore, tried=tried, tell=tell)
    else:
        raise ValueError(f"round {number} is to be driven, and nothing drives yet")
    return rollout, tried.segments() if tried else None


def simulated_periods(config: TrainConfig, horizon: int, seen: int) -> int:
    """Control periods that one task was simulated for, at most, tried plans included.

    Args:
        config: of the run.
        horizon: control periods of a plan.
        seen: control periods that the robot moved for.
    """
    planned = max(seen - config.round_steps, 0)
    guided = min(planned, config.guided_rounds * config.round_steps)
    return seen + (guided * PLANS + planned * config.tried_plans) * horizon
