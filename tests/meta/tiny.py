"""A training run of seconds, and what it learned."""

from __future__ import annotations

import numpy as np

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from sim.families.cartpole import Cartpole

TINY = TrainConfig(
    tasks=4,
    rounds=2,
    round_steps=24,
    fit_iterations=6,
    fit_batch=16,
    iterations=5,
    meta_batch=3,
    train_inner_steps=2,
    adaptation=AdaptationConfig(batch=4, rehearsal=2, window=12),
    model=DynamicsConfig(hidden=(8,), members=2, segment=2),
    actor_critic=ActorCriticConfig(hidden=(8,)),
    model_policy=ModelPolicyConfig(
        hidden=(8,), members=2, segment=2, policy_hidden=(8,), horizon=3, model_steps=1
    ),
    samples=4,
)


class ShortCartpole(Cartpole):
    plan_horizon = 4


def snapshot(trainer: Trainer) -> dict[str, np.ndarray]:
    """All that was learned: parameters, and step sizes where they are learned too."""
    learned = {name: value.numpy().copy() for name, value in trainer.params.items()}
    return learned | {f"lr.{name}": np.array(v) for name, v in trainer.lr_scale.items()}
