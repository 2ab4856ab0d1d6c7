"""reptile_agent.meta.agent: every kind of learner is made the same way, drives and adapts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import SIGMA, Toy, ToySim

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta import agent
from reptile_agent.meta.agent import Agent, AgentConfig
from reptile_agent.meta.collect import drive, excite
from reptile_agent.meta.inner_loop import InnerOptimizer, step_sizes
from reptile_agent.meta.learners.actor_critic import ActorCriticLearner
from reptile_agent.meta.learners.double_dqn import DoubleDqnLearner
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig, ModelPolicyLearner
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.meta.online import OnlineAdaptation
from reptile_agent.spec import limits
from reptile_agent.task import Planning
from sim.families.cartpole_discrete import CartpoleDiscrete

LANES, STEPS = 3, 30
KINDS = {
    "dynamics": DynamicsLearner,
    "actor_critic": ActorCriticLearner,
    "model_policy": ModelPolicyLearner,
}


def config(learner: str) -> AgentConfig:
    return AgentConfig(
        learner=learner,
        model=DynamicsConfig((8,), 2, 2),
        actor_critic=ActorCriticConfig(hidden=(8,)),
        model_policy=ModelPolicyConfig((8,), 2, 2, policy_hidden=(8,), model_steps=0),
        samples=8,
    )


def measured(family, sim) -> tuple[agent.Arrays, agent.Arrays]:
    """Rows of an excited round, and normalisers from them."""
    rollout = excite(sim, family.robot, family.plan_noise, STEPS, 1.5, np.random.default_rng(0))
    rows = rollout.flat()
    return rows, agent.measure(family, rows)


def fresh(made: Agent) -> dict[str, torch.Tensor]:
    return made.learner.init(torch.Generator().manual_seed(0))


def drives_and_adapts(made: Agent, sim) -> np.ndarray:
    """Actions of lanes whose parameters moved in their own ways on the way."""
    params = fresh(made)
    replay = made.replay(STEPS, LANES)
    sim.reset(0)
    rollout = drive(sim, made, params, STEPS, np.random.default_rng(0), explore=0.5)
    rollout.transitions(replay, made.learner.experience.sees_reference)
    learner = made.learner
    found = replay.sample(
        np.random.default_rng(0),
        1,
        5,
        segment=learner.segment,
        fields=learner.experience.fields,
        past_end=learner.experience.past_end,
    )
    rehearsal = {name: value.reshape(-1, *value.shape[3:]) for name, value in found.items()}
    adapting = AdaptationConfig(
        inner_steps=2, batch=4, rehearsal=2, window=20, holdout=2, period=10, fast_tau=None
    )
    how = OnlineAdaptation(adapting, InnerOptimizer(), step_sizes(params, 0.1), rehearsal)
    sim.reset(0)
    rollout = drive(sim, made, params, STEPS, np.random.default_rng(0), adaptation=how)
    np.testing.assert_array_equal(rollout.accepted, [2] * LANES)
    low, high = limits(made.driver.robot.actions)
    assert ((rollout.action >= low) & (rollout.action <= high)).all()
    return rollout.action


@pytest.fixture
def toy(robot) -> Toy:
    return Toy(robot)


@pytest.mark.parametrize("learner", KINDS)
def test_every_kind_of_learner_drives_and_adapts_a_robot(toy, learner):
    sim = ToySim()
    made = agent.make(toy, config(learner), measured(toy, sim)[1])
    assert type(made.learner) is KINDS[learner]
    assert made.driver.exploration == SIGMA
    action = drives_and_adapts(made, sim)
    assert np.abs(action[0] - action[2]).max() > 1e-3, "each lane learns from its own robot"


def test_where_the_action_is_a_choice_the_critics_choose():
    family = CartpoleDiscrete()
    sim = family.make_sim(family.splits()["train"][:LANES])
    sim.reset(0)
    made = agent.make(family, config("actor_critic"), measured(family, sim)[1])
    assert type(made.learner) is DoubleDqnLearner
    assert set(np.unique(drives_and_adapts(made, sim))) <= {0.0, 1.0}


@pytest.mark.parametrize("learner", KINDS)
def test_normalisers_are_all_that_it_takes_to_make_it_again(toy, learner):
    normaliser = measured(toy, ToySim())[1]
    saved = {name: np.array(value.tolist(), value.dtype) for name, value in normaliser.items()}
    one = agent.make(toy, config(learner), normaliser)
    two = agent.make(toy, config(learner), saved)
    assert set(two.normaliser) == set(normaliser)
    actions = []
    for made in (one, two):
        rng = np.random.default_rng(0)
        actions.append(drive(ToySim(), made, fresh(made), 5, rng, explore=0.5).action)
    np.testing.assert_array_equal(*actions)


def test_normalisers_are_measured_on_what_they_normalise(toy):
    rows, found = measured(toy, ToySim())
    np.testing.assert_allclose(found["model.obs_mean"], rows["obs"].mean(0), atol=1e-6)
    change = (rows["next_obs"] - rows["obs"]).std(0)
    np.testing.assert_allclose(found["model.delta_std"], change, rtol=1e-4)
    np.testing.assert_allclose(found["policy.reward_mean"], rows["reward"].mean(), rtol=1e-5)


@pytest.mark.parametrize("learner", KINDS)
def test_a_replay_holds_what_the_learner_sees(toy, learner):
    made = agent.make(toy, config(learner), measured(toy, ToySim())[1])
    width = made.replay(7, LANES).state()["obs"].shape
    assert width == (LANES, 0, 2 if learner == "dynamics" else 3)
    assert made.replay(7, LANES).capacity == 7


def test_plans_are_varied_and_weighed_as_the_family_says(robot):
    class Hasty(Toy):
        planning = Planning(correlation=0.9, temperature=0.2, smoothness=0.03)

    family = Hasty(robot)
    how = agent.make(family, config("dynamics"), measured(family, ToySim())[1]).driver.config
    assert (how.correlation, how.temperature, how.smoothness) == (0.9, 0.2, 0.03)
    assert (how.horizon, how.noise) == (family.plan_horizon, family.plan_noise)


@pytest.mark.parametrize("wrong", [{"correlation": 1.0}, {"temperature": 0.0}, {"smoothness": -1}])
def test_plans_that_cannot_be_varied_or_weighed_so_are_refused(wrong):
    with pytest.raises(ValueError, match="correlation must be 0 or more and below 1"):
        Planning(**wrong)


def test_plans_are_weighed_by_the_objective_which_need_not_be_the_reward(robot):
    class Aiming(Toy):
        def objective(self, obs, action, next_obs, reference):
            return -(next_obs[..., 0] - 0.5).square()  # whatever the reference says

    family = Aiming(robot)
    sim = family.make_sim([{"gain": 0.5}])
    _, normalisers = measured(family, sim)
    for learner in ("dynamics", "model_policy"):
        made = agent.make(family, config(learner), normalisers)
        weighs = made.driver.reward if learner == "dynamics" else made.learner.reward
        assert weighs(None, None, torch.tensor([[0.5, 0.0]]), None) == 0.0
