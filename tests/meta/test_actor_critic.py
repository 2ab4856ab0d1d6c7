"""reptile_agent.meta.learners.actor_critic: TD3's targets, losses and steps."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.func import grad

from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes
from reptile_agent.meta.learners.actor_critic import ActorCriticLearner, make_learner
from reptile_agent.meta.learners.double_dqn import DoubleDqnLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser
from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig, part
from reptile_agent.meta.networks import mlp
from reptile_agent.spec import RobotSpec, Signal

NORMALISER = PolicyNormaliser(
    obs_mean=np.float32([0.1, 0.2]),
    obs_std=np.float32([0.5, 2.0]),
    distance=np.float32([0.4]),
    action_mean=np.float32([0.05, -0.1]),
    action_std=np.float32([0.3, 1.5]),
    offset_std=np.float32([0.2, 1.0]),
    reward_mean=np.float32([-1.0]),
    reward_scale=np.float32([2.0]),
)
SGD = InnerOptimizer(clip_norm=0.0)


def make(robot, **config) -> ActorCriticLearner:
    settings = {"hidden": (8,), "gamma": 0.9, "n_step": 3} | config
    return ActorCriticLearner(robot, ActorCriticConfig(**settings), NORMALISER)


@pytest.fixture
def learner(robot) -> ActorCriticLearner:
    return make(robot)


@pytest.fixture
def params(learner, generator):
    """Parameters whose targets are not what they follow."""
    fresh = learner.init(generator)
    return {n: v + 0.3 * torch.randn(v.shape, generator=generator) for n, v in fresh.items()}


@pytest.fixture
def make_batch(learner, generator):
    """Minibatches [*lead, 5, ...] in which two of five segments hold an episode's end."""

    def make(*lead: int):
        shape = (*lead, 5)
        terminated = torch.zeros(*shape, 3)
        terminated[..., 1, 1] = terminated[..., 2, 2] = 1.0
        batch = {
            "obs": torch.randn(*shape, 3, generator=generator),
            "action": torch.randn(*shape, 3, 2, generator=generator).clamp(-1, 1),
            "next_obs": torch.randn(*shape, 3, 3, generator=generator),
            "reward": torch.randn(*shape, 3, generator=generator),
            "terminated": terminated,
            "weight": torch.tensor([1.0, 0.5, 2.0, 1.0, 0.5]).expand(shape).clone(),
            "smoothing": 0.2 * torch.randn(*shape, 2, generator=generator),
            "policy_weight": torch.ones(shape),
        }
        return batch

    return make


def row_q(learner, params, prefix, seen, action) -> torch.Tensor:
    """Both critics' value of one action, by the networks themselves."""
    features, own = learner._features, part(params, prefix)
    row = torch.cat([features.state(seen), features.action(seen, action)]).expand(2, 1, -1)
    return mlp(own, row)[:, 0, 0] + torch.tensor(-1.0 / 2.0)


def row_target(learner, params, batch, row, gamma=0.9, smoothing=True) -> torch.Tensor:
    """One row's target as the papers write it."""
    total, discount = torch.tensor(0.0), 1.0
    for reward, over in zip(batch["reward"][row], batch["terminated"][row]):
        total = total + discount * (1 - gamma) * reward / 2.0
        discount *= gamma
        if over:
            return total
    seen = batch["next_obs"][row, -1]
    features = learner._features
    output = mlp(part(params, "target.policy."), features.state(seen)[None, None])[0, 0]
    action = features.command(seen, output)
    if smoothing:
        action = action + batch["smoothing"][row] * torch.tensor([0.2, 1.0])
    action = action.clamp(torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 3.0]))
    return total + discount * row_q(learner, params, "target.critic.", seen, action).min()


def test_the_loss_is_that_of_plain_loops(robot, params, make_batch):
    learner, batch = make(robot, cloning=0.7), make_batch()
    batch["policy_weight"][3] = 0.0
    critic, policy = torch.tensor(0.0), torch.tensor(0.0)
    for row in range(5):
        seen, action = batch["obs"][row], batch["action"][row, 0]
        target = row_target(learner, params, batch, row)
        for q in row_q(learner, params, "critic.", seen, action):
            critic = critic + batch["weight"][row] * (q - target) ** 2 / 5
        done = learner.policy_action(params, seen[:2], seen[2:])
        q = row_q(learner, params, "critic.", seen, done)[0]
        off = ((done - action) / torch.tensor([0.2, 1.0])).square().mean()
        share = batch["weight"][row] * batch["policy_weight"][row] / 5
        policy = policy + share * (0.7 * off - q / (1 - 0.9))
    torch.testing.assert_close(learner.loss(params, batch), critic + policy)


