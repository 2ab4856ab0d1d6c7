"""reptile_agent.bags.recording: no bag, half a bag, or another robot's is refused by name."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from said import TYPES, Robot, write_bag

from reptile_agent.bags.recording import ATTEMPT, PACKAGE, BagError, message_types, read

ROOT = Path(__file__).parents[2]


@pytest.fixture
def robot(arm_bundle, faulty_arm) -> Robot:
    made = Robot(arm_bundle.manifest.start_sha256)
    for step, transition in enumerate(faulty_arm[:20], start=1):
        made.moved(step, transition)
    return made


def refused(path: Path, arm_bundle, namespace: str | None = None) -> str:
    with pytest.raises(BagError) as caught:
        read(path, arm_bundle.manifest, namespace)
    return str(caught.value)


def test_transitions_come_as_they_were(arm_bundle, faulty_arm, robot, tmp_path):
    recording = read(write_bag(tmp_path / "bag", robot), arm_bundle.manifest)
    assert recording.steps == list(range(1, 21))
    assert np.allclose(np.diff(recording.times_s), 0.04)
    for ours, theirs in zip(recording.transitions, faulty_arm, strict=False):
        for name in ("obs", "action", "next_obs", "reference", "reward", "first"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_transition_after_a_lost_one_continues_nothing(arm_bundle, robot, tmp_path):
    del robot.rows[9]
    recording = read(write_bag(tmp_path / "bag", robot), arm_bundle.manifest)
    assert [i for i, t in enumerate(recording.transitions) if t.first[0]] == [0, 9]


def test_a_file_of_the_bag_does_as_well(arm_bundle, robot, tmp_path):
    for plugin, suffix in (("MCAP", "mcap"), ("SQLITE3", "db3")):
        bag = write_bag(tmp_path / suffix, robot, plugin=plugin)
        (file,) = bag.glob(f"*.{suffix}")
        assert len(read(file, arm_bundle.manifest).transitions) == 20


def test_a_bag_without_definitions_is_read_by_our_own(arm_bundle, robot, tmp_path):
    bag = write_bag(tmp_path / "bag", robot, plugin="SQLITE3")
    (file,) = bag.glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    assert len(read(bag, arm_bundle.manifest).transitions) == 20


def test_our_definitions_are_those_of_the_ros_package():
    names = sorted(path.stem for path in (ROOT / "ros2_ws/src/reptile_agent_msgs/msg").glob("*"))
    assert names
    assert all(PACKAGE + name in message_types().fielddefs for name in names)


def test_no_bag_at_all(arm_bundle, tmp_path):
    assert f"there is no bag {tmp_path / 'nowhere'}" in refused(tmp_path / "nowhere", arm_bundle)
    (tmp_path / "letter.txt").write_text("dear robot")
    assert "letter.txt cannot be read" in refused(tmp_path / "letter.txt", arm_bundle)
    (tmp_path / "empty").mkdir()
    assert "ros2 bag reindex" in refused(tmp_path / "empty", arm_bundle)


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_half_a_bag(arm_bundle, robot, tmp_path, plugin, share):
    bag = write_bag(tmp_path / "bag", robot, plugin=plugin)
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    said = refused(bag, arm_bundle)
    assert str(bag) in said
    assert "cut off" in said


def test_a_bag_whose_recorder_was_killed(arm_bundle, robot, tmp_path):
    bag = write_bag(tmp_path / "bag", robot)
    (bag / "metadata.yaml").unlink()
    assert "metadata.yaml" in refused(bag, arm_bundle)
    assert "ros2 bag reindex" in refused(bag, arm_bundle)


def test_a_message_that_is_no_message(arm_bundle, robot, tmp_path):
    bag = write_bag(tmp_path / "bag", robot, plugin="SQLITE3")
    (file,) = bag.glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE messages SET data = x'00010000ffffff7f' WHERE id = 7")
    database.close()
    assert "cannot be read" in refused(bag, arm_bundle)


def test_a_bag_of_another_bundle_names_both(arm_bundle, robot, tmp_path):
    for row in robot.rows:
        row[3].start_sha256 = "cd" * 32
    said = refused(write_bag(tmp_path / "bag", robot), arm_bundle)
    assert "cdcdcdcdcdcd (20 transitions)" in said
    assert arm_bundle.manifest.start_sha256[:12] in said


def test_without_transitions_it_says_what_there_is_and_what_to_record(arm_bundle, tmp_path):
    robot = Robot(arm_bundle.manifest.start_sha256)
    robot.mode("active")
    said = refused(write_bag(tmp_path / "bag", robot), arm_bundle)
    assert "its topics are: /policy_node/status (reptile_agent_msgs/msg/PolicyStatus)" in said
    assert "ros2 launch reptile_agent record.launch.py" in said


def test_of_several_robots_one_is_named(arm_bundle, faulty_arm, robot, tmp_path):
    left = Robot(arm_bundle.manifest.start_sha256, namespace="/left")
    for step, transition in enumerate(faulty_arm[:7], start=1):
        left.moved(step, transition)
    bag = write_bag(tmp_path / "bag", robot, left)
    assert "say --namespace, one of ['/', '/left']" in refused(bag, arm_bundle)
    assert len(read(bag, arm_bundle.manifest, "left").transitions) == 7
    assert len(read(bag, arm_bundle.manifest, "/").transitions) == 20
    assert "no transitions of namespace /right" in refused(bag, arm_bundle, "right")


def test_messages_of_an_older_package_are_named(arm_bundle, robot, live, tmp_path, monkeypatch):
    """A bag that was recorded before AdaptationStatus said what it takes to repeat it."""
    import said

    older = message_types()
    text = (ROOT / "reptile_agent/bags/msg/AdaptationStatus.msg").read_text()
    text = text.replace("uint64 newest_step", "")
    kind = older.types[ATTEMPT]
    older.fielddefs.pop(ATTEMPT)
    older.types.pop(ATTEMPT)
    from rosbags.typesys import get_types_from_msg

    older.register(get_types_from_msg(text, ATTEMPT))
    assert kind is not older.types[ATTEMPT]
    lived = live()
    monkeypatch.setattr(said, "TYPES", older)
    bag = write_bag(tmp_path / "bag", lived.robot)
    assert re.search(r"AdaptationStatus has no \['newest_step'\] there", refused(bag, arm_bundle))


def test_a_bag_may_move(arm_bundle, robot, tmp_path):
    bag = write_bag(tmp_path / "bag", robot)
    moved = Path(shutil.move(bag, tmp_path / "elsewhere"))
    assert read(moved, arm_bundle.manifest).path == moved
    assert TYPES.fielddefs
