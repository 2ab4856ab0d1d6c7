"""reptile_agent.meta.learners.policy_gradient and actions, and the advantages of on_policy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from reptile_agent.meta.algorithms import maml
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.meta.learners.actions import Actions
from reptile_agent.meta.learners.policy_gradient import (
    OnPolicyNormaliser,
    PolicyConfig,
    PolicyGradientLearner,
)
from reptile_agent.meta.on_policy import (
    Experience,
    Sampling,
    fitted,
    generalized_advantages,
    minibatch,
)
from reptile_agent.meta.policy_driver import PolicyDriver
from reptile_agent.spec import RobotSpec, Signal

SGD = InnerOptimizer(kind="sgd", clip_norm=0.0)
CHOOSER = RobotSpec(
    name="chooser",
    control_period_s=0.1,
    observations=(Signal(joint="x", quantity="position", unit="m", low=-1.0, high=1.0),),
    actions=(Signal(joint="x", quantity="effort", unit="choice", low=1.0, high=3.0),),
    references=(Signal(joint="x", quantity="position", unit="m", low=-1.0, high=1.0),),
)


def learner_of(robot: RobotSpec, **config) -> PolicyGradientLearner:
    size = len(robot.observations)
    normaliser = OnPolicyNormaliser(
        np.full(size, 0.1, np.float32), np.full(size, 0.7, np.float32), np.array(2.0, np.float32)
    )
    return PolicyGradientLearner(robot, PolicyConfig(hidden=(8, 8), **config), normaliser)


def sampled(learner, params, generator, lanes=(3,), steps=5):
    """A minibatch that the policy of `params` itself sampled, with advantages out of the air."""
    robot, shape = learner.robot, (*lanes, steps)

    def normal(*size):
        return torch.randn(*shape, *size, generator=generator)

    batch = {"obs": normal(len(robot.observations)), "reference": normal(len(robot.references))}
    head, _ = learner.evaluate(params, batch)
    action = learner.actions.sample(head, normal(learner.actions.outputs))
    return batch | {
        "head": head,
        "action": action,
        "log_prob": learner.actions.log_prob(head, action),
        "advantage": normal(),
        "value_target": normal(),
        "weight": torch.ones(shape),
    }


def leaves(params):
    return {name: value.clone().requires_grad_() for name, value in params.items()}


@pytest.fixture(params=["continuous", "choice"])
def any_robot(request, robot) -> RobotSpec:
    return robot if request.param == "continuous" else CHOOSER


def test_a_gaussian_is_torchs_gaussian(robot, generator):
    actions = Actions(robot)
    old, new, noise = (torch.randn(7, size, generator=generator) for size in (4, 4, 2))

    def torchs(head):
        return Independent(Normal(head[:, :2], head[:, 2:].exp()), 1)

    action = actions.sample(old, noise)
    torch.testing.assert_close(action, old[:, :2] + old[:, 2:].exp() * noise)
    torch.testing.assert_close(actions.log_prob(new, action), torchs(new).log_prob(action))
    torch.testing.assert_close(actions.entropy(new), torchs(new).entropy())
    wanted = kl_divergence(torchs(old), torchs(new))
    torch.testing.assert_close(actions.divergence(old, new), wanted)


def test_a_choice_is_torchs_categorical(generator):
    actions = Actions(CHOOSER)
    old, new = torch.randn(7, 3, generator=generator), torch.randn(7, 3, generator=generator)
    action = torch.tensor([[0.0], [1.0], [2.0], [0.0], [1.0], [2.0], [2.0]])
    wanted = Categorical(logits=new).log_prob(action[:, 0])
    torch.testing.assert_close(actions.log_prob(new, action), wanted)
    torch.testing.assert_close(actions.entropy(new), Categorical(logits=new).entropy())
    wanted = kl_divergence(Categorical(logits=old), Categorical(logits=new))
    torch.testing.assert_close(actions.divergence(old, new), wanted)


def test_choices_are_drawn_as_often_as_they_are_likely(generator):
    head = torch.tensor([0.1, 0.2, 0.7]).log().expand(20_000, 3)
    drawn = Actions(CHOOSER).sample(head, torch.randn(20_000, 3, generator=generator))
    shares = torch.bincount(drawn[:, 0].long(), minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.01, rtol=0)


def test_commands_are_in_the_robots_units_and_limits(robot):
    told = Actions(robot).command(torch.tensor([[0.5, 0.5], [-2.0, 1.5]]))
    torch.testing.assert_close(told, torch.tensor([[0.5, 1.5], [-1.0, 3.0]]))
    assert Actions(CHOOSER).command(torch.tensor([[0.0], [2.0]])).tolist() == [[1.0], [3.0]]


def test_as_a_driver_it_does_the_likeliest(any_robot, generator):
    learner = learner_of(any_robot)
    params, size = learner.init(generator), len(any_robot.observations)
    obs, reference = torch.randn(5, size, generator=generator), torch.zeros(5, 1)
    head, _ = learner.evaluate(params, {"obs": obs, "reference": reference})
    done = learner.policy_action(params, obs, reference)
    if learner.actions.discrete:
        torch.testing.assert_close(done[:, 0], 1.0 + head.argmax(-1))
    else:
        torch.testing.assert_close(done, head[:, :2] * torch.tensor([1.0, 3.0]))
    plan, noise = torch.zeros(1, len(any_robot.actions)), torch.zeros(0, 1, 1)
    action, *_ = PolicyDriver(learner, (0.1,))(params, obs[0], reference[:1], plan, noise)
    torch.testing.assert_close(action, done[0])


def test_what_a_network_sees_of_an_action(robot):
    seen = Actions(robot).encoded(torch.tensor([[0.5, -7.0]]))
    assert seen.tolist() == [[0.5, -1.0]]
    assert Actions(CHOOSER).encoded(torch.tensor([[2.0]])).tolist() == [[0.0, 0.0, 1.0]]


def test_the_reference_is_hidden_unless_it_is_asked_for(robot, generator):
    for sees in (False, True):
        learner = learner_of(robot, sees_reference=sees)
        params = learner.init(generator)
        batch = sampled(learner, params, generator)
        other = batch | {"reference": batch["reference"] + 1.0}
        for one, two in zip(learner.evaluate(params, batch), learner.evaluate(params, other)):
            assert torch.equal(one, two) is not sees


def test_an_angle_without_end_stops_is_seen_the_same_after_a_turn(robot, generator):
    learner = learner_of(robot)
    obs = torch.randn(6, 2, generator=generator)
    turned = obs + torch.tensor([0.0, 2 * math.pi])
    reference = torch.zeros(6, 1)
    torch.testing.assert_close(
        learner.features({"obs": obs, "reference": reference}),
        learner.features({"obs": turned, "reference": reference}),
    )
    assert learner.features({"obs": obs, "reference": reference}).shape == (6, learner.feature_dim)


def test_a_fresh_policy_stays_near_the_middle_with_the_spread_it_is_told(robot, generator):
    learner = learner_of(robot, initial_std=0.3)
    batch = sampled(learner, learner.init(generator), generator)
    mean, log_std = batch["head"].chunk(2, dim=-1)
    assert mean.abs().max() < 0.05
    torch.testing.assert_close(log_std.exp(), torch.full_like(log_std, 0.3))


def test_at_the_sampling_policy_the_gradient_is_that_of_the_score_function(any_robot, generator):
    learner = learner_of(any_robot, value_weight=0.0)
    params = learner.init(generator)
    batch = sampled(learner, params, generator)
    one, two = leaves(params), leaves(params)
    learner.loss(one, batch).backward()
    head, _ = learner.evaluate(two, batch)
    score = -(learner.actions.log_prob(head, batch["action"]) * batch["advantage"]).mean()
    score.backward()
    for name in params:
        if name.startswith("policy."):
            torch.testing.assert_close(one[name].grad, two[name].grad)
            assert one[name].grad.abs().max() > 0


def test_its_second_derivative_has_the_score_squared_that_log_probabilities_lack(robot, generator):
    """The second derivative of E[ratio A] is E[A (d2 log p + (d log p)^2)], by hand for log_std."""
    learner = learner_of(robot, value_weight=0.0)
    params = learner.init(generator)
    batch = sampled(learner, params, generator)
    start = params["policy.log_std"][0, 0]

    def loss(log_std):
        return learner.loss(params | {"policy.log_std": log_std[None, None]}, batch)

    found = torch.autograd.functional.hessian(loss, start)
    mean, log_std = batch["head"].chunk(2, dim=-1)
    z2 = ((batch["action"] - mean) / log_std.exp()).square()
    score = z2 - 1  # of log_std
    curvature = torch.diag_embed(-2 * z2) + score[..., :, None] * score[..., None, :]
    wanted = -(batch["advantage"][..., None, None] * curvature).mean((0, 1))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_parts(any_robot, generator):
    learner = learner_of(any_robot, value_weight=0.25, entropy_weight=0.1)
    params = learner.init(generator)
    batch = sampled(learner, params, generator)
    _, value = learner.evaluate(params, batch)
    wanted = (
        0.25 * (value - batch["value_target"]).square()
        - batch["advantage"]
        - 0.1 * learner.actions.entropy(batch["head"])
    ).mean()
    torch.testing.assert_close(learner.loss(params, batch), wanted)


def test_steps_after_an_episodes_end_do_not_count(robot, generator):
    learner = learner_of(robot)
    params = learner.init(generator)
    batch = sampled(learner, params, generator)
    batch["weight"][1, 2:] = 0.0
    other = {name: value.clone() for name, value in batch.items()}
    for name in ("obs", "action", "advantage", "value_target"):
        other[name][1, 2:] = 9.0
    torch.testing.assert_close(learner.loss(params, batch), learner.loss(params, other))
    torch.testing.assert_close(learner.divergence(params, batch), torch.tensor(0.0))


def test_parameters_of_many_tasks_at_once_are_a_loop_over_tasks(any_robot, generator):
    learner = learner_of(any_robot)
    each = [learner.init(generator) for _ in range(3)]
    params = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    batch = sampled(learner, params, generator, lanes=(3, 2))
    head, value = learner.evaluate(params, batch)
    now = {name: batch[name][:, :, 0].flatten(0, 1) for name in ("obs", "reference")}
    stepped, _ = learner.step(params, learner.memory(6), now)
    torch.testing.assert_close(stepped, head[:, :, 0].flatten(0, 1))
    for task, one in enumerate(each):
        alone = learner.evaluate(one, {name: v[task] for name, v in batch.items()})
        torch.testing.assert_close((head[task], value[task]), alone)


def test_maml_differentiates_through_the_inner_loop_as_autograd_does(any_robot, generator):
    learner, alpha = learner_of(any_robot), 0.3
    params = learner.init(generator)
    support, query = (sampled(learner, params, generator) for _ in range(2))
    lr = step_sizes(params, alpha)
    found = maml.direction(
        learner,
        SGD,
        params,
        {name: value[None, None] for name, value in support.items()},
        {name: value[None, None] for name, value in query.items()},
        lr,
    )
    start = leaves(params)
    inner = torch.autograd.grad(learner.loss(start, support), start.values(), create_graph=True)
    adapted = {name: v - alpha * g for (name, v), g in zip(start.items(), inner)}
    learner.loss(adapted, query).backward()
    once, *_ = inner_loop(
        learner, SGD, params, {}, {name: value[None] for name, value in support.items()}, lr
    )
    for name, value in start.items():
        torch.testing.assert_close(once[name], adapted[name].detach())
        torch.testing.assert_close(found.towards[name], value.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_advantages_are_the_sum_of_discounted_surprises(gae_lambda):
    rng, gamma = np.random.default_rng(0), 0.8
    reward, value = rng.standard_normal((2, 6)), rng.standard_normal((2, 7))
    terminal = np.zeros((2, 6))
    terminal[1, 5] = 1.0  # lane 0 is cut, lane 1 ends
    wanted = np.zeros((2, 6))
    for lane in range(2):
        for t in range(6):
            for later in range(t, 6):
                follows = (1 - terminal[lane, later]) * value[lane, later + 1]
                surprise = reward[lane, later] + gamma * follows - value[lane, later]
                wanted[lane, t] += (gamma * gae_lambda) ** (later - t) * surprise
    tensors = (torch.from_numpy(a) for a in (reward, value, np.ones((2, 6)), terminal))
    found = generalized_advantages(*tensors, gamma, gae_lambda)
    np.testing.assert_allclose(found.numpy(), wanted)


def test_advantages_pass_over_steps_without_weight_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    reward, value = torch.from_numpy(rng.standard_normal(6)), torch.from_numpy(rng.random(7))
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    kept = weight > 0
    found = generalized_advantages(reward, value, weight, torch.zeros(6), 0.9, 0.7)
    short = generalized_advantages(
        reward[kept],
        torch.cat([value[:-1][kept], value[-1:]]),
        torch.ones(4),
        torch.zeros(4),
        0.9,
        0.7,
    )
    torch.testing.assert_close(found[kept], short)
    assert (found[~kept] == 0).all()


def test_a_task_is_corrected_by_what_its_value_function_missed(generator):
    features = torch.rand(2, 4, 9, 2, generator=generator)
    time = torch.linspace(-1, 1, 9).expand(2, 4, 9)
    slope = torch.tensor([1.0, -2.0])[:, None, None]  # another one in each task
    missed = slope * features[..., 0] + 0.5 * features[..., 1].square() - 3 * time + 0.7
    weight = torch.ones(2, 4, 8)
    weight[:, 1, 5:] = 0.0
    surprise = torch.where(weight > 0, missed[..., :-1], 100.0)  # must mislead none
    torch.testing.assert_close(fitted(features, surprise, weight), missed, rtol=0.02, atol=0.02)


@pytest.fixture
def experience(robot, generator):
    """Two tasks, one of which pays ten times as much; the second one's last lane falls early."""
    learner = learner_of(robot)
    params = learner.init(generator)
    inputs = {
        "obs": torch.randn(2, 3, 9, 2, generator=generator),
        "reference": torch.zeros(2, 3, 9, 1),
    }
    head = learner.evaluate(params, inputs)[0][:, :, :-1]
    weight, terminal = torch.ones(2, 3, 8), torch.zeros(2, 3, 8)
    weight[1, 2, 4:], terminal[1, 2, 3] = 0.0, 1.0
    reward = torch.randn(2, 3, 8, generator=generator) * torch.tensor([1.0, 10.0])[:, None, None]
    action = learner.actions.sample(head, torch.randn(2, 3, 8, 2, generator=generator))
    return learner, params, Experience(1, inputs, action, head, reward, weight, terminal)


