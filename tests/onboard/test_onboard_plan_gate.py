"""reptile_agent.onboard.plan_gate: the robot judges plans as meta-training's gate does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.export.remade import learner_of, planner_of
from reptile_agent.meta.plan_gate import PlanGate as TorchPlanGate
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.plan_gate import PlanGate
from reptile_agent.task import objective_of
from reptile_agent.transition import Transition

STATES = 4
ERROR = np.array([1.0, 0.9, 0.5])


@pytest.fixture
def seen(bundle) -> list[Transition]:
    """Six transitions of the bundle's robot, one of which starts anew."""
    rng = np.random.default_rng(3)
    robot, plan = bundle.manifest.robot, bundle.manifest.plan
    sizes = (len(robot.observations), len(robot.actions), len(robot.references))

    def some(*shape: int) -> np.ndarray:
        return rng.uniform(-0.3, 0.3, (1, *shape)).astype(np.float32)

    return [
        Transition(
            obs=some(sizes[0]),
            action=some(sizes[1]),
            next_obs=some(sizes[0]),
            reward=np.zeros(1, np.float32),
            first=np.array([number == 4]),
            reference=some(plan.horizon, sizes[2]),
        )
        for number in range(6)
    ]


def other(bundle, seed: int, size: float = 0.05) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(bundle.start.size)
    return bundle.start + np.float32(size) * noise.astype(np.float32)


def gate(bundle, seen, states: int = STATES) -> PlanGate:
    found = PlanGate(bundle, states, seed=7)
    for transition in seen:
        found.see(transition)
    return found


def test_it_says_what_meta_trainings_gate_says(bundle, short_arm, seen):
    old, new = other(bundle, 1), other(bundle, 2)
    start, olds, news = (
        {
            name: torch.from_numpy(value.copy())
            for name, value in parameters.views(flat, bundle.manifest.parameters).items()
        }
        for flat in (bundle.start, old, new)
    )
    planner = planner_of(bundle, learner_of(bundle), objective_of(short_arm))
    torch_gate = TorchPlanGate(planner, start, STATES, np.random.default_rng(7))
    for transition in seen:
        assert transition.reference is not None
        torch_gate.see(transition.obs, transition.reference, transition.first)
    lanes = [{name: value[None] for name, value in side.items()} for side in (olds, news)]
    wanted = torch_gate.gain(*lanes, ERROR[:, None])[0]
    ours = gate(bundle, seen)
    found = ours.gain(old, new, ERROR, ours.seen)
    assert abs(wanted) > 1e-6
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_the_same_parameters_gain_nothing(bundle, seen):
    found = gate(bundle, seen)
    assert found.gain(other(bundle, 1), other(bundle, 2), ERROR, found.seen) != 0
    assert found.gain(other(bundle, 1), other(bundle, 1), ERROR, found.seen) == 0


def test_nothing_seen_nothing_known(bundle, seen):
    assert np.isnan(PlanGate(bundle, STATES).gain(bundle.start, other(bundle, 1), ERROR, []))
    found = gate(bundle, seen)
    found.see(dataclasses.replace(seen[0], reference=None))
    assert not found.seen


@pytest.mark.parametrize("broken", ["shape", "nan"])
def test_a_reference_that_does_not_fit_is_refused(bundle, seen, broken):
    reference = seen[0].reference
    assert reference is not None
    wrong = reference[:, 1:] if broken == "shape" else np.full_like(reference, np.nan)
    found = gate(bundle, seen)
    with pytest.raises(ValueError, match="the reference should be finite numbers of shape"):
        found.check(dataclasses.replace(seen[0], reference=wrong))


def test_a_transition_with_such_a_reference_is_not_remembered_at_all(adapter, changed_robot):
    before, reference = len(adapter.replay), changed_robot[0].reference
    with pytest.raises(ValueError, match="the reference should be"):
        adapter.remember(dataclasses.replace(changed_robot[0], reference=reference[:, 1:]))
    assert len(adapter.replay) == before


def test_asked_for_plans_it_refuses_where_it_saw_nothing_to_follow(adapter, changed_robot):
    adapter.remember(dataclasses.replace(changed_robot[80], reference=None))
    verdict = adapter.adapt().verdict
    assert (verdict.accepted, verdict.word) == (False, "plans_worse")
    assert "nothing was seen to follow" in verdict.reason


def test_the_adapter_asks_it_where_the_configuration_does(bundle, changed_robot):
    for plans in (0, STATES):
        config = AdaptationConfig(inner_steps=2, batch=8, rehearsal=4, plans=plans)
        adapter = Adapter(bundle, config, seed=1)
        rng = np.random.default_rng(0)
        references = len(bundle.manifest.robot.references)
        shape = (1, bundle.manifest.plan.horizon, references)
        for transition in changed_robot:
            reference = rng.uniform(-0.3, 0.3, shape).astype(np.float32)
            adapter.remember(dataclasses.replace(transition, reference=reference))
        figures = adapter.adapt().verdict.figures
        assert ("plan_gain" in figures) == bool(plans)
