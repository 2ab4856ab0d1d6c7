"""reptile_agent.onboard.spool: what is intact comes back exactly; what is not, never."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reptile_agent.onboard.memory import Memory
from reptile_agent.onboard.spool import HEADER, SEGMENTS, Spool, SpoolError
from reptile_agent.transition import Transition

RECORDS = 8


def transition(t: int, first: bool = False) -> Transition:
    """A transition of the toy robot, whose every value tells when it happened."""
    return Transition(
        obs=np.full((1, 2), t, np.float32),
        action=np.full((1, 2), t + 0.25, np.float32),
        next_obs=np.full((1, 2), t + 1, np.float32),
        reward=np.full(1, -t, np.float32),
        first=np.array([first]),
    )


def write(folder: Path, robot, count: int, at: int = 0) -> None:
    spool = Spool(folder, robot, RECORDS)
    for t in range(at, at + count):
        spool.append(transition(t))
    spool.close()


def read(folder: Path, robot) -> tuple[list[int], list[bool], int]:
    """Times and first flags of what is restored, and how many were lost."""
    spool = Spool(folder, robot, RECORDS)
    spool.close()
    for found in spool.restored:
        t = found.obs[0, 0]
        for name in ("obs", "action", "next_obs", "reward"):
            np.testing.assert_array_equal(getattr(found, name), getattr(transition(t), name))
    times = [round(float(found.obs[0, 0])) for found in spool.restored]
    return times, [bool(found.first[0]) for found in spool.restored], spool.lost


def test_an_empty_folder_is_an_empty_spool(robot, tmp_path):
    assert read(tmp_path / "new" / "spool", robot) == ([], [], 0)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 100])
def test_the_newest_come_back_and_the_files_stay_small(robot, tmp_path, count):
    write(tmp_path, robot, count)
    bytes_on_disk = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert bytes_on_disk <= 2 * (HEADER.size + RECORDS * 42)
    times, first, lost = read(tmp_path, robot)
    assert times == list(range(count))[-RECORDS:]
    assert first == [True] + [False] * (len(times) - 1)
    assert lost == 0


def test_what_comes_after_a_restart_begins_anew(robot, tmp_path):
    write(tmp_path, robot, 3)
    write(tmp_path, robot, 3, at=3)
    assert read(tmp_path, robot) == ([0, 1, 2, 3, 4, 5], [True, False, False] * 2, 0)
    memory = Memory(robot, RECORDS, tmp_path)
    assert memory.restored == 6
    memory.push(transition(6))
    memory.push(transition(7))
    # 3 + 3 + 2 in a row give two pairs, two pairs, one pair: none across a restart.
    assert memory.latest(8, 2)["obs"][:, 0].tolist() == [0, 1, 3, 4, 6]


def test_a_torn_tail_is_dropped_and_said(robot, tmp_path, caplog):
    write(tmp_path, robot, 5)
    file = tmp_path / SEGMENTS[0]
    os.truncate(file, file.stat().st_size - 50)  # one record and a part of another
    with caplog.at_level(logging.WARNING):
        times, _, lost = read(tmp_path, robot)
    assert (times, lost) == ([0, 1, 2], 1)
    assert "1 transitions were damaged and dropped, 3 restored" in caplog.text
    assert read(tmp_path, robot)[2] == 0, "the damage is met once"


@pytest.fixture(scope="module")
def written(robot, tmp_path_factory) -> Path:
    """A spool of 13 transitions in both segments."""
    folder = tmp_path_factory.mktemp("written")
    write(folder, robot, 13)
    return folder


@pytest.fixture
def again(written, tmp_path):
    """Makes a fresh copy of that spool."""

    def copy() -> Path:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        return Path(shutil.copytree(written, tmp_path / "copy"))

    return copy


often = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@often
@given(st.sampled_from(SEGMENTS), st.integers(0, HEADER.size + RECORDS * 42))
def test_cut_at_any_byte_all_whole_records_come_back(again, robot, name, length):
    folder = again()
    length = min(length, (folder / name).stat().st_size)
    os.truncate(folder / name, length)
    whole = max(0, length - HEADER.size) // 42
    other = list(range(8, 13)) if name == SEGMENTS[0] else list(range(8))
    here = list(range(13))[8:] if name == SEGMENTS[1] else list(range(8))
    times, first, lost = read(folder, robot)
    wanted = sorted(other + here[:whole])[-RECORDS:]
    assert times == wanted
    assert first[1:] == [b != a + 1 for a, b in itertools.pairwise(wanted)]
    assert lost == bool(length > HEADER.size and (length - HEADER.size) % 42)


@often
@given(st.sampled_from(SEGMENTS), st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_whatever_bits_flip_nothing_damaged_is_believed(again, robot, name, flips):
    folder = again()
    data = bytearray((folder / name).read_bytes())
    for flip in flips:
        data[flip // 8 % len(data)] ^= 1 << flip % 8
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(data)
    times, first, lost = read(folder, robot)
    base = 0 if name == SEGMENTS[0] else 8
    count = (len(data) - HEADER.size) // 42
    harmed = {
        base + i
        for i in range(count)
        if data[HEADER.size + 42 * i :][:42] != before[HEADER.size + 42 * i :][:42]
    }
    if data[: HEADER.size] != before[: HEADER.size]:
        harmed = set(range(base, base + count))
    wanted = [t for t in range(13) if t not in harmed][-RECORDS:]
    assert times == wanted
    assert lost == len(harmed)
    assert read(folder, robot) == (times, first, 0), "what was restored is whole on disk too"
    assert first[1:] == [b != a + 1 for a, b in itertools.pairwise(wanted)]


def test_another_robots_spool_is_refused_by_name(robot, tmp_path):
    write(tmp_path, robot, 3)
    faster = robot.model_copy(update={"control_period_s": 0.05})
    before = (tmp_path / SEGMENTS[0]).read_bytes()
    with pytest.raises(SpoolError, match=r"holds transitions of another robot .* give this one"):
        Spool(tmp_path, faster, RECORDS)
    assert (tmp_path / SEGMENTS[0]).read_bytes() == before
    assert read(tmp_path, robot)[0] == [0, 1, 2]


def test_what_is_no_plain_file_is_refused(robot, tmp_path):
    write(tmp_path, robot, 3)
    (tmp_path / SEGMENTS[0]).rename(tmp_path / "elsewhere")
    (tmp_path / SEGMENTS[0]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="is no plain file"):
        Spool(tmp_path, robot, RECORDS)


def test_two_at_a_time_are_refused(robot, tmp_path):
    one = Spool(tmp_path, robot, RECORDS)
    with pytest.raises(SpoolError, match="in use by another process"):
        Spool(tmp_path, robot, RECORDS)
    one.close()
    Spool(tmp_path, robot, RECORDS).close()


def test_what_is_not_finite_is_dropped_though_its_checksum_fits(robot, tmp_path):
    spool = Spool(tmp_path, robot, RECORDS)
    spool.append(transition(0))
    bad = transition(1)
    spool.append(dataclasses.replace(bad, next_obs=bad.next_obs * np.nan))
    spool.append(transition(2))
    spool.close()
    assert read(tmp_path, robot) == ([0, 2], [True, True], 1)


def test_what_is_forgotten_does_not_come_back(robot, tmp_path):
    memory = Memory(robot, RECORDS, tmp_path)
    for t in range(13):
        memory.push(transition(t))
    memory.clear()
    memory.push(transition(13))
    memory.close()
    assert read(tmp_path, robot)[0] == [13]


def test_what_is_not_finite_reaches_neither_memory_nor_disk(robot, tmp_path):
    memory = Memory(robot, RECORDS, tmp_path)
    bad = transition(0)
    with pytest.raises(ValueError, match="reward is not finite"):
        memory.push(dataclasses.replace(bad, reward=bad.reward * np.nan + np.nan))
    memory.close()
    assert read(tmp_path, robot)[0] == []


def test_learning_goes_on_when_the_disk_refuses(robot, tmp_path, monkeypatch, caplog):
    memory = Memory(robot, RECORDS, tmp_path)
    memory.push(transition(0))
    monkeypatch.setattr("os.write", lambda fd, data: len(data) // 2)
    memory.push(transition(1))
    monkeypatch.undo()
    memory.push(transition(2))
    assert len(memory) == 3
    assert caplog.text.count("no longer kept on disk") == 1


FILL = """
import sys
from pathlib import Path
from tests.onboard.test_spool import RECORDS, Spool, transition
from reptile_agent.spec import RobotSpec
spool = Spool(Path(sys.argv[1]), RobotSpec.model_validate_json(sys.argv[2]), RECORDS)
at = round(float(spool.restored[-1].obs[0, 0])) + 1 if spool.restored else 0
print(at, flush=True)
while True:
    spool.append(transition(at))
    at += 1
"""


def test_killed_while_it_writes_it_loses_nothing_that_was_written(robot, tmp_path):
    rng, last = np.random.default_rng(0), -1
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", FILL, str(tmp_path), robot.model_dump_json()],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0.01, 0.1))
        child.kill()
        child.wait()
        child.stdout.close()
        times, _, lost = read(tmp_path, robot)
        assert lost <= 1
        assert len(times) >= RECORDS
        assert times == list(range(times[0], times[0] + len(times)))
        assert times[-1] > last
        last = times[-1]
