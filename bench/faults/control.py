"""Faults that the control loop itself must survive: measurements, commands, joints, clocks.

The clock is a fake one in fixed ticks, the time that the controller takes is real: a latency is the
time on the robot's clock from the fault to the tick that noticed, and the wall time of that tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeGuard
from unittest import mock

import numpy as np

from bench.faults.rig import Rig
from bench.faults.row import Case, Row, Setup, Tally, first_wrong
from reptile_agent.onboard.envelope import EnvelopeConfig
from reptile_agent.spec import limits

NOT_FINITE = (np.nan, np.inf, -np.inf)
HOUR_S = 3600.0


def _stale(setup: Setup, fault: str) -> Row:
    rig = Rig(setup)
    max_age_s = EnvelopeConfig().max_age_of(rig.robot)
    tally = Tally(setup, setup.count(0.2))
    for trial in range(tally.total):
        rig.start()
        source = trial % rig.obs.size
        rig.silent.add(source)
        limit_s = rig.received_s[source] + max_age_s
        acted_late = False
        while rig.active and rig.now_s < limit_s + 3 * rig.period_s:
            acted = rig.acted
            rig.tick()
            acted_late |= rig.acted > acted and rig.now_s > limit_s + 1e-6
        late_s = rig.now_s - limit_s
        name = rig.robot.observations[source].name
        wrong = first_wrong(
            [
                (not rig.active, f"no fallback {late_s * 1e3:.0f} ms after '{name}' was too old"),
                (late_s <= rig.period_s + 1e-6, f"'{name}': fallback came {late_s * 1e3:.0f} ms"),
                (not acted_late, f"the policy acted on '{name}' when it was too old"),
                (name in rig.controller.reason, f"'{name}' was not named"),
            ]
        )
        tally.add(wrong or rig.latched(), 1e3 * (late_s + rig.wall_s))
    return tally.row(
        fault,
        f"each of {rig.obs.size} signals in turn, at random phases; {max_age_s * 1e3:.0f} ms here; "
        "counted from the moment it is too old",
    )


def _observation(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.12))
    for trial in range(tally.total):
        rig.start()
        acted, source = rig.acted, int(rig.rng.integers(rig.obs.size))
        rig.spoiled[source] = NOT_FINITE[trial % 3]
        command = rig.tick().command
        ms = 1e3 * (rig.phase_s + rig.wall_s)
        wrong = first_wrong(
            [
                (not rig.active, f"no fallback within a period of {NOT_FINITE[trial % 3]}"),
                (rig.acted == acted, "the policy acted on it"),
                (_finite(command), f"sent {command}"),
            ]
        )
        tally.add(wrong or rig.latched(), ms)
    return tally.row(fault, "fallback at the next tick, latched; counted from its reception")


def _action(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.12))
    acts = len(rig.robot.actions)
    for trial in range(tally.total):
        rig.start()
        wild = np.zeros(acts, np.float32)
        wild[rig.rng.integers(acts)] = NOT_FINITE[trial % 3]
        rig.wanted = lambda wild=wild: wild
        command = rig.tick().command
        ms = 1e3 * rig.wall_s
        wrong = first_wrong(
            [(not rig.active, "no fallback in that tick"), (_finite(command), f"sent {command}")]
        )
        tally.add(wrong or rig.latched(), ms)
    return tally.row(fault, "never sent; fallback in the same tick")


def _parameters(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.12))
    controller, bundle = rig.controller, setup.bundle
    for trial in range(tally.total):
        rig.start()
        flat = bundle.start.copy()
        flat[rig.rng.integers(flat.size)] = NOT_FINITE[trial % 3]
        refused, began = False, time.perf_counter()
        try:
            controller.offer(trial + 1, bundle.manifest.start_sha256, flat)
        except ValueError:
            refused = True
        ms = 1e3 * (time.perf_counter() - began)
        found = [rig.tick() for _ in range(2)][-1]
        wrong = first_wrong(
            [
                (refused, "they were not refused"),
                (rig.active and _finite(found.command), "control did not go on"),
                (controller.version == 0, "they were taken"),
                (np.array_equal(controller.policy.parameters, bundle.start), "they were taken"),
            ]
        )
        tally.add(wrong, ms)
    return tally.row(fault, "refused when they are offered; control goes on with the old ones")


def _reward(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.12))
    acts = len(rig.robot.actions)
    for _ in range(tally.total):
        rig.start()
        # The tracking error, whose negative is the reward, overflows; the policy stands by.
        rig.wanted = lambda: np.zeros(acts, np.float32)
        rig.reference[:] = np.finfo(np.float32).max
        with np.errstate(over="ignore"):
            rig.tick()
            found = rig.tick()
            ms = 1e3 * (rig.phase_s + rig.wall_s)
            wrong = first_wrong(
                [
                    (not rig.active, "no fallback at the next tick"),
                    (found.transition is None, "it was handed on to be learned from"),
                    (_finite(found.command), f"sent {found.command}"),
                ]
            )
            tally.add(wrong or rig.latched(), ms)
    return tally.row(
        fault, "never learned from; counted from the measurement that makes it overflow"
    )


def _out_of_limits(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.05))
    envelope, allowed = rig.controller.envelope, EnvelopeConfig().max_clamps
    low, high = limits(rig.robot.actions)
    steps = np.array([a.max_rate or np.inf for a in rig.robot.actions]) * rig.period_s
    for _ in range(tally.total):
        rig.start()
        before, last = envelope.clamps, rig.tick().command
        assert last is not None  # nothing is wrong yet
        began_s, ticks, wrong = rig.now_s + rig.period_s, 0, ""
        rig.wanted = partial(_far_out, rig.rng, rig.rng.choice([-1.0, 1.0], low.size))
        while rig.active and ticks < 2 * allowed:
            command, ticks = rig.tick().command, ticks + 1
            if not _finite(command):
                wrong = f"sent {command}"
                break
            inside = (command >= low).all() and (command <= high).all()
            if not (inside and (np.abs(command - last) <= steps + 1e-5).all()):
                wrong = wrong or f"sent {command} after {last}"
            last = command
        ms = 1e3 * (rig.now_s - began_s + rig.wall_s)
        wrong = wrong or first_wrong(
            [
                (not rig.active, f"no fallback after {ticks} in a row"),
                (ticks == allowed + 1, f"fallback after {ticks} in a row"),
                (envelope.clamps - before == ticks, f"{envelope.clamps - before} counted"),
            ]
        )
        tally.add(wrong or rig.latched(), ms)
    return tally.row(
        fault,
        f"every one within limits and rates and counted; fallback at the {allowed + 1}th in a row "
        "(max_clamps), which is the time given",
    )


def _far_out(rng: np.random.Generator, sign: np.ndarray) -> np.ndarray:
    """A command that no limit allows, [act_dim]."""
    return (sign * rng.uniform(9.0, 1e6, sign.size)).astype(np.float32)


def _joints(setup: Setup, fault: str, kind: str) -> Row:
    try:
        from reptile_agent_ros.joints import JointError, JointReader  # pyright: ignore[reportMissingImports]
    except ImportError:
        return Row(fault, 0, 0, None, "needs the ros extra, and ros2_ws sourced")
    robot, tally = setup.bundle.manifest.robot, Tally(setup, setup.count(0.1))
    rng, names = setup.rng(), list(robot.observed_joints)
    rigs = [Rig(setup) for _ in range(2)] if kind == "permuted" else []
    for trial in range(tally.total):
        reader = JointReader(robot, {})
        reader.take(_message(names, names), 1.0)
        before = reader.obs.copy()
        one = names[trial % len(names)]
        spoiled = {
            "missing": [name for name in names if name != one],
            "extra": [*names, "gripper"],
            "duplicated": [*names, one],
            "permuted": [names[i] for i in rng.permutation(len(names))],
        }[kind]
        refusal, began = "", time.perf_counter()
        try:
            reader.take(_message(spoiled, names), 2.0)
        except JointError as error:
            refusal = str(error)
        ms = 1e3 * (time.perf_counter() - began)
        same = np.array_equal(reader.obs, before)
        if kind == "permuted":
            commands = [_one_command(rig, obs) for rig, obs in zip(rigs, (before, reader.obs))]
            wrong = first_wrong(
                [
                    (not refusal, f"refused: {refusal}"),
                    (same, "another observation"),
                    (np.array_equal(commands[0], commands[1]), "another command"),
                ]
            )
        else:
            name = "gripper" if kind == "extra" else one
            wrong = first_wrong([(name in refusal, f"said '{refusal}'"), (same, "it was read")])
        tally.add(wrong, ms)
    said = "the identical command" if kind == "permuted" else "refused by name"
    return tally.row(fault, f"{said}; in real processes: tests/ros/test_faults.py")


def _one_command(rig: Rig, obs: np.ndarray) -> np.ndarray:
    """What the policy wants for a measurement; the same rigs, asked alike, answer alike."""
    rig.controller.policy.reset()
    return rig.controller.policy.act(obs, rig.reference).copy()


def _message(names: list[str], order: list[str]) -> Any:
    """A joint_states message; a joint's numbers are its own, wherever it stands."""
    number = [0.01 * (1 + order.index(name)) if name in order else 0.0 for name in names]
    return SimpleNamespace(name=names, position=number, velocity=number, effort=[])


