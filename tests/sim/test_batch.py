"""sim.backends.batch: many variants in step are what each would be alone."""

from __future__ import annotations

import operator
import re

import mujoco
import numpy as np
import pytest

from sim import registry
from sim.backends.batch import BatchSim, UnstableError
from sim.sensors import Sensors


class Recorder:
    """Notes which fields of the model a family writes."""

    def __init__(self, sim: BatchSim) -> None:
        self.sim, self.names = sim, set[str]()

    def expand(self, name: str) -> np.ndarray:
        self.names.add(name)
        return self.sim.batch.expand(name)


def alone(sim: BatchSim, lane: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The lane's variant as a plain model, in the lane's state."""
    model, fields = sim.family.build().compile(), Recorder(sim)
    sim.family.apply(fields, sim.tasks)
    for name in fields.names:
        field = operator.attrgetter(name)(model)
        field[:] = sim.batch.expand(name)[lane].reshape(field.shape)
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:] = sim.batch.qpos[lane], sim.batch.qvel[lane]
    data.history[:] = sim.batch.history[lane]
    mujoco.mj_forward(model, data)
    return model, data


def test_a_lane_is_to_the_bit_its_variant_stepped_alone(family):
    frozen = family.splits()
    tasks = [*frozen["train"][:3], *frozen["extrapolated"][:3], *frozen["held_out"][:2]]
    sim = BatchSim(family, tasks)
    sim.reset(seed=3)
    plain = [alone(sim, lane) for lane in range(len(tasks))]
    rng, low = np.random.default_rng(0), np.array([a.low for a in family.robot.actions])
    for _ in range(30):
        action = rng.uniform(1.2 * low, -1.2 * low, (len(tasks), low.size)).astype(np.float32)
        sim.step(action)
        control = sim.batch.ctrl.copy()
        for lane, (model, data) in enumerate(plain):
            data.ctrl[:] = control[lane]
            for _ in range(family.substeps):
                mujoco.mj_step(model, data)
            np.testing.assert_array_equal(sim.batch.qpos[lane], data.qpos)
            np.testing.assert_array_equal(sim.batch.qvel[lane], data.qvel)
    assert np.unique(sim.batch.qpos, axis=0).shape[0] == len(tasks)


def test_a_lane_does_not_depend_on_the_threads_nor_on_its_neighbours(family):
    tasks = family.splits()["train"][:5]
    sims = [BatchSim(family, tasks, threads=n) for n in (1, 2)]
    for _ in range(10):
        for sim in sims:
            sim.step(np.full((5, len(family.robot.actions)), 0.3, np.float32))
    np.testing.assert_array_equal(sims[0].obs, sims[1].obs)


def test_a_fault_in_mid_motion_leaves_the_motion(family, change):
    sim = BatchSim(family, [{}, {}])
    action = np.full((2, len(family.robot.actions)), 0.5, np.float32)
    for _ in range(5):
        sim.step(action)
    qpos, qvel = sim.batch.qpos.copy(), sim.batch.qvel.copy()
    reference = sim.reference(4)
    sim.set_tasks([{}, change])
    np.testing.assert_array_equal(sim.batch.qpos, qpos)
    np.testing.assert_array_equal(sim.batch.qvel, qvel)
    np.testing.assert_array_equal(sim.reference(4), reference)
    for lane in range(2):
        sim.batch.qpos[lane], sim.batch.qvel[lane] = qpos[0], qvel[0] + 1.0
    for _ in range(20):  # legs are off the ground now and then
        obs, *_ = sim.step(action)
    assert not np.array_equal(obs[0], obs[1])


def test_a_fault_can_be_taken_back(family):
    sim, untouched = BatchSim(family, [{}]), BatchSim(family, [{}])
    sim.set_tasks(family.splits()["extrapolated"][:1])
    sim.set_tasks([{}])
    action = np.full((1, len(family.robot.actions)), 0.5, np.float32)
    for _ in range(5):
        np.testing.assert_array_equal(sim.step(action)[0], untouched.step(action)[0])


def test_an_unknown_variation_is_named_beside_those_that_exist(family, change):
    known = next(iter(change))
    with pytest.raises(LookupError, match=rf"'{family.name}' has no variation 'colour'.*{known}"):
        BatchSim(family, [{}, {"colour": 1.0}])


@pytest.mark.parametrize("value", [1e3, -1.0, float("nan")])
def test_a_value_out_of_range_is_named_with_the_range(family, change, value):
    name = next(iter(change))
    with pytest.raises(ValueError, match=rf"'{name}' of family '\w+' is .*, outside its range"):
        BatchSim(family, [{name: value}])


def test_refused_tasks_leave_the_simulator_as_it_was(family, change):
    sim = BatchSim(family, [change])
    with pytest.raises(LookupError):
        sim.set_tasks([{"colour": 1.0}])
    assert sim.tasks == [change]


def test_no_tasks_and_a_wrong_number_of_tasks_are_refused(family):
    with pytest.raises(ValueError, match="no tasks given; a simulator needs one a lane"):
        BatchSim(family, [])
    with pytest.raises(ValueError, match="3 tasks for 2 lanes"):
        BatchSim(family, [{}, {}]).set_tasks([{}] * 3)


@pytest.mark.parametrize("speed", [np.nan, np.inf, 1e12])
def test_a_lane_that_diverges_is_named_with_its_task(family, change, speed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # mujoco writes a log where it stands
    sim = BatchSim(family, [{}, change, {}])
    action = np.zeros((3, len(family.robot.actions)), np.float32)
    sim.step(action)
    sim.batch.qvel[1, 0] = speed
    named = re.escape(f"lane 1 diverged at step 2: task {change}, state [")
    with pytest.raises(UnstableError, match=named):
        sim.step(action)


def test_the_others_go_on_when_a_lane_diverges(family, change, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    sims = [BatchSim(family, [{}, change, {}], unstable="terminate") for _ in range(2)]
    action = np.zeros((3, len(family.robot.actions)), np.float32)
    sims[0].batch.qvel[1, 0] = np.nan
    before = sims[0].state()
    obs, reward, terminated, _ = sims[0].step(action)
    untouched, wanted, *_ = sims[1].step(action)
    assert terminated.tolist() == [False, True, False]
    assert f"lane 1 diverged at step 1: task {change}, state [" in caplog.text
    np.testing.assert_array_equal(obs[[0, 2]], untouched[[0, 2]])
    np.testing.assert_array_equal(reward[[0, 2]], wanted[[0, 2]])
    np.testing.assert_array_equal(obs[1], before[1])
    for _ in range(20):
        obs, reward, *_ = sims[0].step(action)
        assert np.isfinite(obs).all()
        assert np.isfinite(reward).all()


def test_a_field_that_no_model_has_is_named(family, monkeypatch):
    def misspelt(fields, tasks):
        fields.expand("body_weight")[:, 1] = 2.0

    monkeypatch.setattr(family, "apply", misspelt)
    with pytest.raises(ValueError, match="body_weight is not an expandable MjModel field"):
        BatchSim(family, [{}])


def test_some_lanes_start_anew_and_the_others_move_on(family):
    sim, other = BatchSim(family, [{}] * 4), BatchSim(family, [{}] * 4)
    action = np.full((4, len(family.robot.actions)), 0.2, np.float32)
    for one in (sim, other):
        one.reset(seed=5)
        for _ in range(4):
            one.step(action)
    some = np.array([False, True, False, True])
    obs, references = sim.reset(seed=7, lanes=some), sim.reference(3)
    np.testing.assert_array_equal(obs[~some], other.obs[~some])
    np.testing.assert_array_equal(references[~some], other.reference(3)[~some])
    after = sim.step(action)[0]
    np.testing.assert_array_equal(after[~some], other.step(action)[0][~some])
    all_anew = other.reset(seed=7)
    np.testing.assert_array_equal(obs[some], all_anew[some])
    np.testing.assert_array_equal(references[some], other.reference(3)[some])
    np.testing.assert_array_equal(after[some], other.step(action)[0][some])


def test_an_episode_counts_from_the_start_of_its_own_lane(family, monkeypatch):
    monkeypatch.setattr(family, "episode_steps", 3)
    sim, cut = BatchSim(family, [{}, {}]), []
    action = np.zeros((2, len(family.robot.actions)), np.float32)
    for step in range(5):
        truncated = sim.step(action)[3]
        cut.append(truncated.tolist())
        if step == 1:
            sim.reset(seed=1, lanes=np.array([False, True]))
    assert cut == [[False] * 2, [False] * 2, [True, False], [True, False], [True, True]]


class Blurred(type(registry.get("cartpole"))):
    """Late and noisy sensors in the second lane."""

    def sensing(self, tasks):
        noise = np.zeros((len(tasks), 4))
        noise[1, 2] = 0.5
        return noise, np.array([0, 3])


def test_sensors_are_late_and_noisy_lane_by_lane():
    sim, sharp = BatchSim(Blurred(), [{}, {}]), BatchSim(registry.get("cartpole"), [{}, {}])
    seen, true = [], []
    for step in range(60):
        action = np.full((2, 1), np.sin(0.2 * step), np.float32)
        seen.append(sim.step(action)[0])
        true.append(sharp.step(action)[0])
    seen, true = np.stack(seen), np.stack(true)
    np.testing.assert_array_equal(seen[:, 0], true[:, 0])
    np.testing.assert_array_equal(seen[3:, 1, [0, 1, 3]], true[:-3, 1, [0, 1, 3]])
    noise = seen[3:, 1, 2] - true[:-3, 1, 2]
    assert 0.35 < noise.std() < 0.65
    np.testing.assert_array_equal(sim.state(), sharp.state())


def test_a_lane_that_starts_anew_leaves_what_the_others_measured():
    sims = [BatchSim(Blurred(), [{}] * 2) for _ in range(2)]
    for sim in sims:
        sim.reset(seed=3)
        seen = sim.step(np.zeros((2, 1), np.float32))[0]
    for lanes in ([True, False], [False, True]):
        some = np.array(lanes)
        obs = sims[0].reset(seed=7, lanes=some)
        np.testing.assert_array_equal(obs[~some], seen[~some])
        np.testing.assert_array_equal(obs[some], sims[1].reset(seed=7)[some])
        seen = obs


def test_references_that_were_handed_out_are_the_callers(family):
    sim, other = (BatchSim(family, [{}]) for _ in range(2))
    sim.reference(3)[:] = 99.0
    np.testing.assert_array_equal(sim.reference(3), other.reference(3))


def test_sensors_that_make_no_sense_are_refused():
    still = np.zeros((1, 4))
    with pytest.raises(ValueError, match="noise must be finite and not negative"):
        Sensors(still - 0.1, np.zeros(1, int))
    with pytest.raises(ValueError, match=r"delay must be 0 to 32 control periods, got \[33\]"):
        Sensors(still, np.array([33]))


def test_actions_of_another_shape_are_refused(family):
    sim = BatchSim(family, [{}, {}])
    width = len(family.robot.actions)
    with pytest.raises(ValueError, match=rf"shape \(1, {width}\), expected \(2, {width}\)"):
        sim.step(np.zeros((1, width), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_command_that_is_not_finite_moves_nothing(family, value):
    sim = BatchSim(family, [{}, {}])
    action = np.zeros((2, len(family.robot.actions)), np.float32)
    action[1, -1] = value
    qpos = sim.batch.qpos.copy()
    with pytest.raises(ValueError, match="the action of lane 1 is not finite"):
        sim.step(action)
    np.testing.assert_array_equal(sim.batch.qpos, qpos)


def test_a_seed_repeats_an_episode_and_another_one_does_not(family):
    sim = BatchSim(family, [{}, {}])
    episodes = []
    for seed in (1, 1, 2):
        sim.reset(seed)
        action = np.full((2, len(family.robot.actions)), 0.3, np.float32)
        obs = [sim.step(action)[0] for _ in range(3)]
        episodes.append((np.stack(obs), sim.reference(5)))
    np.testing.assert_array_equal(episodes[0][0], episodes[1][0])
    np.testing.assert_array_equal(episodes[0][1], episodes[1][1])
    assert not np.array_equal(episodes[0][0], episodes[2][0])


def test_what_a_caller_does_to_an_observation_changes_no_reward(family):
    sims = [BatchSim(family, [{}]) for _ in range(2)]
    action = np.full((1, len(family.robot.actions)), 0.1, np.float32)
    rewards = []
    for sim in sims:
        obs = sim.reset(seed=0)
        obs += 100.0 * (sim is sims[1])
        obs = sim.step(action)[0]
        obs += 100.0 * (sim is sims[1])
        rewards.append(sim.step(action)[1])
    np.testing.assert_array_equal(*rewards)


def test_an_episode_is_cut_at_its_length(family, monkeypatch):
    monkeypatch.setattr(family, "episode_steps", 3)
    sim = BatchSim(family, [{}])
    action = np.zeros((1, len(family.robot.actions)), np.float32)
    assert [bool(sim.step(action)[3]) for _ in range(3)] == [False, False, True]


def test_the_reference_moves_on_by_one_period_a_step(family):
    sim = BatchSim(family, [{}])
    before = sim.reference(6)
    sim.step(np.zeros((1, len(family.robot.actions)), np.float32))
    np.testing.assert_allclose(sim.reference(5), before[:, 1:], atol=1e-6)
