"""Which bundle may take another one's place, and what the robot remembers across that."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.experience import PLAIN, Experience
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.checks import BundleError
from reptile_agent.onboard.exchange import find_in, objection, robot_objection
from reptile_agent.onboard.memory import Memory
from reptile_agent.spec import RobotSpec
from reptile_agent.transition import Transition


@pytest.fixture
def robot(arm_bundle) -> RobotSpec:
    return arm_bundle.manifest.robot


def changed(robot: RobotSpec, role: str, **fields: object) -> RobotSpec:
    """The robot with its first signal of a role changed."""
    document = robot.model_dump()
    signals = list(document[role])
    document[role] = [signals[0] | fields, *signals[1:]]
    return RobotSpec.model_validate(document)


def test_the_same_robot_and_stricter_limits_fit(robot):
    assert robot_objection(robot, robot) == ""
    low, high = robot.actions[0].low, robot.actions[0].high
    stricter = {"low": low / 2, "high": high / 2, "max_rate": 0.1, "max_acceleration": 1.0}
    assert robot_objection(robot, changed(robot, "actions", **stricter)) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r.model_copy(update={"name": "other"}), "its robot is 'other', the present"),
        (lambda r: r.model_copy(update={"control_period_s": 0.01}), "control period is 0.01 s"),
        (lambda r: r.model_copy(update={"actions": r.actions[1:]}), "its actions are"),
        (lambda r: changed(r, "actions", high=100.0), "are looser than"),
        (lambda r: changed(r, "observations", low=-100.0), "are looser than"),
        (lambda r: changed(r, "actions", max_rate=None), "max_rate None is looser than"),
        (lambda r: changed(r, "references", unit="deg"), "unit is deg, not rad"),
        (lambda r: changed(r, "observations", may_rest=True), "it may rest"),
        (lambda r: changed(r, "observations", periodic=True), "periodic is True, not False"),
    ],
)
def test_any_other_robot_is_refused_by_what_is_other(robot, change, sentence):
    assert sentence in robot_objection(robot, change(robot))


@pytest.mark.parametrize("limit", ["max_distance", "max_layer_distance"])
@pytest.mark.parametrize("wider", [1e9, None])
def test_a_wider_trust_region_is_refused_and_a_narrower_one_fits(arm_bundle, limit, wider):
    manifest = arm_bundle.manifest

    def with_limit(value: float | None):
        adaptation = manifest.adaptation.model_copy(update={limit: value})
        return manifest.model_copy(update={"adaptation": adaptation})

    assert objection(manifest, manifest) == ""
    assert f"its trust region is wider: {limit} {wider}" in objection(manifest, with_limit(wider))
    assert objection(manifest, with_limit(1e-6)) == ""


def test_what_holds_the_robot_stays_within_the_limits(robot):
    moves = changed(robot, "actions", quantity="velocity", unit="rad/s", low=-1.0, high=1.0)
    assert robot_objection(moves, changed(moves, "actions", high=0.0)) == ""
    assert "no zero, which holds" in robot_objection(moves, changed(moves, "actions", low=0.1))


def test_a_name_leads_nowhere_else(tmp_path):
    folder, outside = tmp_path / "bundles", tmp_path / "outside"
    (folder / "one" / "inner").mkdir(parents=True)
    outside.mkdir()
    (folder / "file").touch()
    (folder / "current").symlink_to("one")
    (folder / "out").symlink_to(outside)
    (folder / "deep").symlink_to("one/inner")
    (folder / "loop").symlink_to("loop")
    assert find_in(folder, "one") == folder / "one"
    assert find_in(folder, "current") == folder / "one"
    names = ["", ".", "..", "../outside", "one/inner", str(outside), "a\\b", "a\0b", "a\nb"]
    for name in [*names, "x" * 300, "file", "out", "deep", "loop", "missing"]:
        with pytest.raises(BundleError):
            find_in(folder, name)


def remember(memory: Memory | Adapter, robot: RobotSpec, count: int, reference=None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(count):
        obs, after = rng.uniform(-0.1, 0.1, (2, 1, len(robot.observations))).astype(np.float32)
        action = rng.uniform(-0.1, 0.1, (1, len(robot.actions))).astype(np.float32)
        reward, first = np.zeros(1, np.float32), np.zeros(1, bool)
        step = Transition(obs, action, after, reward, first, reference=reference)
        (memory.push if isinstance(memory, Memory) else memory.remember)(step)


@pytest.mark.parametrize("capacity", [10, 40])
def test_what_is_remembered_goes_along_on_disk_too(robot, tmp_path, capacity):
    old = Memory(robot, 20, tmp_path)
    remember(old, robot, 30)
    stricter = changed(robot, "actions", max_rate=0.1)
    before = old.latest(10)
    new = old.hand_over(Memory(stricter, capacity))
    assert len(new) == min(capacity, 20)
    after = new.latest(10)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    new.close()
    for bundle in (stricter, robot):  # restarted with either
        again = Memory(bundle, capacity, tmp_path)
        assert (again.restored, again.lost) == (min(capacity, 20), 0)
        again.close()


@pytest.mark.parametrize(
    "kind", [{"reward": "other"}, {"experience": Experience(sees_reference=True)}]
)
def test_what_another_learner_cannot_learn_from_waits_on_disk_for_one_that_can(
    robot, tmp_path, kind, caplog
):
    old = Memory(robot, 20, tmp_path)
    remember(old, robot, 5)
    made = {"experience": PLAIN, "reward": ""} | kind
    new = old.hand_over(Memory(robot, 20, None, **made))
    assert len(new) == 0
    assert "what comes is not kept there" in caplog.text
    new.close()
    assert Memory(robot, 20, tmp_path).restored == 5


def test_an_adapter_goes_on_with_another_bundle(arm_bundle, tmp_path):
    old = Adapter(arm_bundle, spool=tmp_path)
    remember(old, arm_bundle.manifest.robot, 90)
    old.freeze()
    new = Adapter(arm_bundle)
    new.succeed(old)
    assert (len(new.replay), new.frozen, new.ready) == (90, True, True)
    new.thaw()
    assert new.adapt(steps=1).asked.remembered == 90
    new.close()
