"""reptile_agent.meta.learners.model_policy: a policy that follows the model, never the reverse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, inner_loop, step_sizes
from reptile_agent.meta.learners.dynamics import DynamicsConfig, DynamicsLearner, Normaliser
from reptile_agent.meta.learners.model_policy import ModelPolicyConfig, ModelPolicyLearner
from reptile_agent.meta.learners.policy_features import PolicyNormaliser

SMALL = ModelPolicyConfig(
    hidden=(8,), members=3, segment=2, policy_hidden=(8,), horizon=4, smoothness=0.3, doubt=0.2
)


def reward(obs: Tensor, action: Tensor, after: Tensor, reference: Tensor) -> Tensor:
    """Lift on its reference and wheel at 1."""
    return -(after[..., 0] - reference[..., 0]).square() - (after[..., 1] - 1.0).square()


def move(obs: np.ndarray, action: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """The robot: lift goes 30 % of the way to `gain` times its command, wheel by 0.2 of effort."""
    lift = obs[..., 0] + 0.3 * (gain * action[..., 0] - obs[..., 0])
    return np.stack([lift, obs[..., 1] + 0.2 * action[..., 1]], axis=-1)


def course(rng: np.random.Generator, robots: int, steps: int) -> np.ndarray:
    """References [robots, steps, 1]: slow sinusoids well inside the limits."""
    phase, hz = rng.uniform(0, 2 * np.pi, (robots, 1)), rng.uniform(0.01, 0.04, (robots, 1))
    return 0.4 * np.sin(phase + 2 * np.pi * hz * np.arange(steps))[..., None]


def segments(rng: np.random.Generator, rows: int, segment: int, gain: float = 1.0) -> dict:
    """Random states and excited actions, float32 arrays [rows, ...]."""
    reference = course(rng, rows, segment + 1)
    obs = np.stack([rng.uniform(-0.6, 0.6, rows), rng.uniform(0, 2, rows)], axis=-1)
    states, actions = [obs], []
    for t in range(segment):
        base = np.stack([reference[:, t, 0], np.zeros(rows)], axis=-1)
        actions.append(base + rng.normal(0, [0.3, 1.0], (rows, 2)))
        states.append(move(states[-1], actions[-1], gain))
    seen = np.concatenate([np.stack(states, axis=1), reference], axis=-1)
    arrays = {
        "obs": seen[:, 0],
        "action": np.stack(actions, axis=1),
        "next_obs": seen[:, 1:],
        "weight": np.ones(rows),
    }
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def minibatches(learner, rng, steps, rows, gain=1.0, of=None, first_step=0) -> dict[str, Tensor]:
    """Minibatches [steps, rows, ...] drawn from `of` transitions."""
    pool = segments(rng, of or steps * rows, learner.config.segment, gain)
    at = rng.integers(pool["weight"].size, size=(steps, rows))
    batch = learner.inputs({name: v[at] for name, v in pool.items()}, rng, first_step)
    return {name: torch.from_numpy(value) for name, value in batch.items()}


def make_learner(robot, config=SMALL, rng=None) -> ModelPolicyLearner:
    data = segments(rng or np.random.default_rng(0), 400, 1)
    obs, reference = data["obs"][:, :2], data["obs"][:, 2:]
    action, after = data["action"][:, 0], data["next_obs"][:, 0, :2]
    rewards = reward(*(torch.from_numpy(x) for x in (obs, action, after, reference))).numpy()
    return ModelPolicyLearner(
        robot,
        config,
        Normaliser.fit(robot, obs, action, after),
        PolicyNormaliser.fit(robot, obs, reference, action, rewards),
        reward,
    )


@pytest.fixture
def learner(robot) -> ModelPolicyLearner:
    return make_learner(robot)


def perturbed(learner, generator) -> dict[str, Tensor]:
    return {
        name: value + 0.2 * torch.randn(value.shape, generator=generator)
        for name, value in learner.init(generator).items()
    }


@pytest.fixture
def params(learner, generator):
    return perturbed(learner, generator)


@pytest.fixture
def batch(learner):
    one = minibatches(learner, np.random.default_rng(1), 1, 6, first_step=5)
    return {name: value[0] for name, value in one.items()}


def of(prefix: str, grads: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in grads.items() if name.startswith(prefix)}


def test_what_the_policy_wishes_teaches_the_model_nothing(learner, params, batch):
    grads = grad(lambda p: learner.policy_cost(p, batch).mean())(params)
    assert all((value == 0).all() for value in of("model.", grads).values())
    assert all((value != 0).any() for value in of("policy.", grads).values())


def test_the_models_part_of_the_loss_is_that_of_the_dynamics_learner(learner, params, batch):
    alone = DynamicsLearner(
        learner.robot,
        DynamicsConfig(SMALL.hidden, SMALL.members, SMALL.segment),
        learner.normaliser,
    )
    model = {n.removeprefix("model."): v for n, v in of("model.", params).items()}
    measured = batch | {name: batch[name][..., :2] for name in ("obs", "next_obs")}
    without = batch | {"policy_weight": torch.zeros(6)}
    torch.testing.assert_close(learner.loss(params, without), alone.loss(model, measured))
    torch.testing.assert_close(
        learner.prediction_error(params, batch), alone.prediction_error(model, measured)
    )
    found = of("model.", grad(learner.loss)(params, batch))
    for name, value in grad(alone.loss)(model, measured).items():
        torch.testing.assert_close(found[f"model.{name}"], value)


def test_weights_of_segments_count_for_the_policy_too(learner, params, batch):
    share = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.5, 1.5])
    weighted = batch | {"weight": share, "policy_weight": torch.full((6,), 3.0)}
    without = weighted | {"policy_weight": torch.zeros(6)}
    found = learner.loss(params, weighted) - learner.loss(params, without)
    torch.testing.assert_close(found, 3 * (share * learner.policy_cost(params, batch)).mean())


def test_the_policys_cost_is_that_of_rolling_it_out_by_hand(learner, params, batch):
    scale = torch.from_numpy(learner.policy_normaliser.reward_scale)
    model = {n.removeprefix("model."): v for n, v in of("model.", params).items()}
    followed = torch.cat([batch["obs"][:, None, 2:], batch["next_obs"][..., 2:]], dim=1)
    total, state = torch.zeros(6), batch["obs"][:, :2].expand(3, 6, 2)
    plain = make_learner(learner.robot, dataclasses.replace(SMALL, smoothness=0.0))
    for t in (0, 1, 2, 2):  # recorded for a segment of two and where it ended, then held
        reference = followed[:, t].expand(3, 6, 1)
        action = learner.policy_action(params, state, reference)
        after = learner.model.predict(model, state, action)
        total -= (reward(state, action, after, reference) / scale).mean(0)
        total += 0.2 * learner.model.disagreement(after)
        state = after
    torch.testing.assert_close(plain.policy_cost(params, batch), total / 4)


def test_an_action_is_worth_its_rollout_in_which_the_policy_goes_on(learner, params, batch):
    scale = torch.from_numpy(learner.policy_normaliser.reward_scale)
    plain = make_learner(learner.robot, dataclasses.replace(SMALL, smoothness=0.0))
    obs, aim = batch["obs"][:, :2], batch["obs"][:, 2:]
    stays = torch.cat([batch["next_obs"][..., :2], aim[:, None].expand(6, 2, 1)], dim=-1)
    held = batch | {"next_obs": stays}
    own = learner.policy_action(params, obs, aim)
    found = learner.action_value(params, obs, aim, own)
    torch.testing.assert_close(found, -scale * plain.policy_cost(params, held))
    other = own + 0.3
    model = {n.removeprefix("model."): v for n, v in of("model.", params).items()}
    total, state, action = torch.zeros(6), obs.expand(3, 6, 2), other.expand(3, 6, 2)
    for _ in range(4):
        after = learner.model.predict(model, state, action)
        total += reward(state, action, after, aim).mean(0)
        total -= 0.2 * scale * learner.model.disagreement(after)
        state, action = after, learner.policy_action(params, after, aim.expand(3, 6, 1))
    torch.testing.assert_close(learner.action_value(params, obs, aim, other), total / 4)


def test_only_a_policy_that_changes_its_mind_pays_for_smoothness(robot, learner, batch, generator):
    rough = make_learner(robot, dataclasses.replace(SMALL, smoothness=100.0))
    steady = learner.init(generator)
    torch.testing.assert_close(rough.policy_cost(steady, batch), learner.policy_cost(steady, batch))
    moving = perturbed(learner, generator)
    assert (rough.policy_cost(moving, batch) > learner.policy_cost(moving, batch)).all()


def test_the_policys_gradient_is_that_of_finite_differences(learner, params, batch, generator):
    grads = of("policy.", grad(lambda p: learner.policy_cost(p, batch).mean())(params))
    way = {name: torch.randn(value.shape, generator=generator) for name, value in grads.items()}

    def cost(step: float) -> float:
        moved = params | {name: params[name] + step * way[name] for name in way}
        return float(learner.policy_cost(moved, batch).double().mean())

    numeric = (cost(3e-3) - cost(-3e-3)) / 6e-3
    exact = float(sum((grads[name] * way[name]).sum() for name in way))
    assert exact == pytest.approx(numeric, rel=2e-3)


def test_tasks_side_by_side_adapt_as_one_by_one(learner, params):
    rng = np.random.default_rng(2)
    tasks = [minibatches(learner, rng, 3, 5, gain, first_step=4) for gain in (0.7, 1.0, 1.3)]
    together = {name: torch.stack([t[name] for t in tasks]) for name in tasks[0]}
    lr = step_sizes(params, 0.1)
    optimizer = InnerOptimizer("adam")
    adapted, _ = adapt_tasks(learner, optimizer, params, together, lr)
    for i, task in enumerate(tasks):
        alone, _, _ = inner_loop(learner, optimizer, params, optimizer.init(params), task, lr)
        for name, value in alone.items():
            torch.testing.assert_close(adapted[name][i], value, atol=2e-5, rtol=1e-3)


def test_the_gradient_through_the_inner_loop_is_that_of_finite_differences(
    learner, params, batch, generator
):
    steps = minibatches(learner, np.random.default_rng(3), 3, 5, first_step=4)
    lr, optimizer = step_sizes(params, 0.1), InnerOptimizer(clip_norm=0)

    def after(start: dict[str, Tensor]) -> Tensor:
        adapted, _, _ = inner_loop(learner, optimizer, start, optimizer.init(start), steps, lr)
        return learner.loss(adapted, batch)

    grads = of("policy.", grad(after)(params))
    way = {name: torch.randn(value.shape, generator=generator) for name, value in grads.items()}
    moved = [
        float(after(params | {n: params[n] + step * way[n] for n in way}).double())
        for step in (-3e-3, 3e-3)
    ]
    exact = float(sum((grads[name] * way[name]).sum() for name in way))
    assert exact == pytest.approx((moved[1] - moved[0]) / 6e-3, rel=5e-3)


def test_the_model_learns_alone_in_the_first_steps(learner):
    rng = np.random.default_rng(0)
    found = learner.inputs({"weight": np.ones((2, 7, 3), np.float32)}, rng)
    assert found["policy_weight"].shape == (2, 7, 3)
    assert found["policy_weight"].dtype == np.float32
    assert found["policy_weight"][1, :, 2].tolist() == [0, 0, 0, 0, 0, 1, 1]
    later = learner.inputs({"weight": np.ones((7, 3), np.float32)}, rng, first_step=4)
    assert later["policy_weight"][:, 0].tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_the_policy_stands_still_in_the_models_steps(learner, params):
    steps = minibatches(learner, np.random.default_rng(3), 5, 5)
    optimizer = InnerOptimizer()
    adapted, _, _ = inner_loop(learner, optimizer, params, {}, steps, step_sizes(params, 0.1))
    assert all(torch.equal(adapted[name], value) for name, value in of("policy.", params).items())
    assert not torch.equal(adapted["model.w0"], params["model.w0"])


def test_a_fresh_policy_passes_the_command_through_and_leaves_motors_at_rest(learner, generator):
    obs = torch.tensor([[0.3, 0.7], [-0.5, 0.1]])
    action = learner.policy_action(learner.init(generator), obs, torch.tensor([[0.6], [-0.2]]))
    torch.testing.assert_close(action, torch.tensor([[0.6, 0.0], [-0.2, 0.0]]))


def test_actions_keep_to_their_limits(learner, params):
    wild = {name: 30 * value for name, value in params.items()}
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    action = learner.policy_action(wild, rows[:, :2], rows[:, 2:])
    assert (action.abs() <= torch.tensor([1.0, 3.0])).all()
    assert (action.abs() > torch.tensor([0.9, 2.7])).any(dim=0).all()


def test_it_expects_what_its_members_expect_on_average(learner, params):
    obs, action = torch.tensor([0.3, 0.7]), torch.tensor([0.5, -1.0])
    model = {n.removeprefix("model."): v for n, v in of("model.", params).items()}
    each = learner.model.predict(model, obs.expand(3, 1, 2), action.expand(3, 1, 2))
    torch.testing.assert_close(learner.expected(params, obs, action), each.mean((0, 1)))
    rows = vmap(learner.expected, in_dims=(None, 0, 0))(params, obs[None], action[None])
    torch.testing.assert_close(rows[0], each.mean((0, 1)))


def test_a_robot_that_chooses_is_sent_elsewhere(robot):
    choice = robot.actions[1].model_copy(update={"unit": "choice", "low": 0.0, "high": 2.0})
    chooser = robot.model_copy(update={"actions": (choice,)})
    with pytest.raises(ValueError, match="'toy' has a choice as its action"):
        ModelPolicyLearner(chooser, SMALL, None, None, reward)


def test_a_rollout_of_no_period_is_refused():
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        ModelPolicyConfig(horizon=0)


def tracking(learner, params, gain: float) -> float:
    """Mean reward per period of the policy on the true robot."""
    reference = course(np.random.default_rng(9), 20, 60).astype(np.float32)
    obs, rewards = np.tile(np.float32([0.0, 0.5]), (20, 1)), []
    for t in range(60):
        now = torch.from_numpy(reference[:, t])
        action = learner.policy_action(params, torch.from_numpy(obs), now)
        after = move(obs, action.numpy(), gain).astype(np.float32)
        rewards.append(reward(torch.from_numpy(obs), action, torch.from_numpy(after), now))
        obs = after
    return float(torch.stack(rewards[10:]).mean())


def test_it_learns_to_track_and_makes_up_for_a_weaker_servo_from_fifty_transitions(
    robot, generator
):
    config = ModelPolicyConfig(
        hidden=(32,), segment=2, policy_hidden=(32,), horizon=4, model_steps=30, smoothness=0.05
    )
    rng = np.random.default_rng(0)
    learner = make_learner(robot, config, rng)
    fresh, optimizer = learner.init(generator), InnerOptimizer("adam")
    lr = step_sizes(fresh, 0.01)
    steps = minibatches(learner, rng, 150, 48)
    start, _, _ = inner_loop(learner, optimizer, fresh, optimizer.init(fresh), steps, lr)
    healthy = tracking(learner, start, 1.0)
    assert healthy > -2e-3  # a fresh policy gets -0.26, and no policy more than 0
    assert tracking(learner, fresh, 1.0) < -0.1

    steps = minibatches(learner, rng, 50, 32, gain=0.6, of=50, first_step=20)
    adapted, _, _ = inner_loop(learner, optimizer, start, optimizer.init(start), steps, lr)
    lost = healthy - tracking(learner, start, 0.6)
    assert lost > 2e-3
    assert healthy - tracking(learner, adapted, 0.6) < 0.5 * lost
