"""reptile_agent.meta.plan_gate: plans made anew along the last moments, judged by a committee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from reptile_agent.meta.plan_gate import PlanGate
from reptile_agent.spec import RobotSpec, Signal

HORIZON, LANES = 3, 2


def signal(quantity: str) -> Signal:
    return Signal(joint="cart", quantity=quantity, unit="m", low=-9.0, high=9.0)  # type: ignore[arg-type]


ROBOT = RobotSpec(
    name="cart",
    control_period_s=0.1,
    observations=(signal("position"),),
    actions=(signal("velocity"),),
    references=(signal("position"),),
)


@dataclass(frozen=True)
class Cart:
    """A planner by pen and paper: its model is x' = x + gain u, and it goes straight to the aim."""

    robot = ROBOT
    horizon = HORIZON
    noise_shape = (1, HORIZON, 1)

    def __call__(self, params, obs, reference, plan, noise) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.cat([(reference[:1] - obs) / params["gain"], torch.zeros(HORIZON - 1, 1)])
        # Half of what it planned before stays, so that a plan that was carried over shows.
        return kept[0], kept + 0.5 * torch.cat([plan[1:], plan[-1:]]) + 1e-3 * noise[0], obs

    def value(self, params, obs, reference, plan) -> Tensor:
        state, value = obs.expand(plan.shape[0], 1), torch.zeros(plan.shape[0])
        for t in range(HORIZON):
            state = state + params["gain"] * plan[:, t]
            value = value - (state - reference[t]).square().sum(-1) / HORIZON
        return value


def lanes(gain: float | list[float]) -> dict[str, Tensor]:
    values = gain if isinstance(gain, list) else [gain] * LANES
    return {"gain": torch.tensor(values)[:, None]}


def gate(states: int = 4, start: float = 1.0) -> PlanGate:
    found = PlanGate(Cart(), {"gain": torch.tensor([start])}, states, np.random.default_rng(0))  # type: ignore[arg-type]
    for _ in range(6):
        obs, reference = np.zeros((LANES, 1)), np.ones((LANES, HORIZON, 1))
        found.see(*(a.astype(np.float32) for a in (obs, reference)), np.zeros(LANES, bool))
    return found


EQUAL = np.ones((3, LANES))


def test_the_same_parameters_gain_nothing():
    np.testing.assert_array_equal(gate().gain(lanes(0.7), lanes(0.7), EQUAL), [0.0, 0.0])


def test_who_predicts_best_decides_whose_plans_are_better():
    """The start and the old say 1, the new one says 0.5: each believes in its own plan."""
    believed = EQUAL.copy()
    believed[:2] = 100.0
    assert (gate().gain(lanes(1.0), lanes(0.5), believed) > 0.1).all()
    assert (gate().gain(lanes(1.0), lanes(0.5), EQUAL) < -0.1).all()


def test_parameters_that_predict_as_well_but_would_drive_the_wrong_way_are_found_out():
    """Planted: better on paper, by a hair, with the sign of the motor turned."""
    error = np.array([[1.0] * LANES, [1.0] * LANES, [0.9] * LANES])
    assert (gate().gain(lanes(1.0), lanes(-1.0), error) < -0.5).all()


def test_every_lane_is_judged_by_itself():
    gain = gate().gain(lanes(1.0), lanes([1.0, -1.0]), EQUAL)
    assert gain[0] == 0.0
    assert gain[1] < -0.5


def test_a_lane_that_started_anew_carries_no_plan_over():
    def judged(anew: bool) -> np.ndarray:
        found = gate(states=2)
        first = np.array([False, anew])
        found.see(np.zeros((2, 1), np.float32), np.ones((2, HORIZON, 1), np.float32), first)
        return found.gain(lanes(1.0), lanes(0.8), EQUAL)

    carried, anew = judged(False), judged(True)
    assert carried[0] == pytest.approx(anew[0])
    assert carried[1] != pytest.approx(anew[1])


def test_no_more_than_the_last_states_count():
    found = gate(states=2)
    before = found.gain(lanes(1.0), lanes(0.5), EQUAL)
    away = (np.full((LANES, 1), 5.0, np.float32), np.ones((LANES, HORIZON, 1), np.float32))
    for _ in range(2):
        found.see(*away, np.zeros(LANES, bool))
    assert np.abs(found.gain(lanes(1.0), lanes(0.5), EQUAL)).min() > 5 * np.abs(before).max()