def test_the_td_error_is_the_mean_distance_of_the_critics_without_noise(
    learner, params, make_batch
):
    batch = make_batch()
    found = learner.td_error(params, batch)
    for row in range(5):
        q = row_q(learner, params, "critic.", batch["obs"][row], batch["action"][row, 0])
        target = row_target(learner, params, batch, row, smoothing=False)
        assert found[row] == pytest.approx(float((q - target).abs().mean()), rel=1e-4)
    torch.testing.assert_close(learner.prediction_error(params, batch), found)


def test_hand_numbers_of_a_return_over_three_steps(learner, params, make_batch):
    batch = make_batch()
    batch["reward"][:] = torch.tensor([2.0, 4.0, 8.0])
    found = learner.target(params, batch)
    # (1 - 0.9) / 2 * (2 + 0.9 * 4), ended in the second; and with 0.81 * 8, ended in the third.
    assert found[1] == pytest.approx(0.05 * 5.6)
    assert found[2] == pytest.approx(0.05 * (5.6 + 6.48))


def test_an_end_cuts_off_what_comes_after(learner, params, make_batch):
    batch = make_batch()
    before = learner.target(params, batch)
    batch["next_obs"][..., -1, :] += 1.0
    batch["reward"][..., 2] += 5.0
    after = learner.target(params, batch)
    assert after[1] == before[1]
    assert after[2] == pytest.approx(float(before[2]) + 0.05 * 0.81 * 5.0)
    others = [0, 3, 4]
    assert (after[others] - before[others] - 0.05 * 0.81 * 5.0).abs().min() > 1e-4


def test_values_are_in_the_rewards_unit(learner, params):
    seen, action = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.2, -0.1])
    found = learner.action_value(params, seen[None, :2], seen[None, 2:], action[None])
    wanted = 2.0 * row_q(learner, params, "critic.", seen, action).min()
    torch.testing.assert_close(found, wanted[None])


def test_no_gradient_reaches_a_target_nor_the_critic_from_the_policy(learner, params, make_batch):
    batch = make_batch()
    both = grad(learner.loss)(params, batch)
    critic_alone = grad(learner.loss)(params, batch | {"policy_weight": torch.zeros(5)})
    for name in params:
        if name.startswith("target."):
            assert not both[name].any()
        elif name.startswith("critic."):
            torch.testing.assert_close(both[name], critic_alone[name])
        else:
            assert both[name].any()
            assert not critic_alone[name].any()


def test_every_critics_gradient_is_that_of_its_own_loss(learner, params, make_batch):
    batch = make_batch()
    target = learner.target(params, batch, batch["smoothing"])
    grads = grad(learner.loss)(params, batch)
    for member in range(2):

        def own(critic, member=member):
            errors = [
                row_q(learner, critic, "critic.", seen, action[0])[member] - wanted
                for seen, action, wanted in zip(batch["obs"], batch["action"], target)
            ]
            return (torch.stack(errors).square() * batch["weight"]).mean()

        wanted = grad(own)({n: v for n, v in params.items() if n.startswith("critic.")})
        for name, value in wanted.items():
            torch.testing.assert_close(grads[name][member], value[member])


def test_targets_follow_by_tau_and_nothing_else_moves(robot, params):
    after = make(robot, tau=0.25).after_step(params)
    assert after.keys() == params.keys()
    for name, value in params.items():
        if name.startswith("target."):
            own = params[name.removeprefix("target.")]
            torch.testing.assert_close(after[name], 0.75 * value + 0.25 * own)
            assert not torch.equal(after[name], value)
        else:
            assert after[name] is value


def test_a_fresh_target_is_what_it_follows_and_a_fresh_policy_nearly_the_reference(
    learner, generator
):
    fresh = learner.init(generator)
    for name in [n for n in fresh if not n.startswith("target.")]:
        torch.testing.assert_close(fresh["target." + name], fresh[name], rtol=0, atol=0)
    found = learner.policy_action(fresh, torch.tensor([0.2, 1.0]), torch.tensor([0.5]))
    assert (found - torch.tensor([0.5, 0.0])).abs().max() < 0.3