@pytest.mark.parametrize("fit", [False, True])
def test_advantages_are_normalised_in_each_task(experience, fit):
    learner, params, found = experience
    batch = minibatch(learner, params, found, Sampling(fit_baseline=fit))
    for task in range(2):
        counted = batch["advantage"][task][found.weight[task] > 0]
        assert counted.mean().item() == pytest.approx(0.0, abs=1e-5)
        assert counted.std(correction=0).item() == pytest.approx(1.0, rel=1e-4)
    assert (batch["advantage"][found.weight == 0] == 0).all()


def test_value_targets_are_discounted_mean_rewards_in_their_usual_size(experience):
    learner, params, found = experience
    sampling = Sampling(discount=0.9, gae_lambda=1.0, fit_baseline=False)
    batch = minibatch(learner, params, found, sampling)
    reward = found.reward[1, 2] * (1 - 0.9) / 2.0  # the scale of `learner_of`
    wanted = sum(0.9**i * reward[i] for i in range(4))  # then it fell
    torch.testing.assert_close(batch["value_target"][1, 2, 0], wanted)


def test_returns_count_what_was_gained_until_the_end(experience):
    *_, found = experience
    torch.testing.assert_close(found.returns[0, 0, 0], found.reward[0, 0].sum())
    torch.testing.assert_close(found.returns[1, 2, 0], found.reward[1, 2, :4].sum())
    assert found.steps[1, :, 0].tolist() == [8, 8, 4]
