"""What an adapter keeps: across restarts, in files, in its start; and no more than it may."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import psutil
import pytest

from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.saved import load_parameters
from reptile_agent.transition import Transition


def filled(adapter: Adapter, transitions: list[Transition]) -> Adapter:
    for transition in transitions[:80]:
        adapter.remember(transition)
    return adapter


def test_what_is_saved_is_restored_through_the_gate(adapter, bundle, changed_robot, tmp_path):
    accepted = adapter.adapt()
    adapter.save(tmp_path / "adapted", version=3)
    about = load_parameters(tmp_path / "adapted", bundle, "adapted").about
    assert about.evidence["live_after"] == accepted.evidence.live_after
    later = Adapter(bundle, seed=1)
    with pytest.raises(LookupError):
        later.restore(tmp_path / "adapted")
    found = filled(later, changed_robot).restore(tmp_path / "adapted")
    assert found.verdict.accepted
    assert found.steps == 0
    np.testing.assert_array_equal(later.in_use, accepted.parameters)
    again = later.restore(tmp_path / "adapted")
    assert again.verdict.word == "not_better", "it is what is in use already"


def test_consolidation_is_one_step_of_reptile(adapter, bundle, tmp_path):
    accepted = adapter.adapt()
    found = adapter.consolidate(0.25)
    assert found.verdict.accepted, found.verdict.reason
    wanted = bundle.start + np.float32(0.25) * (accepted.parameters - bundle.start)
    np.testing.assert_allclose(adapter.start, wanted, rtol=1e-6)
    assert found.evidence.live_before == pytest.approx(accepted.evidence.live_before)
    assert found.evidence.live_after < found.evidence.live_before
    np.testing.assert_array_equal(adapter.in_use, accepted.parameters)
    origins, inner = [], adapter._steps
    adapter._steps = lambda origin, *rest: origins.append(origin.copy()) or inner(origin, *rest)
    adapter.adapt(start="start")
    np.testing.assert_array_equal(origins[0], adapter.start)
    adapter.save_start(tmp_path / "start")
    kept = adapter.start
    adapter.reset()
    np.testing.assert_array_equal(adapter.start, bundle.start)
    np.testing.assert_array_equal(adapter.in_use, bundle.start)
    adapter.restore_start(tmp_path / "start")
    np.testing.assert_array_equal(adapter.start, kept)


def test_a_consolidation_that_predicts_worse_is_refused(adapter, bundle):
    adapter.adapt()
    away = adapter.in_use - bundle.start
    adapter.in_use = bundle.start - away
    found = adapter.consolidate(1.0)
    assert found.verdict.word == "not_better"
    np.testing.assert_array_equal(adapter.start, bundle.start)


def test_consolidating_again_and_again_stays_around_the_bundles_start(bundle, changed_robot):
    limit = 0.3
    near = bundle.manifest.adaptation.model_copy(
        update={"max_distance": limit, "max_layer_distance": None, "start": "start", "plans": 0}
    )
    adapter, refused = filled(Adapter(bundle, near), changed_robot), set()
    for _ in range(12):
        refused.add(adapter.adapt(5).verdict.word)
        if not np.array_equal(adapter.in_use, bundle.start):
            refused.add(adapter.consolidate(1.0).verdict.word)
        assert np.linalg.norm(adapter.start - bundle.start) <= limit
    assert "too_far" in refused, "it would have gone on"


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.01, np.nan])
def test_an_epsilon_out_of_range_is_refused(adapter, epsilon):
    adapter.adapt()
    with pytest.raises(ValueError, match=r"epsilon must be in \(0, 1\]"):
        adapter.consolidate(epsilon)


def test_there_is_nothing_to_consolidate_before_something_is_accepted(adapter):
    with pytest.raises(LookupError, match="adapt first, then consolidate"):
        adapter.consolidate(0.5)


def test_what_is_remembered_survives_a_restart(bundle, changed_robot, tmp_path):
    # What was to be followed is not kept: the gate can ask about plans once the robot moves again.
    config = bundle.manifest.adaptation.model_copy(update={"plans": 0})
    adapter = filled(Adapter(bundle, config, spool=tmp_path), changed_robot)
    adapter.close()
    later = Adapter(bundle, config, spool=tmp_path)
    assert later.replay.restored == len(later.replay) == 72
    assert later.ready
    assert later.adapt().verdict.accepted
    for transition in changed_robot[80:83]:
        later.remember(transition)
    # Two whole pairs of the newest three, none with what came before the restart.
    assert later.replay.latest(4, 2)["obs"].shape[0] == 2


def test_a_hundred_times_the_data_takes_no_more_memory(bundle, changed_robot):
    adapter = filled(Adapter(bundle), changed_robot)
    transitions = itertools.cycle(changed_robot)
    process = psutil.Process()
    for transition in itertools.islice(transitions, 2000):
        adapter.remember(transition)
    before = process.memory_info().rss
    for transition in itertools.islice(transitions, 100_000):
        adapter.remember(transition)
    assert process.memory_info().rss - before < 2 * 2**20
    assert len(adapter.replay) == 72
    assert adapter.adapt().steps == 20


def test_fed_from_another_thread_while_it_adapts_it_sees_whole_transitions(bundle, changed_robot):
    adapter, done = filled(Adapter(bundle), changed_robot), threading.Event()

    def feed() -> None:
        for transition in itertools.cycle(changed_robot):
            if done.is_set():
                return
            adapter.remember(transition)

    thread = threading.Thread(target=feed)
    thread.start()
    whole = {t.obs.tobytes(): t.next_obs.tobytes() for t in changed_robot}
    try:
        for _ in range(20):
            batch = adapter.replay.sample(np.random.default_rng(0), 4, 32, segment=1)
            for obs, after in zip(batch["obs"].reshape(-1, 10), batch["next_obs"].reshape(-1, 10)):
                assert whole[obs.tobytes()] == after.tobytes()
            adapter.adapt(2)
    finally:
        done.set()
        thread.join()
