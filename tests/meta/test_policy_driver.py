"""reptile_agent.meta.policy_driver: a policy in a planner's place."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.func import vmap

from reptile_agent.meta.driver import Driver
from reptile_agent.meta.policy_driver import PolicyDriver
from reptile_agent.spec import RobotSpec


@dataclass(frozen=True)
class Linear:
    """Acts by a matrix."""

    robot: RobotSpec

    def policy_action(self, params, obs, reference):
        return torch.cat([obs, reference], dim=-1) @ params["w"]

    def action_value(self, params, obs, reference, action):
        return (obs + reference).sum(-1) - (action * params["price"]).sum(-1)


@pytest.fixture
def driver(robot) -> PolicyDriver:
    return PolicyDriver(Linear(robot), exploration=(0.3, 1.0))


def test_it_does_what_the_policy_says_to_the_reference_of_now(driver, robot):
    as_driver: Driver = driver
    assert (as_driver.robot, as_driver.horizon, as_driver.exploration) == (robot, 1, (0.3, 1.0))
    params = {"w": torch.tensor([[1.0, 0.0], [10.0, 0.0], [0.0, 100.0]])}
    obs, reference, plan = torch.tensor([1.0, 2.0]), torch.tensor([[3.0]]), torch.ones(1, 2)
    action, new_plan, expected = driver(
        params, obs, reference, plan, torch.zeros(driver.noise_shape)
    )
    assert action.tolist() == [21.0, 300.0]
    torch.testing.assert_close(new_plan, action[None])
    torch.testing.assert_close(expected, obs)


def test_what_it_would_do_is_worth_what_the_learner_says(driver):
    params, plans = {"price": torch.tensor([1.0, 10.0])}, torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    found = driver.value(params, torch.tensor([1.0, 2.0]), torch.tensor([[3.0]]), plans)
    assert found.tolist() == [9.0 - 1.0, 9.0 - 20.0]


def test_every_lane_may_have_parameters_of_its_own(driver, generator):
    params = {"w": torch.randn(4, 3, 2, generator=generator)}
    obs, reference = torch.randn(4, 2, generator=generator), torch.zeros(4, 1, 1)
    noise = torch.zeros(4, *driver.noise_shape)
    action, plan, expected = vmap(driver)(params, obs, reference, torch.zeros(4, 1, 2), noise)
    assert plan.shape == (4, 1, 2)
    torch.testing.assert_close(expected, obs)
    for lane in range(4):
        torch.testing.assert_close(action[lane], obs[lane] @ params["w"][lane, :2])
