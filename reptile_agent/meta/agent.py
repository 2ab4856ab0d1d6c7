"""A learner and what drives a robot with it: made here, for every kind of learner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np

from reptile_agent.meta.driver import Driver
from reptile_agent.meta.learner import RobotLearner
from reptile_agent.meta.learners.actor_critic import make_learner as make_actor_critic
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig, ModelPolicyLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.planner import Planner, PlannerConfig
from reptile_agent.meta.policy_driver import PolicyDriver
from reptile_agent.replay import Replay
from reptile_agent.task import TaskFamily, objective_of

Arrays = dict[str, np.ndarray]
Kind = TypeVar("Kind")


SETTINGS_OF = {"dynamics": "model", "actor_critic": "actor_critic", "model_policy": "model_policy"}
"""Learner -> which part of an AgentConfig is its own."""


@dataclass(frozen=True)
class AgentConfig:
    """What is learned, and how it drives."""

    learner: Literal["dynamics", "actor_critic", "model_policy"] = "dynamics"
    """What is learned: a model that a planner drives with; a policy and its critics; or a policy
    improved through a model."""
    model: DynamicsConfig = field(default_factory=DynamicsConfig)
    """Learner dynamics: size of the model."""
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    """Learner actor_critic: size and losses."""
    model_policy: ModelPolicyConfig = field(default_factory=ModelPolicyConfig)
    """Learner model_policy: size of model and policy, and how the policy follows the model."""
    samples: int = 96
    """Learner dynamics: plans that the planner tries per control period."""
    doubt: float = 0.0
    """Learner dynamics: the planner's cost of the ensemble's disagreement."""


@dataclass(frozen=True)
class Agent:
    """What adapts, and what drives with it."""

    learner: RobotLearner
    driver: Driver
    normaliser: Arrays
    """What `make` made the learner with."""

    def replay(self, capacity: int, lanes: int) -> Replay:
        """A replay of what the learner sees."""
        robot = self.learner.robot
        size = self.learner.experience.observed(robot)
        return Replay(capacity, size, len(robot.actions), lanes)


def measure(family: TaskFamily, rows: Arrays) -> Arrays:
    """Normalisers of every kind of learner, from transitions.

    Args:
        family: whose.
        rows: obs, action, next_obs, reference, reward, each [n, ...].
    """
    robot = family.robot
    model = Normaliser.fit(robot, rows["obs"], rows["action"], rows["next_obs"])
    policy = PolicyNormaliser.fit(
        robot, rows["obs"], rows["reference"], rows["action"], rows["reward"]
    )
    return _arrays("model.", model) | _arrays("policy.", policy)


def make(family: TaskFamily, config: AgentConfig, normaliser: Arrays) -> Agent:
    """The learner that `config` names, with normalisers from `measure`."""
    robot = family.robot
    model = _from(Normaliser, "model.", normaliser)
    policy = _from(PolicyNormaliser, "policy.", normaliser)
    if config.learner == "dynamics":
        learner = DynamicsLearner(robot, config.model, model)
        how = replace(PlannerConfig.of(family), samples=config.samples, doubt=config.doubt)
        return Agent(learner, Planner(learner, how, objective_of(family)), normaliser)
    if config.learner == "actor_critic":
        learner = make_actor_critic(robot, config.actor_critic, policy)
    else:
        learner = ModelPolicyLearner(
            robot, config.model_policy, model, policy, objective_of(family)
        )
    return Agent(learner, PolicyDriver(learner, tuple(family.plan_noise)), normaliser)


def _arrays(prefix: str, normaliser: Any) -> Arrays:
    return {prefix + f.name: getattr(normaliser, f.name) for f in fields(normaliser)}


def _from(kind: Callable[..., Kind], prefix: str, arrays: Arrays) -> Kind:
    return kind(
        **{
            name.removeprefix(prefix): value
            for name, value in arrays.items()
            if name.startswith(prefix)
        }
    )