def test_actions_keep_to_the_limits_and_any_axes_may_lead(learner, params):
    wild = {name: 30 * value for name, value in params.items()}
    obs, reference = 3 * torch.randn(4, 6, 2), torch.randn(4, 6, 1)
    found = learner.policy_action(wild, obs, reference)
    assert (found.abs() <= torch.tensor([1.0, 3.0])).all()
    assert found[..., 1].abs().max() > 2.9
    one = learner.policy_action(wild, obs[2, 3], reference[2, 3])
    torch.testing.assert_close(one, found[2, 3])


def test_the_policy_moves_in_every_second_step_only(learner, params, make_batch):
    batches = {n: v.numpy() for n, v in make_batch(4).items() if n != "policy_weight"}
    lr = step_sizes(params, 0.01)
    for first_step, moving in ((0, [False, True, False, True]), (3, [True, False, True, False])):
        ready = learner.inputs(batches, np.random.default_rng(0), first_step)
        ready = {name: torch.from_numpy(value) for name, value in ready.items()}
        path = [params]
        for step in range(4):
            one = {name: value[step : step + 1] for name, value in ready.items()}
            path.append(inner_loop(learner, SGD, path[-1], {}, one, lr)[0])
        for name in ("policy.w0", "policy.b1"):
            moved = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(path)]
            assert moved == moving
        assert all(
            not torch.equal(a["critic.w0"], b["critic.w0"]) for a, b in itertools.pairwise(path)
        )


