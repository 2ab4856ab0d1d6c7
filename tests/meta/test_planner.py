"""reptile_agent.meta.planner: it drives a robot it knows to where it should be, within limits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.planner import Planner, PlannerConfig
from reptile_agent.spec import RobotSpec


@dataclass(frozen=True)
class Known:
    """A perfect model: lift goes 30 % of the way to its command, wheel turns by 0.2 of effort."""

    robot: RobotSpec
    config: DynamicsConfig = field(default_factory=lambda: DynamicsConfig((4,), 2, 1))
    bias: float = 0.0
    """The robot ends up that much below its command."""
    split: float = 0.0
    """How far the members' predictions lie apart."""

    def predict(self, params: dict[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
        apart = self.split * torch.arange(obs.shape[0]).reshape(-1, 1, 1) * action.abs()
        lift = obs[..., :1] + 0.3 * (action[..., :1] - self.bias - obs[..., :1])
        return torch.cat([lift, obs[..., 1:] + 0.2 * action[..., 1:]], dim=-1) + apart

    def disagreement(self, predicted: Tensor) -> Tensor:
        return (predicted - predicted.mean(0)).square().mean((0, -1))


def reward(obs: Tensor, action: Tensor, after: Tensor, reference: Tensor) -> Tensor:
    """Lift on its reference and wheel at 1."""
    return -(after[..., 0] - reference[..., 0]).square() - (after[..., 1] - 1.0).square()


def make_planner(robot, samples=256, horizon=6, known=None, **config) -> Planner:
    settings = PlannerConfig(horizon=horizon, noise=(0.3, 1.0), samples=samples, **config)
    return Planner(known or Known(robot), settings, reward)


def drive(planner, target: float, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measurements and actions [steps, ...] in a world that is as the model says."""
    generator = torch.Generator().manual_seed(seed)
    obs, plan = torch.zeros(2), torch.zeros(planner.config.horizon, 2)
    reference = torch.full((planner.config.horizon, 1), target)
    seen, done = [], []
    for _ in range(steps):
        noise = torch.randn(planner.noise_shape, generator=generator)
        action, plan, expected = planner({}, obs, reference, plan, noise)
        obs = planner.learner.predict({}, obs[None, None], action[None, None])[0, 0]
        torch.testing.assert_close(expected, obs)
        seen.append(obs)
        done.append(action)
    return torch.stack(seen).numpy(), torch.stack(done).numpy()


def test_it_drives_to_the_reference(robot):
    seen, _ = drive(make_planner(robot), target=0.5, steps=40)
    assert np.abs(seen[-10:, 0] - 0.5).mean() < 0.05
    assert np.abs(seen[-10:, 1] - 1.0).mean() < 0.1


def test_it_makes_up_for_a_servo_that_falls_short_by_what_the_model_knows(robot):
    seen, done = drive(make_planner(robot, known=Known(robot, bias=0.3)), target=0.5, steps=60)
    assert np.abs(seen[-10:, 0] - 0.5).mean() < 0.1  # passed through it would stay 0.3 below
    assert done[-10:, 0].mean() > 0.65


def test_actions_keep_to_their_limits(robot):
    _, done = drive(make_planner(robot), target=1.9, steps=30)
    low, high = np.array([[-1.0, -3.0], [1.0, 3.0]], np.float32)
    assert (done >= low).all()
    assert (done <= high).all()
    assert done[:, 0].max() > 0.9


def test_nothing_beyond_the_limits_is_even_planned(robot):
    planner = make_planner(robot)
    noise = torch.randn(planner.noise_shape, generator=torch.Generator().manual_seed(0))
    reference, plan = torch.full((6, 1), 1.9), torch.zeros(6, 2)
    _, new_plan, _ = planner({}, torch.zeros(2), reference, plan, 5 * noise)
    planned = new_plan + torch.tensor([1.9, 0.0])
    assert (planned.abs() <= torch.tensor([1.0, 3.0]) + 1e-5).all()


def test_without_noise_the_plan_moves_up_by_one_period(robot):
    planner = make_planner(robot, samples=4)
    plan = torch.tensor([[0.1, 1.0], [0.2, -1.0], [0.0, 0.5], [-0.1, 0.0], [0.3, 2.0], [-0.2, 1.5]])
    reference = torch.linspace(-0.4, 0.4, 6)[:, None]
    action, new_plan, _ = planner(
        {}, torch.zeros(2), reference, plan, torch.zeros(planner.noise_shape)
    )
    torch.testing.assert_close(new_plan, torch.cat([plan[1:], plan[-1:]]))
    torch.testing.assert_close(action, torch.tensor([-0.4 + 0.2, -1.0]))


def test_a_plan_is_kept_relative_to_what_the_reference_commands(robot):
    planner = make_planner(robot, samples=4)
    at_rest = (torch.zeros(6, 2), torch.zeros(planner.noise_shape))
    for target in (-0.3, 0.6):
        action, *_ = planner({}, torch.zeros(2), torch.full((6, 1), target), *at_rest)
        torch.testing.assert_close(action, torch.tensor([target, 0.0]))


def test_one_sample_is_the_last_plan_itself(robot):
    # All other samples are hopeless, so that nothing but the last plan may weigh.
    planner = make_planner(robot, samples=16, temperature=0.01)
    noise = torch.full(planner.noise_shape, 50.0)
    reference = torch.zeros(6, 1)
    plan = torch.zeros(6, 2)
    plan[:, 1] = 0.5
    _, new_plan, _ = planner({}, torch.zeros(2), reference, plan, noise)
    torch.testing.assert_close(new_plan, plan, atol=1e-4, rtol=1e-4)


def test_doubt_keeps_it_where_the_members_agree(robot):
    # Members agree where nothing is commanded, and lie far apart elsewhere.
    efforts = []
    for doubt in (0.0, 100.0):
        known = Known(robot, split=0.2)
        planner = make_planner(robot, known=known, doubt=doubt)
        generator = torch.Generator().manual_seed(0)
        plan = torch.zeros(6, 2)
        for _ in range(5):
            noise = torch.randn(planner.noise_shape, generator=generator)
            action, plan, _ = planner({}, torch.zeros(2), torch.zeros(6, 1), plan, noise)
        efforts.append(abs(float(action[1])))
    assert efforts[1] < 0.5 * efforts[0]


def test_a_rough_plan_costs_what_its_changes_say(robot):
    planner = make_planner(robot, samples=2, horizon=3)
    offsets = torch.tensor([[[0.3, 0.0], [0.3, 0.0], [0.3, 2.0]], [[0.0, 0.0]] * 3])
    found = planner._roughness(offsets, torch.zeros(1, 2))
    torch.testing.assert_close(found, torch.tensor([(1.0 + 4.0) / 6, 0.0]))


def test_noise_is_coloured_as_its_correlation_says(robot):
    planner = make_planner(robot, correlation=0.7)
    colour = planner._constants["colour"]
    lag = torch.arange(6)[:, None] - torch.arange(6)
    torch.testing.assert_close(colour @ colour.T, 0.7 ** lag.abs().float())


@pytest.mark.parametrize("shape", ["action", "plan", "expected"])
def test_shapes(robot, shape):
    planner = make_planner(robot, samples=5)
    found = planner({}, torch.zeros(2), torch.zeros(6, 1), torch.zeros(6, 2), torch.zeros(5, 6, 2))
    wanted = {"action": (2,), "plan": (6, 2), "expected": (2,)}
    assert dict(zip(wanted, (tuple(f.shape) for f in found)))[shape] == wanted[shape]
