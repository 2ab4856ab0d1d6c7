"""Makes a bundle's learner and driver anew, in torch, from what its manifest says."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from reptile_agent.meta.driver import Driver
from reptile_agent.meta.learner import RobotLearner
from reptile_agent.meta.learners.actor_critic import make_learner
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig, ModelPolicyLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.planner import Planner, PlannerConfig, Reward
from reptile_agent.meta.policy_driver import PolicyDriver
from reptile_agent.onboard.bundle import Bundle


def agent_of(bundle: Bundle, objective: Reward | None) -> tuple[RobotLearner, Driver | None]:
    """The learner and the driver that a bundle's graphs were traced from.

    Args:
        bundle: as loaded.
        objective: of its task family; None: there is no planner then, and a model_policy can act
            and predict, but has no loss.
    """
    manifest = bundle.manifest
    robot, settings = manifest.robot, _settings(bundle, "model")
    if manifest.learner == "dynamics":
        learner = learner_of(bundle)
        return learner, None if objective is None else planner_of(bundle, learner, objective)
    policy = PolicyNormaliser(**_normaliser(bundle, "policy."))
    if manifest.learner == "actor_critic":
        learner = make_learner(robot, ActorCriticConfig(**settings), policy)
    else:
        learner = ModelPolicyLearner(
            robot,
            ModelPolicyConfig(**settings),
            Normaliser(**_normaliser(bundle, "model.")),
            policy,
            objective or _unknown,
        )
    # How it explored in training is no part of what it does.
    return learner, PolicyDriver(learner, (0.0,) * len(robot.actions))


def learner_of(bundle: Bundle) -> DynamicsLearner:
    """The dynamics learner of a bundle that plans."""
    config = DynamicsConfig(**_settings(bundle, "model"))
    return DynamicsLearner(bundle.manifest.robot, config, Normaliser(**_normaliser(bundle)))


def planner_of(bundle: Bundle, learner: DynamicsLearner, reward: Reward) -> Planner:
    """The torch planner that a bundle's `act.onnx` was traced from, given its objective."""
    return Planner(learner, PlannerConfig(**_settings(bundle, "planner")), reward)


def _settings(bundle: Bundle, of: str) -> dict[str, Any]:
    """Hyperparameters of one part; lists are tuples again."""
    found = bundle.manifest.hyperparameters[of].items()
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found}


def _normaliser(bundle: Bundle, prefix: str = "") -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): np.array(value, np.float32)
        for name, value in bundle.manifest.normaliser.items()
        if name.startswith(prefix)
    }


def _unknown(*_: Tensor) -> Tensor:
    raise LookupError("the objective is the task family's, which is not at hand")