def test_what_is_drawn_is_clipped_noise_for_any_leading_axes(robot):
    learner = make(robot, smoothing=0.4, noise_clip=0.5, policy_period=3)
    batch = {"weight": np.ones((7, 5, 200), np.float32)}
    found = learner.inputs(batch, np.random.default_rng(0), first_step=1)
    noise = found["smoothing"]
    assert noise.shape == (7, 5, 200, 2)
    assert np.abs(noise).max() == 0.5
    for sigmas, share in ((0.5, 0.383), (1.0, 0.683), (1.2, 0.770)):  # of a normal distribution
        assert (np.abs(noise) < 0.4 * sigmas).mean() == pytest.approx(share, abs=0.015)
    weight = found["policy_weight"]
    np.testing.assert_array_equal(weight, np.reshape([0, 1, 0, 0, 1], (5, 1)) + 0 * weight)
    assert set(batch) == {"weight"}
    assert noise.dtype == weight.dtype == np.float32


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_many_tasks_at_once_are_a_loop_over_tasks(learner, params, make_batch, kind):
    optimizer, batches = InnerOptimizer(kind=kind), make_batch(3, 4)
    lr = step_sizes(params, 0.01)
    adapted, info = adapt_tasks(learner, optimizer, params, batches, lr)
    for task in range(3):
        one = {name: value[task] for name, value in batches.items()}
        alone, _, alone_info = inner_loop(
            learner, optimizer, params, optimizer.init(params), one, lr
        )
        torch.testing.assert_close(info["loss"][task], alone_info["loss"], rtol=1e-4, atol=1e-5)
        for name, value in alone.items():
            torch.testing.assert_close(adapted[name][task], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("moving", ["critic.", "policy."])
def test_the_gradient_through_an_inner_loop_is_the_finite_difference(
    robot, params, make_batch, moving
):
    # Targets stand still and only one network learns, so that nothing of what the loss detaches
    # depends on the start.
    learner, batches = make(robot, tau=0.0, cloning=0.5), make_batch(4)
    batches["policy_weight"][:] = float(moving == "policy.")
    support = {name: value[:3] for name, value in batches.items()}
    query = {name: value[3] for name, value in batches.items()}
    fixed, free = (
        {n: v for n, v in params.items() if n.startswith(moving) == own} for own in (False, True)
    )
    sizes = step_sizes(params, 0.0) | step_sizes(free, 0.05)

    def after(start):
        adapted, *_ = inner_loop(learner, SGD, fixed | start, {}, support, sizes)
        return learner.loss(adapted, query)

    meta = grad(after)(free)
    plain = grad(lambda start: learner.loss(fixed | start, query))(free)
    direction = {n: torch.sign(v) for n, v in meta.items()}
    step = 2e-3
    moved = [{n: v + sign * step * direction[n] for n, v in free.items()} for sign in (1, -1)]
    with torch.no_grad():
        slope = (after(moved[0]) - after(moved[1])) / (2 * step)
    found = sum((meta[n] * direction[n]).sum() for n in meta)
    assert float(found) == pytest.approx(float(slope), rel=0.01)
    first_order = sum((plain[n] * direction[n]).sum() for n in meta)
    assert abs(float(first_order - found)) > 0.05 * abs(float(found))


def test_it_asks_for_what_its_loss_needs(learner, params, make_batch):
    batch = make_batch()
    asked = {name: batch[name] for name in (*learner.experience.fields, "weight")}
    drawn = learner.inputs({"weight": np.ones((1, 5), np.float32)}, np.random.default_rng(0))
    ready = asked | {n: torch.from_numpy(v[0]) for n, v in drawn.items()}
    assert torch.isfinite(learner.loss(params, ready))
    assert batch["reward"].shape[-1] == learner.segment == 3
    assert learner.experience.sees_reference
    assert learner.experience.past_end  # as test_an_end_cuts_off_what_comes_after shows it may


@pytest.mark.parametrize(
    ("setting", "word"), [({"gamma": 1.0}, "gamma"), ({"n_step": 0}, "n_step")]
)
def test_a_config_without_sense_is_refused(setting, word):
    with pytest.raises(ValueError, match=word):
        ActorCriticConfig(**setting)


def test_a_choice_is_learned_by_double_dqn_and_the_rest_by_td3(robot):
    config = ActorCriticConfig(hidden=(4,))
    assert type(make_learner(robot, config, NORMALISER)) is ActorCriticLearner
    choice = Signal(joint="lift", quantity="effort", unit="choice", low=0.0, high=2.0)
    one = robot.model_copy(update={"actions": (choice,)})
    alone = dataclasses.replace(
        NORMALISER,
        **{n: getattr(NORMALISER, n)[:1] for n in ("action_mean", "action_std", "offset_std")},
    )
    assert type(make_learner(one, config, alone)) is DoubleDqnLearner
    two = robot.model_copy(update={"actions": (choice, robot.actions[1])})
    with pytest.raises(ValueError, match=r"'lift.effort' is a choice; only a single choice"):
        make_learner(two, config, NORMALISER)


def test_td3_learns_to_bring_a_point_to_its_goal(generator):
    position = Signal(joint="point", quantity="position", unit="m", low=-4.0, high=4.0)
    point = RobotSpec(
        name="point",
        control_period_s=0.1,
        observations=(position,),
        actions=(Signal(joint="point", quantity="effort", unit="N", low=-1.0, high=1.0),),
        references=(position,),
    )
    rng, n = np.random.default_rng(0), 4000
    x, goal = rng.uniform(-2, 2, (2, n, 1)).astype(np.float32)
    action = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    after = x + 0.3 * action
    reward = -np.abs(after - goal)[:, 0]
    normaliser = PolicyNormaliser.fit(point, x, goal, action, reward)
    config = ActorCriticConfig(hidden=(32,), gamma=0.8, n_step=1, tau=0.05)
    learner = make_learner(point, config, normaliser)
    rows = rng.integers(n, size=(400, 64))
    batches = {
        "obs": np.concatenate([x, goal], axis=1)[rows],
        "action": action[rows][..., None, :],
        "next_obs": np.concatenate([after, goal], axis=1)[rows][..., None, :],
        "reward": reward[rows][..., None],
        "terminated": np.zeros((*rows.shape, 1), np.float32),
        "weight": np.ones(rows.shape, np.float32),
    }
    ready = {n: torch.from_numpy(v) for n, v in learner.inputs(batches, rng).items()}
    start, optimizer = learner.init(generator), InnerOptimizer(kind="adam", clip_norm=0.0)

    def distance(params):
        at, goals = torch.full((20, 1), -1.5), torch.linspace(-1.2, 1.2, 20)[:, None]
        for _ in range(15):
            at = at + 0.3 * learner.policy_action(params, at, goals)
        return float((at - goals).abs().mean())

    lr = step_sizes(start, 5e-3)
    trained, *_ = inner_loop(learner, optimizer, start, optimizer.init(start), ready, lr)
    assert distance(start) > 1.0
    assert distance(trained) < 0.15