def _wall_clock(setup: Setup, fault: str) -> Row:
    rig, tally = Rig(setup), Tally(setup, setup.count(0.1))
    controller, moved_s, discarded = rig.controller, 0.0, 0
    real, real_ns = time.time, time.time_ns

    def moved() -> float:
        return real() + moved_s

    def moved_ns() -> int:
        return real_ns() + round(moved_s * 1e9)

    with mock.patch("time.time", moved), mock.patch("time.time_ns", moved_ns):
        last_s = rig.now_s = time.monotonic()
        rig.controller.reset()
        rig.tick(0.0)
        while tally.trials < tally.total and discarded <= tally.total:
            missed = controller.missed
            moved_s = HOUR_S - moved_s
            time.sleep(max(0.0, last_s + rig.period_s - time.monotonic()))
            now_s = time.monotonic()
            periods, last_s = (now_s - last_s) / rig.period_s, now_s
            command = rig.tick(periods).command
            if periods > 1.4:  # this machine was busy: that says nothing of clocks
                discarded += 1
                continue
            wrong = first_wrong(
                [
                    (controller.missed == missed, f"missed {controller.missed - missed}"),
                    (rig.active and _finite(command), f"fallback: {controller.reason}"),
                ]
            )
            tally.add(wrong, 1e3 * ((periods - 1) * rig.period_s + rig.wall_s))
    return tally.row(
        fault,
        "time.time patched in this process, ticks by the steady clock; the time is the latest "
        f"command after its tick was due; {discarded} ticks not counted because the machine woke "
        "up late; ROS time in a real process: tests/ros/test_faults.py",
    )


def _finite(command: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return command is not None and bool(np.isfinite(command).all())


_JOINTS: dict[str, Callable[[Setup, str], Row]] = {
    f"joints {kind}": partial(_joints, kind=kind)
    for kind in ("missing", "extra", "permuted", "duplicated")
}
CASES: Mapping[str, Case] = {
    "a source older than max(3 periods, 50 ms)": _stale,
    "NaN / Inf in an observation": _observation,
    "NaN / Inf in an action": _action,
    "NaN / Inf in parameters": _parameters,
    "NaN / Inf in the reward": _reward,
    **_JOINTS,
    "commands out of limits": _out_of_limits,
    "wall clock moved by an hour, back and forth": _wall_clock,
}
"""Fault -> what makes its row."""
