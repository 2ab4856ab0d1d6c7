"""reptile_agent.bags.again: adaptations from a bag are the robot's own, to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from said import write_bag

from reptile_agent.bags import again
from reptile_agent.bags.recording import read


def repeated(
    arm_bundle, lived, tmp_path, seed: int = 5, plugin: str = "MCAP"
) -> list[again.Outcome]:
    recording = read(write_bag(tmp_path / "bag", lived.robot, plugin=plugin), arm_bundle.manifest)
    return list(again.repeat(arm_bundle, recording, seed))


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_every_adaptation_is_repeated_to_the_bit(arm_bundle, live, tmp_path, plugin):
    lived = live()
    outcomes = repeated(arm_bundle, lived, tmp_path, plugin=plugin)
    # Some were ended by the clock, some asked for otherwise, some refused.
    assert {"done", "deadline"} == {found.stop for found in lived.found}
    assert len({found.steps for found in lived.found}) == 3
    assert len({found.verdict.accepted for found in lived.found}) == 2
    assert [outcome.differs for outcome in outcomes] == [""] * len(lived.found)
    for outcome, theirs in zip(outcomes, lived.found, strict=True):
        ours = outcome.adaptation
        assert ours is not None
        assert np.array_equal(ours.parameters, theirs.parameters)
        assert ours.verdict == theirs.verdict
        assert ours.evidence == theirs.evidence
        assert ours.stop == theirs.stop


def test_what_was_cancelled_does_not_put_what_follows_out_of_step(arm_bundle, live, tmp_path):
    """Once between two steps, and once while the gate looked at what it would have accepted."""
    lived = live(cancelled={0: 4, 1: 19})
    assert [(found.stop, found.steps) for found in lived.found[:2]] == [
        ("cancelled", 5),
        ("cancelled", 10),
    ]
    assert np.isnan(lived.found[0].evidence.live_before)
    assert np.isfinite(lived.found[1].evidence.live_before)
    outcomes = repeated(arm_bundle, lived, tmp_path)
    assert [outcome.differs for outcome in outcomes] == [""] * len(lived.found)
    assert [o.adaptation.verdict for o in outcomes[2:]] == [f.verdict for f in lived.found[2:]]


def test_a_recorder_that_began_before_the_adapter_does_no_harm(arm_bundle, live, tmp_path):
    outcomes = repeated(arm_bundle, live(heard_from=30), tmp_path)
    assert len(outcomes) == 8
    assert [outcome.differs for outcome in outcomes] == [""] * 8


def test_what_is_missing_is_said(arm_bundle, live, tmp_path):
    lived = live()
    lived.robot.rows = lived.robot.rows[40:]
    outcomes = repeated(arm_bundle, lived, tmp_path)
    assert outcomes[0].differs == "40 of the 60 transitions remembered are not in the bag"
    assert outcomes[-1].differs == "", "by then all that it remembered is in the bag"


def test_another_seed_is_found_out(arm_bundle, live, tmp_path):
    outcomes = repeated(arm_bundle, live(), tmp_path, seed=6)
    assert {outcome.differs for outcome in outcomes} <= {"the loss", "the errors on held-out data"}
    assert outcomes[0].differs == "the loss"


def test_parameters_that_nobody_recorded_are_named(arm_bundle, live, tmp_path):
    lived = live()
    attempt = next(row for row in lived.robot.rows if "adapter_node/status" in row[0])
    attempt[3].in_use_sha256 = "ab" * 32
    outcomes = repeated(arm_bundle, lived, tmp_path)
    assert outcomes[0].differs == "parameters abababababab were in use and are not in the bag"


@pytest.mark.parametrize(
    ("name", "value"),
    [("asked_steps", 2**31), ("asked_window", 2**31), ("inner_lr", np.nan), ("asked_start", "x")],
)
def test_what_is_out_of_reason_is_said_and_not_done(arm_bundle, live, tmp_path, name, value):
    lived = live()
    attempt = next(row for row in lived.robot.rows if "adapter_node/status" in row[0])
    setattr(attempt[3], name, value)
    outcomes = repeated(arm_bundle, lived, tmp_path)
    assert outcomes[0].adaptation is None
    assert name.removeprefix("asked_") in outcomes[0].differs
    assert len(outcomes) == len(lived.found)


def test_what_a_fallback_made_it_forget_is_forgotten_again(arm_bundle, live, tmp_path):
    """The second half is a robot that was reset: steps and memory begin anew."""
    one, two = live(), live()
    two.robot.now_s = one.robot.now_s
    one.robot.rows += [
        (topic, kind, at + 100.0, message) for topic, kind, at, message in two.robot.rows
    ]
    recording = read(write_bag(tmp_path / "bag", one.robot), arm_bundle.manifest)
    half = len(two.found)
    later = dataclasses.replace(recording, attempts=recording.attempts[half:])
    outcomes = list(again.repeat(arm_bundle, later, seed=5))
    assert [outcome.differs for outcome in outcomes] == [""] * half


def test_without_an_adapter_it_adapts_every_so_often(arm_bundle, live, tmp_path):
    lived = live()
    lived.robot.rows = [row for row in lived.robot.rows if "adapter_node" not in row[0]]
    recording = read(write_bag(tmp_path / "bag", lived.robot), arm_bundle.manifest)
    config = arm_bundle.manifest.adaptation
    outcomes = list(again.every(arm_bundle, recording, config, every_s=0.8, seed=1))
    gaps = np.diff([outcome.time_s for outcome in outcomes])
    assert len(outcomes) >= 3
    assert np.allclose(gaps, 0.8, atol=0.06)
    assert all(outcome.adaptation.steps == config.inner_steps for outcome in outcomes)
    fewer = config.model_copy(update={"inner_steps": 2})
    assert next(again.every(arm_bundle, recording, fewer, 0.8)).adaptation.steps == 2


def test_after_a_fallback_it_waits_until_it_has_seen_enough(arm_bundle, live, tmp_path):
    lived = live()
    rows = [row for row in lived.robot.rows if "transition" in row[0]]
    lived.robot.rows = rows[:60]
    for mode in ("active", "fallback"):
        lived.robot.now_s = rows[59][2] + 0.001
        lived.robot.mode(mode)
    lived.robot.rows += rows[60:]
    recording = read(write_bag(tmp_path / "bag", lived.robot), arm_bundle.manifest)
    assert len(recording.fallbacks_s) == 1
    outcomes = list(again.every(arm_bundle, recording, arm_bundle.manifest.adaptation, 0.4, seed=1))
    after = [o.time_s for o in outcomes if o.time_s > recording.fallbacks_s[0]]
    assert after
    config, segment = arm_bundle.manifest.adaptation, arm_bundle.manifest.segment
    enough = config.holdout + segment + min(config.batch, config.window // 2)
    assert after[0] >= recording.times_s[60 + enough - 1]
