"""Adaptations that go wrong: what is not swapped, what is rolled back, what is called off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import numpy as np

from bench.faults.planted import Driven, better_on_paper, errors, judge_turned
from bench.faults.rig import Rig
from bench.faults.row import Case, Row, Setup, Tally, first_wrong
from bench.machine import rss_mb_now
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.saved import save_parameters
from reptile_agent.transition import Transition

LOG_TICKS = 140
"""Control periods of an undamaged arm that adapters are filled with."""
PLANS = 60
"""Control periods that the plan gate plans along where it has time for many."""
BUDGET_S = 0.05
CALLED_OFF_S = 0.25
"""A cancelled adaptation has ended so soon at the latest: one run of the graph takes less."""
FLOOD = 100_000
"""Transitions of a flood: at 25 Hz a robot makes as many in an hour."""
GROWTH_MB = 4.0
"""Most that a flood may add to the process."""


def filled(setup: Setup, log: list[Transition], **settings: object) -> Adapter:
    """An adapter that has seen the log."""
    config = setup.bundle.manifest.adaptation.model_copy(update=settings)
    adapter = Adapter(setup.bundle, config, seed=setup.seed)
    for transition in log:
        adapter.remember(transition)
    return adapter


def _log(setup: Setup) -> list[Transition]:
    driven = Driven(setup.bundle, setup.seed)
    for _ in range(LOG_TICKS):
        driven.tick()
    return driven.transitions


def _not_finite(setup: Setup, fault: str) -> Row:
    adapter, rng = filled(setup, _log(setup)), setup.rng()
    tally = Tally(setup, setup.count(0.05))
    for trial in range(tally.total):
        broken = setup.bundle.start.copy()
        broken[rng.integers(broken.size)] = (np.nan, np.inf, -np.inf)[trial % 3]
        adapter.start, began = broken, time.perf_counter()
        found = adapter.adapt()
        ms = 1e3 * (time.perf_counter() - began)
        tally.add(_not_swapped(setup, adapter, found.verdict.word, "not_finite"), ms)
    return tally.row(fault, "the start of an adaptation spoiled; the whole adaptation is the time")


def _too_far(setup: Setup, fault: str) -> Row:
    log, tally = _log(setup), Tally(setup, setup.count(0.05))
    loose = filled(setup, log, max_distance=1e9, max_layer_distance=None)
    rig, rng = Rig(setup), setup.rng()
    sha256 = setup.bundle.manifest.start_sha256
    for trial in range(tally.total):
        # Far enough from the start for the one or the other part of the trust region.
        away = rng.standard_normal(setup.bundle.start.size).astype(np.float32)
        flat = setup.bundle.start + np.float32(rng.uniform(4.0, 100.0)) * away / np.linalg.norm(
            away
        )
        save_parameters(setup.folder / "far", setup.bundle, flat, "adapted", trial)
        refused, began = 0, time.perf_counter()
        for refuse in (
            lambda: loose.restore(setup.folder / "far"),
            lambda flat=flat: rig.controller.offer(1, sha256, flat),
        ):
            try:
                refuse()
            except ValueError:
                refused += 1
        ms = 1e3 * (time.perf_counter() - began)
        rig.tick()
        wrong = first_wrong(
            [
                (refused == 2, f"refused by {refused} of adapter and controller"),
                (np.array_equal(loose.in_use, setup.bundle.start), "swapped"),
                (rig.active and rig.controller.version == 0, "swapped"),
            ]
        )
        tally.add(wrong, ms)
    return tally.row(fault, "refused by the adapter and, offered all the same, by the controller")


def _worse(setup: Setup, fault: str) -> Row:
    log, rng = _log(setup), setup.rng()
    adapter, start = filled(setup, log, plans=0), setup.bundle.start
    learned = better_on_paper(setup.bundle, log, setup.seed).parameters - start
    tally = Tally(setup, setup.count(0.05))
    for trial in range(tally.total):
        flat = start + np.float32(rng.uniform(0.3, 1.0)) * learned
        save_parameters(setup.folder / "worse", setup.bundle, flat, "adapted", trial)
        began = time.perf_counter()
        found = adapter.restore(setup.folder / "worse")
        ms = 1e3 * (time.perf_counter() - began)
        worse = found.evidence.live_after > found.evidence.live_before
        wrong = _not_swapped(setup, adapter, found.verdict.word, "not_better", "forgets")
        tally.add(wrong if worse else "the planted ones were not worse", ms)
    return tally.row(
        fault,
        "within the trust region, learned from a log whose encoders read 0.1 rad too far, restored "
        "from a file",
    )


def _not_swapped(setup: Setup, adapter: Adapter, word: str, *words: str) -> str:
    return first_wrong(
        [
            (word in words, f"the gate said '{word}'"),
            (np.array_equal(adapter.in_use, setup.bundle.start), "swapped"),
        ]
    )


def _plans_worse(setup: Setup, fault: str) -> Row:
    tally, log = Tally(setup, setup.count(0.02)), _log(setup)
    actuators = len(setup.bundle.manifest.robot.actions)
    lengths = {setup.bundle.manifest.adaptation.plans: 0, PLANS: 0}
    for trial in range(tally.total):
        actuator, seen = trial % actuators, log[: len(log) - 3 * (trial // actuators) % 60]
        accepted, began = False, time.perf_counter()
        for plans in lengths:
            said = judge_turned(setup.bundle, seen, actuator, plans, setup.seed + trial)
            accepted |= said.measured.accepted
            lengths[plans] += said.plans_alone.word == "plans_worse"
        ms = 1e3 * (time.perf_counter() - began)
        tally.add(f"actuator {actuator} turned was accepted" if accepted else "", ms)
    alone = " and ".join(f"{n} along {plans} periods" for plans, n in lengths.items())
    return tally.row(
        fault,
        "the sign of each actuator in turn turned in the model, trust region set aside; refused by "
        "its error on held-out data already. Were that halved on paper, the plan gate alone would "
        f"find {alone}, of {tally.total}; the time is that of both",
    )


def _worse_in_the_loop(setup: Setup, fault: str) -> Row:
    planted = better_on_paper(setup.bundle, _log(setup), setup.seed)
    before, after = errors(planted)
    tally = Tally(setup, setup.count(0.01))
    sha256, watched = setup.bundle.manifest.start_sha256, 0
    for trial in range(tally.total):
        driven = Driven(setup.bundle, setup.seed + 1 + trial)
        controller = driven.controller
        for _ in range(60):
            driven.tick()
        controller.offer(7, sha256, planted.parameters)
        for _ in range(controller.probation.config.ticks + 2):
            driven.tick()
            watched += controller.version == 7
            if controller.probation.outcome == "rolled_back":
                break
        # The verdict fell in this tick: its own command is already that of the last good ones.
        last_good = np.array_equal(controller.policy.parameters, setup.bundle.start)
        ms = 1e3 * driven.wall_s
        driven.tick()
        wrong = first_wrong(
            [
                (controller.rollbacks == 1, f"{controller.rollbacks} roll-backs"),
                (last_good and controller.version == 0, "others than the last good ones drive"),
                (controller.mode == "active", f"fallback: {controller.reason}"),
            ]
        )
        tally.add(wrong, ms)
    return tally.row(
        fault,
        f"learned from a log whose encoders read 0.1 rad too far (error there {before:.3g} -> "
        f"{after:.3g}), on the simulated arm; verdict after "
        f"{watched / max(1, tally.trials) + 1:.1f} periods on average; the time is that of the "
        "tick in which it falls, last good parameters and command included",
    )


def _over_budget(setup: Setup, fault: str) -> Row:
    adapter = filled(setup, _log(setup))
    adapter.budget_s = BUDGET_S
    tally = Tally(setup, setup.count(0.02))
    for _ in range(tally.total):
        adapter.in_use = setup.bundle.start.copy()
        began = time.perf_counter()
        found = adapter.adapt(1000)
        over_s = time.perf_counter() - began - BUDGET_S
        wrong = first_wrong(
            [
                (found.stop == "deadline", f"it ended by '{found.stop}'"),
                (over_s < CALLED_OFF_S, f"{over_s * 1e3:.0f} ms beyond its budget"),
            ]
        )
        tally.add(wrong, 1e3 * over_s)
    return tally.row(
        fault,
        f"1000 steps with a budget of {BUDGET_S * 1e3:.0f} ms; the time is what it took beyond, "
        "the gate included, which judges the steps that were taken",
    )


def _hung(setup: Setup, fault: str) -> Row:
    adapter, rig, found = filled(setup, _log(setup)), Rig(setup), []
    tally = Tally(setup, setup.count(0.02))
    for _ in range(tally.total):
        rig.start()
        stepping = threading.Event()
        thread = threading.Thread(
            target=lambda stepping=stepping: found.append(
                adapter.adapt(1000, tell=lambda *_: stepping.set())
            )
        )
        thread.start()
        stepping.wait(10.0)
        rig.tick()
        began = time.perf_counter()
        adapter.cancel()
        thread.join(10.0)
        ms = 1e3 * (time.perf_counter() - began)
        command = rig.tick().command
        wrong = first_wrong(
            [
                (found[-1].stop == "cancelled", f"it ended by '{found[-1].stop}'"),
                (ms < 1e3 * CALLED_OFF_S, f"it ended after {ms:.0f} ms"),
                (np.array_equal(adapter.in_use, setup.bundle.start), "swapped"),
                (rig.active and command is not None, "control did not go on"),
            ]
        )
        tally.add(wrong, ms)
    return tally.row(
        fault,
        "1000 steps in a thread, called off while a controller ticks; the adapter's process "
        "stopped (SIGSTOP) and killed, and control's p99 beside that: tests/ros/"
        "test_adapter_state.py, bench.control_jitter",
    )


def _flooded(setup: Setup, fault: str) -> Row:
    log, rig = _log(setup), Rig(setup)
    adapter, tally = filled(setup, log), Tally(setup, 10)
    burst = max(1000, round(FLOOD * setup.trials / 1000 / tally.total))
    for _ in range(200):
        adapter.remember(log[0])
    started_mb, grown_mb, took_s = rss_mb_now(), 0.0, 0.0
    for _ in range(tally.total):
        began = time.perf_counter()
        for number in range(burst):
            adapter.remember(log[number % len(log)])
        took_s += time.perf_counter() - began
        command = rig.tick().command
        grown_mb = rss_mb_now() - started_mb
        wrong = first_wrong(
            [
                (grown_mb < GROWTH_MB, f"{grown_mb:.1f} MB more"),
                (rig.active and command is not None, "control did not go on"),
            ]
        )
        tally.add(wrong)
    return tally.row(
        fault,
        f"{tally.total * burst} transitions at {tally.total * burst / took_s:.0f} a second, memory "
        f"{grown_mb:+.2f} MB; in real processes: tests/ros/test_adapter_state.py",
    )


def _killed_saves(setup: Setup, fault: str) -> Row:
    tally, saves, caught = Tally(setup, setup.count(1.0)), 0, 0
    while tally.trials < tally.total:
        kills = min(100, tally.total - tally.trials)
        # In a process of its own: it forks, and this one has threads.
        command = [sys.executable, "-m", "bench.kill_saves", "--bundle", str(setup.path)]
        command += ["--kills", str(kills), "--seed", str(setup.seed + tally.trials)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.stdout:
            raise RuntimeError(f"bench.kill_saves failed:\n{done.stderr}")
        found = json.loads(done.stdout)
        saves, caught = saves + found["saves"], caught + found["caught"]
        spoilt = found["partial"] + found["went_back"]
        for number in range(kills):
            tally.add("a file was partial, or older than before" if number < spoilt else "")
    return tally.row(
        fault, f"{saves} saves; {caught} kills left a half-written file beside the good one"
    )


CASES: Mapping[str, Case] = {
    "adapted parameters non-finite": _not_finite,
    "adapted parameters outside the trust region": _too_far,
    "adapted parameters worse on held-out data": _worse,
    "adapted parameters planning worse": _plans_worse,
    "better on paper, worse in the loop": _worse_in_the_loop,
    "adaptation over budget": _over_budget,
    "adaptation hung": _hung,
    "adaptation fed by 100x the data rate": _flooded,
    "kill -9 at random points of a save": _killed_saves,
}
"""Fault -> what makes its row."""
