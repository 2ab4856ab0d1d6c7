"""reptile_agent.onboard.adapter: it learns a changed robot, in time, and asks the gate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.export.remade import learner_of
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import CHUNK_STEPS
from reptile_agent.transition import Transition


def test_it_predicts_a_changed_robot_better_than_before(adapter, bundle, changed_robot):
    found = adapter.adapt()
    assert found.verdict.accepted, found.verdict.reason
    assert found.evidence.live_after < 0.8 * found.evidence.live_before
    assert found.loss.shape == found.grad_norm.shape == (20,)
    np.testing.assert_array_equal(adapter.in_use, found.parameters)
    # And what comes next, which neither learning nor gate has seen.
    later = {
        "obs": np.concatenate([t.obs for t in changed_robot[80:-1]]),
        "action": np.stack([[a.action[0], b.action[0]] for a, b in pairs(changed_robot[80:])]),
        "next_obs": np.stack(
            [[a.next_obs[0], b.next_obs[0]] for a, b in pairs(changed_robot[80:])]
        ),
    }
    errors = adapter._judging.error
    assert errors(found.parameters, later) < 0.9 * errors(bundle.start, later)


def pairs(transitions: list[Transition]):
    return list(itertools.pairwise(transitions))


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 20, 23])
def test_k_steps_on_board_are_k_steps_in_torch(adapter, bundle, steps):
    seen, inner = {}, adapter._steps

    def spying(origin, batches, lr, *rest):
        seen.update(batches)
        return inner(origin, batches, lr, *rest)

    adapter._steps = spying
    found = adapter.adapt(steps)
    tensors = parameters.views(bundle.start.copy(), bundle.manifest.parameters)
    start = {name: torch.from_numpy(value) for name, value in tensors.items()}
    optimizer = InnerOptimizer(**bundle.manifest.hyperparameters["inner"])
    lr = step_sizes(start, bundle.manifest.adaptation.inner_lr, {"b": 2.0, "context": 1.0})
    batches = {name: torch.from_numpy(value) for name, value in seen.items()}
    assert batches["obs"].shape[:2] == (steps, 32 + 16)
    wanted, _, info = inner_loop(learner_of(bundle), optimizer, start, {}, batches, lr)
    flat = np.concatenate([wanted[name].numpy().ravel() for name in start])
    moved = np.linalg.norm(flat - bundle.start)
    assert np.linalg.norm(found.parameters - flat) < 1e-3 * moved
    np.testing.assert_allclose(found.loss, info["loss"], rtol=1e-3)
    np.testing.assert_allclose(found.grad_norm, info["grad_norm"], rtol=1e-3)


def test_adams_moments_are_carried_across_chunks(adam_bundle_path, changed_robot):
    bundle = Bundle.load(adam_bundle_path)
    adapter = Adapter(bundle, AdaptationConfig(inner_lr=0.003, window=60, holdout=10))
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    seen, inner = {}, adapter._steps

    def spying(origin, batches, lr, *rest):
        seen.update(batches)
        return inner(origin, batches, lr, *rest)

    adapter._steps = spying
    for _ in range(2):  # moments start at zero each time
        found = adapter.adapt(12, start="start")
        tensors = parameters.views(bundle.start.copy(), bundle.manifest.parameters)
        start = {name: torch.from_numpy(value) for name, value in tensors.items()}
        optimizer = InnerOptimizer(**bundle.manifest.hyperparameters["inner"])
        batches = {name: torch.from_numpy(value) for name, value in seen.items()}
        lr = step_sizes(start, 0.003, {"b": 2.0, "context": 1.0})
        state = optimizer.init(start)
        wanted, *_ = inner_loop(learner_of(bundle), optimizer, start, state, batches, lr)
        flat = np.concatenate([wanted[name].numpy().ravel() for name in start])
        moved = np.linalg.norm(flat - bundle.start)
        assert np.linalg.norm(found.parameters - flat) < 0.01 * moved


def test_when_the_time_is_spent_it_stops_stepping(bundle, changed_robot):
    adapter = Adapter(bundle, budget_s=0.0)
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    found = adapter.adapt(50)
    assert found.loss.size == CHUNK_STEPS
    assert np.isfinite(found.parameters).all()


def test_with_time_enough_it_takes_all_steps(bundle, changed_robot):
    adapter = Adapter(bundle, budget_s=60.0)
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    assert adapter.adapt(50).loss.size == 50


def test_it_is_not_ready_before_it_has_seen_enough(bundle, changed_robot):
    adapter = Adapter(bundle)
    assert not adapter.ready
    with pytest.raises(LookupError, match=r"holds 0 transitions: .* collect more first"):
        adapter.adapt()
    ready = []
    for transition in changed_robot:
        adapter.remember(transition)
        ready.append(adapter.ready)
    # held out 10, a segment of 2, and 30 (of a window of 60) to learn from
    assert ready.index(True) == 10 + 2 + 30 - 1
    assert all(ready[41:])
    adapter.adapt()


def test_what_the_gate_refuses_is_not_taken(bundle, changed_robot):
    strict = AdaptationConfig(inner_lr=0.05, window=60, holdout=10, max_distance=1e-4)
    adapter = Adapter(bundle, strict)
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    found = adapter.adapt()
    assert (found.verdict.accepted, found.verdict.word) == (False, "too_far")
    np.testing.assert_array_equal(adapter.in_use, bundle.start)
    assert not np.array_equal(found.parameters, bundle.start)


def test_a_step_size_that_blows_up_is_refused(bundle, changed_robot):
    adapter = Adapter(bundle, AdaptationConfig(inner_lr=9.0, window=60, holdout=10))
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    assert not adapter.adapt().verdict.accepted
    np.testing.assert_array_equal(adapter.in_use, bundle.start)


def test_it_can_go_on_from_the_last_accepted(adapter, bundle):
    origins, inner = [], adapter._steps

    def spying(origin, *rest):
        origins.append(origin.copy())
        return inner(origin, *rest)

    adapter._steps = spying
    first = adapter.adapt(start="last")
    assert first.verdict.accepted
    adapter.adapt(start="last")
    adapter.adapt(start="start")
    np.testing.assert_array_equal(origins[0], bundle.start)
    np.testing.assert_array_equal(origins[1], first.parameters)
    np.testing.assert_array_equal(origins[2], bundle.start)


def test_it_compares_with_what_its_owner_says_drives_the_robot(adapter, bundle):
    accepted = adapter.adapt()
    assert accepted.verdict.accepted
    again = adapter.adapt()
    assert again.evidence.live_before == pytest.approx(accepted.evidence.live_after)
    adapter.in_use = bundle.start  # the controller rolled back
    later = adapter.adapt()
    assert later.evidence.live_before == pytest.approx(accepted.evidence.live_before)


def test_the_gate_judges_on_what_learning_did_not_see(adapter, changed_robot):
    seen, inner = {}, adapter._steps

    def spying(origin, batches, *rest):
        seen.update(batches)
        return inner(origin, batches, *rest)

    adapter._steps = spying
    judged, errors = [], adapter._judging.error

    def judging(flat, batch):
        judged.append(batch)
        return errors(flat, batch)

    adapter._judging.error = judging
    adapter.adapt()
    held = {t.next_obs.tobytes() for t in changed_robot[70:80]}
    drawn = {row.tobytes() for row in seen["next_obs"][:, :32].reshape(-1, 10)}
    assert not held & drawn
    assert {row.tobytes() for row in judged[0]["next_obs"].reshape(-1, 10)} <= held


def test_the_seed_repeats_it(bundle, changed_robot):
    results = []
    for seed in (1, 1, 2):
        adapter = Adapter(bundle, seed=seed)
        for transition in changed_robot[:80]:
            adapter.remember(transition)
        results.append(adapter.adapt().parameters)
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_results_are_not_overwritten_by_the_next_adaptation(adapter):
    first = adapter.adapt()
    kept = first.parameters.copy(), first.loss.copy()
    adapter.adapt()
    np.testing.assert_array_equal(first.parameters, kept[0])
    np.testing.assert_array_equal(first.loss, kept[1])


def test_a_transition_that_is_not_finite_is_not_remembered(adapter, changed_robot):
    bad = changed_robot[80]
    spoilt = Transition(bad.obs * np.nan, bad.action, bad.next_obs, bad.reward, bad.first)
    before = len(adapter.replay)
    with pytest.raises(ValueError, match="obs is not finite"):
        adapter.remember(spoilt)
    assert len(adapter.replay) == before


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(adapter, steps):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        adapter.adapt(steps)


def test_a_start_that_does_not_exist_is_refused(adapter):
    with pytest.raises(ValueError, match="start must be 'start' or 'last', got 'latest'"):
        adapter.adapt(start="latest")


def filled(adapter: Adapter, transitions: list[Transition]) -> Adapter:
    for transition in transitions[:80]:
        adapter.remember(transition)
    return adapter


def test_of_two_recencies_it_takes_what_predicts_better(bundle, changed_robot):
    """Each way round: a memory that is as good as none loses to the one that learns."""
    for tau, fast_tau in ((30.0, 1e-3), (1e-3, 30.0)):
        config = bundle.manifest.adaptation.model_copy(update={"tau": tau, "fast_tau": fast_tau})
        adapter = filled(Adapter(bundle, config), changed_robot)
        told: dict[int, float] = {}
        found = adapter.adapt(tell=told.__setitem__)
        assert found.tau == 30.0
        assert [*told] == [*range(2 * config.inner_steps)]
        assert found.steps == config.inner_steps


@pytest.mark.parametrize("start", ["start", "last"])
def test_what_leaves_the_projections_radius_is_pulled_back_before_the_gate(
    bundle, changed_robot, start
):
    """From wherever it begins: the radius is measured from the bundle's start."""
    in_use = bundle.start + np.float32(1e-3)

    def adapted(config: AdaptationConfig) -> Adaptation:
        adapter = filled(Adapter(bundle, config), changed_robot)
        adapter.in_use = in_use.copy()
        return adapter.adapt(start=start)

    config = bundle.manifest.adaptation
    far = adapted(config)
    distance = far.evidence.distance
    found = adapted(config.model_copy(update={"projection_radius": distance / 4}))
    wanted = bundle.start + (far.parameters - bundle.start) / 4
    np.testing.assert_allclose(found.parameters, wanted, atol=1e-6 * distance)
    assert found.evidence.distance == pytest.approx(distance / 4, rel=1e-5)
    assert found.verdict.figures["distance"] == found.evidence.distance


def test_no_time_for_the_second_recency_leaves_the_first(bundle, changed_robot):
    config = bundle.manifest.adaptation.model_copy(update={"fast_tau": 5.0})
    adapter = filled(Adapter(bundle, config, budget_s=0.0), changed_robot)
    found = adapter.adapt()
    assert (found.tau, found.steps, found.stop) == (config.tau, 1, "deadline")
