"""Three toy robots side by side that adapt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from three_robots import GOOD, LANES, NO_REWARD, NOBODY, NOMINAL, WATCH, excited, remembered
from toy import Toy

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import agent
from reptile_agent.meta.agent import Agent, AgentConfig
from reptile_agent.meta.collect import Rollout
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.meta.learner import Params
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig
from reptile_agent.meta.online import (
    AdaptingLanes,
    OnlineAdaptation,
    to_tensors,
)
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch


@pytest.fixture(scope="module")
def nominal(robot) -> Rollout:
    return excited(robot, NOMINAL)


@pytest.fixture(scope="module")
def make(robot, nominal):
    """An agent whose normalisers were measured on the nominal robot."""
    normaliser = agent.measure(Toy(robot), nominal.flat())

    def make(learner: str = "dynamics") -> Agent:
        config = AgentConfig(
            learner=learner,
            model=DynamicsConfig((16,), 2, 2),
            model_policy=ModelPolicyConfig((16,), 2, 2, policy_hidden=(8,), model_steps=0),
            samples=8,
        )
        return agent.make(Toy(robot), config, normaliser)

    return make


@pytest.fixture(scope="module")
def learner(make):
    return make().learner


@pytest.fixture(scope="module")
def rehearsal(nominal) -> Batch:
    found = remembered(nominal).sample(np.random.default_rng(0), 1, 20, segment=2)
    return {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}


@pytest.fixture(scope="module")
def start(learner, rehearsal) -> Params:
    """Knows the nominal robot."""
    fresh = learner.init(torch.Generator().manual_seed(0))
    batch = to_tensors({n: np.broadcast_to(v, (150, *v.shape)) for n, v in rehearsal.items()})
    optimizer = InnerOptimizer(clip_norm=0)
    return inner_loop(learner, optimizer, fresh, {}, batch, step_sizes(fresh, 0.1))[0]


@pytest.fixture(scope="module")
def worn(robot) -> Replay:
    """What three robots did, each weaker than the one before."""
    return remembered(excited(robot, (0.35, 0.2, 0.05), seed=1))


@pytest.fixture
def online(start, rehearsal):
    """Adaptation whose gate lets through all that predicts better, if it is on."""

    def make(**changes) -> OnlineAdaptation:
        settings = {
            "inner_steps": 10,
            "batch": 16,
            "rehearsal": 0,
            "window": 30,
            "fast_tau": None,
            "holdout": 12,
            "period": 5,
            "max_distance": 1e6,
            "rehearsal_margin": 1e6,
        }
        gated = changes.pop("gated", False)
        config = AdaptationConfig(**(settings | changes))
        lr = step_sizes(start, config.inner_lr)
        return OnlineAdaptation(config, InnerOptimizer(), lr, rehearsal, gated, WATCH)

    return make


@pytest.fixture
def gated(learner, start, online):
    """Gated lanes that are ready to take new parameters."""

    def make(**changes) -> AdaptingLanes:
        rng = np.random.default_rng(5)
        lanes = AdaptingLanes(learner, start, LANES, online(gated=True, **changes), rng)
        for _ in range(WATCH.baseline_ticks):
            lanes.tick(GOOD, NO_REWARD, NOBODY)
        return lanes

    return make
