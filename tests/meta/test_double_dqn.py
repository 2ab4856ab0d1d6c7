"""reptile_agent.meta.learners.double_dqn: values of choices, and the best of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import grad

from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes
from reptile_agent.meta.learners.double_dqn import DoubleDqnLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
from reptile_agent.spec import RobotSpec, Signal, choices

POSITION = Signal(joint="point", quantity="position", unit="m", low=-4.0, high=4.0)


@pytest.fixture(scope="module")
def point() -> RobotSpec:
    """A point that steps left, stays or steps right."""
    return RobotSpec(
        name="point",
        control_period_s=0.1,
        observations=(POSITION,),
        actions=(Signal(joint="point", quantity="effort", unit="choice", low=0.0, high=2.0),),
        references=(POSITION,),
    )


@pytest.fixture
def learner(point) -> DoubleDqnLearner:
    one = np.ones(1, np.float32)
    normaliser = PolicyNormaliser(0 * one, one, one, 0 * one, one, one, 4 * one, 2 * one)
    return DoubleDqnLearner(point, ActorCriticConfig(hidden=(), gamma=0.9, n_step=2), normaliser)


@pytest.fixture
def params():
    """Linear networks: the online one prefers the right of the goal, its target the left."""
    online = torch.tensor([[[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]])
    return {
        "critic.w0": online,
        "critic.b0": torch.tensor([[[0.0, 0.5, 0.0]]]),
        "target.critic.w0": -2 * online,
        "target.critic.b0": torch.tensor([[[0.1, 0.2, 0.3]]]),
    }


@pytest.fixture
def batch():
    """Two segments of two steps; the second ends for good in its last step."""
    return {
        "obs": torch.tensor([[0.0, 2.0], [1.0, 1.0]]),
        "action": torch.tensor([[[1.8], [0.0]], [[0.4], [2.0]]]),
        "next_obs": torch.tensor([[[9.0, 9.0], [1.0, 2.5]], [[9.0, 9.0], [1.0, 2.5]]]),
        "reward": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "terminated": torch.tensor([[0.0, 0.0], [0.0, 1.0]]),
        "weight": torch.tensor([0.5, 1.5]),
    }


# Distance 1.5 at the end: the online network chooses 2 (value 1.5 of 0.5 and -1.5), which the
# target network values 2 (usual: 4 / 2) + 0.3 - 2 * 1.5; the best of its own would be 2 + 0.1 + 3.
TARGETS = [0.1 / 2 * (1 + 0.9 * 2) + 0.81 * (2 + 0.3 - 3.0), 0.1 / 2 * (3 + 0.9 * 4)]
# Distance 2 and choice 2 (1.8 rounded): 2 + 2; distance 0 and choice 0: 2 + 0.
VALUES = [4.0, 2.0]


def test_the_online_network_chooses_and_its_target_values(learner, params, batch):
    assert learner.target(params, batch).tolist() == pytest.approx(TARGETS)


def test_hand_numbers_of_loss_and_td_error(learner, params, batch):
    errors = [abs(value - target) for value, target in zip(VALUES, TARGETS)]
    assert learner.td_error(params, batch).tolist() == pytest.approx(errors)
    wanted = (0.5 * errors[0] ** 2 + 1.5 * errors[1] ** 2) / 2
    assert float(learner.loss(params, batch)) == pytest.approx(wanted)


def test_only_the_value_of_what_was_chosen_learns(learner, params, batch):
    grads = grad(learner.loss)(params, batch)
    assert (grads["critic.b0"][0, 0, [0, 2]] != 0).all()
    assert grads["critic.b0"][0, 0, 1] == 0
    assert not any(value.any() for name, value in grads.items() if name.startswith("target."))


def test_the_policy_takes_the_best_choice_in_the_robots_numbers(learner, params):
    obs, reference = torch.zeros(3, 1), torch.tensor([[-2.0], [0.1], [2.0]])
    found = learner.policy_action(params, obs, reference)
    assert found.tolist() == [[0.0], [1.0], [2.0]]
    assert learner.policy_action(params, obs[0], reference[0]).tolist() == [0.0]


def test_choices_need_not_begin_at_zero(point, learner, params):
    shifted = Signal(joint="point", quantity="effort", unit="choice", low=-1.0, high=1.0)
    robot = point.model_copy(update={"actions": (shifted,)})
    other = DoubleDqnLearner(robot, learner.config, learner.normaliser)
    assert other.policy_action(params, torch.zeros(1), torch.ones(1)).tolist() == [1.0]
    seen = (torch.zeros(1, 1), torch.full((1, 1), 3.0))
    values = [
        float(owner.action_value(params, *seen, torch.tensor([[chosen]])))
        for owner, chosen in ((other, 1.0), (learner, 2.0), (learner, 1.0))
    ]
    assert values == pytest.approx([10.0, 10.0, 5.0])  # 2 * (usual 2 + 3), 2 * (2 + 0.5)


def test_inputs_adds_nothing(learner):
    batch = {"weight": np.ones((2, 3), np.float32)}
    assert learner.inputs(batch, np.random.default_rng(0)) is batch


def test_the_number_of_choices_is_read_off_the_robot(robot, point):
    assert choices(point) == 3
    assert choices(robot) == 0


def test_many_tasks_at_once_are_a_loop_over_tasks(learner, params, batch):
    scale = torch.tensor([0.5, 1.0, 1.5])[:, None, None]
    batches = {n: v.expand(3, 4, *v.shape).clone() for n, v in batch.items()}
    batches["reward"] = batches["reward"] * scale[..., None]
    optimizer, lr = InnerOptimizer(), step_sizes(params, 0.1)
    adapted, _ = adapt_tasks(learner, optimizer, params, batches, lr)
    for task in range(3):
        one = {name: value[task] for name, value in batches.items()}
        alone, *_ = inner_loop(learner, optimizer, params, {}, one, lr)
        for name, value in alone.items():
            torch.testing.assert_close(adapted[name][task], value)
    assert not torch.equal(adapted["critic.b0"][0], adapted["critic.b0"][2])


def test_it_learns_to_bring_a_point_to_its_goal_and_that_an_end_is_bad(point, generator):
    """Beyond +1 the episode ends at once and for good, where every period otherwise pays."""
    rng, n = np.random.default_rng(0), 4000
    x = rng.uniform(-2, 1, (n, 1)).astype(np.float32)
    goal = rng.uniform(-1.5, 1.5, (n, 1)).astype(np.float32)
    action = rng.integers(3, size=(n, 1)).astype(np.float32)
    after = x + 0.25 * (action - 1)
    terminated = (after > 1).astype(np.float32)
    reward = (3 - np.abs(after - goal))[:, 0]
    normaliser = PolicyNormaliser.fit(point, x, goal, action, reward)
    config = ActorCriticConfig(hidden=(32, 32), gamma=0.8, n_step=1, tau=0.05)
    learner = DoubleDqnLearner(point, config, normaliser)
    rows = rng.integers(n, size=(400, 64))
    batches = {
        "obs": np.concatenate([x, goal], axis=1)[rows],
        "action": action[rows][..., None, :],
        "next_obs": np.concatenate([after, goal], axis=1)[rows][..., None, :],
        "reward": reward[rows][..., None],
        "terminated": terminated[rows],
        "weight": np.ones(rows.shape, np.float32),
    }
    ready = {name: torch.from_numpy(value) for name, value in batches.items()}
    start, optimizer = learner.init(generator), InnerOptimizer(kind="adam", clip_norm=0.0)
    lr = step_sizes(start, 5e-3)
    trained, *_ = inner_loop(learner, optimizer, start, optimizer.init(start), ready, lr)

    def drive(params, goals):
        at, furthest = torch.full_like(goals, -1.4), torch.full_like(goals, -9.0)
        for _ in range(20):
            at = at + 0.25 * (learner.policy_action(params, at, goals) - 1)
            furthest = torch.maximum(furthest, at)
        return at, furthest

    goals = torch.linspace(-1.2, 0.7, 20)[:, None]
    assert (drive(start, goals)[0] - goals).abs().mean() > 0.4
    assert (drive(trained, goals)[0] - goals).abs().mean() < 0.25
    _, furthest = drive(trained, torch.full((1, 1), 1.5))  # a goal beyond the end
    assert 0.3 < float(furthest) <= 1.0
