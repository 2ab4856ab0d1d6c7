"""When an adaptation ends early, is refused or is called off, and what stays in use then."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.transition import Transition


def filled(adapter: Adapter, transitions: list[Transition]) -> Adapter:
    for transition in transitions[:80]:
        adapter.remember(transition)
    return adapter


def test_between_all_steps_the_clock_is_looked_at(bundle, changed_robot, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("reptile_agent.onboard.inner_steps.time.monotonic", lambda: next(now))
    adapter = Adapter(bundle, budget_s=3.5)
    for transition in changed_robot[:80]:
        adapter.remember(transition)
    # It begins at 0; the clock shows 1, 2 and 3 after the steps one, two and three, then 4.
    found = adapter.adapt(50)
    assert (found.stop, found.steps) == ("deadline", 4)
    assert found.verdict.word != "cancelled", "the gate judges what there is"
    assert np.isfinite(found.evidence.live_after)


def test_a_gradient_beyond_its_maximum_stops_it_at_once(bundle, changed_robot):
    config = AdaptationConfig(window=60, holdout=10, max_grad_norm=1e-3)
    found = filled(Adapter(bundle, config), changed_robot).adapt(50)
    assert (found.stop, found.steps, found.verdict.word) == ("diverged", 1, "diverged")
    assert "(max_grad_norm 0.001)" in found.verdict.reason
    assert np.isnan(found.evidence.live_after), "no time is spent on judging it"


def test_a_loss_that_keeps_rising_stops_it(bundle, changed_robot):
    settings = {"inner_lr": 9.0, "window": 60, "holdout": 10}
    found = filled(Adapter(bundle, AdaptationConfig(**settings)), changed_robot).adapt(50)
    rises = np.diff(found.loss) > 0
    first = next(at for at in range(rises.size) if rises[at : at + 2].all()) + 3
    config = AdaptationConfig(**settings, patience=2)
    stopped = filled(Adapter(bundle, config), changed_robot).adapt(50)
    assert (stopped.stop, stopped.steps) == ("diverged", first)
    assert not stopped.verdict.accepted


def test_loss_or_gradient_that_is_not_finite_stops_it(adapter, bundle):
    broken = bundle.start.copy()
    broken[3] = np.nan
    adapter.start = broken
    found = adapter.adapt(20)
    assert (found.stop, found.steps, found.verdict.word) == ("not_finite", 1, "not_finite")
    assert "step 1 is not finite" in found.verdict.reason
    np.testing.assert_array_equal(adapter.in_use, bundle.start)


def test_early_stopping_changes_nothing_where_nothing_is_wrong(bundle, changed_robot):
    watched = bundle.manifest.adaptation.model_copy(update={"max_grad_norm": 1e6, "patience": 19})
    found = [filled(Adapter(bundle, c), changed_robot).adapt() for c in (None, watched)]
    np.testing.assert_array_equal(found[0].parameters, found[1].parameters)
    assert [one.stop for one in found] == ["done", "done"]


@pytest.mark.parametrize("how", ["cancel", "freeze", "rollback", "reset"])
def test_another_thread_can_end_it_between_two_steps(adapter, bundle, how):
    before = adapter.in_use
    reached = threading.Event()
    go_on = threading.Event()

    def tell(step: int, loss: float) -> None:
        if step == 2:
            reached.set()
            assert go_on.wait(10)

    found = []
    thread = threading.Thread(target=lambda: found.append(adapter.adapt(1000, tell=tell)))
    thread.start()
    assert reached.wait(10)
    getattr(adapter, how)()
    go_on.set()
    thread.join(10)
    assert (found[0].stop, found[0].steps) == ("cancelled", 3)
    assert (found[0].verdict.accepted, found[0].verdict.word) == (False, "cancelled")
    np.testing.assert_array_equal(adapter.in_use, before)


def test_cancelled_while_the_gate_looks_it_is_not_taken(adapter, bundle):
    errors = adapter._judging.error

    def slow(flat, batch):
        adapter.cancel()
        return errors(flat, batch)

    adapter._judging.error = slow
    assert adapter.adapt().verdict.word == "cancelled"
    np.testing.assert_array_equal(adapter.in_use, bundle.start)
    adapter._judging.error = errors
    assert adapter.adapt().verdict.accepted, "a cancellation is not for the next"


def test_what_was_learned_is_not_in_use_before_it_is_taken(adapter, bundle):
    found = adapter.learn()
    assert found.verdict.accepted
    np.testing.assert_array_equal(adapter.in_use, bundle.start)
    assert adapter.take(found) is found
    np.testing.assert_array_equal(adapter.in_use, found.parameters)


@pytest.mark.parametrize("how", ["cancel", "freeze", "reset"])
def test_cancelled_between_learning_and_taking_it_is_refused(adapter, bundle, how):
    found = adapter.learn()
    assert found.verdict.accepted
    getattr(adapter, how)()
    taken = adapter.take(found)
    assert (taken.verdict.accepted, taken.verdict.word, taken.stop) == (
        False,
        "cancelled",
        "cancelled",
    )
    np.testing.assert_array_equal(adapter.in_use, bundle.start)


def test_it_can_be_cancelled_before_it_begins(adapter):
    cancelled = threading.Event()
    cancelled.set()
    found = adapter.learn(1000, cancelled=cancelled)
    assert (found.stop, found.steps) == ("cancelled", 0)
    assert adapter.learn().verdict.accepted, "a cancellation is not for the next"


def test_frozen_it_learns_nothing_until_it_is_thawed(adapter, bundle, tmp_path):
    adapter.freeze()
    for call in (
        adapter.adapt,
        lambda: adapter.consolidate(0.5),
        lambda: adapter.restore(tmp_path),
    ):
        with pytest.raises(RuntimeError, match="frozen; thaw it first"):
            call()
    adapter.thaw()
    assert adapter.adapt().verdict.accepted


def test_rollback_puts_back_what_was_in_use_before(adapter, bundle):
    before = bundle.start + np.float32(1e-5)
    adapter.in_use = before
    assert adapter.adapt().verdict.accepted
    assert not np.array_equal(adapter.in_use, before)
    adapter.rollback()
    np.testing.assert_array_equal(adapter.in_use, before)


def test_a_layer_out_of_its_trust_region_is_not_taken(bundle, changed_robot):
    strict = bundle.manifest.adaptation.model_copy(update={"max_layer_distance": 1e-4})
    adapter = filled(Adapter(bundle, strict), changed_robot)
    found = adapter.adapt()
    assert found.verdict.word == "layer_too_far"
    assert {f"layer.{e.name}" for e in bundle.manifest.parameters} <= set(found.verdict.figures)
    np.testing.assert_array_equal(adapter.in_use, bundle.start)
