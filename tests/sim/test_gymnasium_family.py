"""sim.gymnasium_family: any gymnasium environment as a task family."""

from __future__ import annotations

import inspect
import sys

import pytest

pytest.importorskip("gymnasium", reason="gymnasium is in the extra 'train'")

import gymnasium
import numpy as np
import torch

from reptile_agent.task import TaskFamily, VecSim
from sim import gymnasium_query as query
from sim.gymnasium_family import GymnasiumFamily, from_name, robot_of

PENDULUM = "gymnasium:Pendulum-v1?g=5..15"


@pytest.fixture(scope="module")
def pendulum() -> GymnasiumFamily:
    return from_name(PENDULUM)


def test_a_family_offers_what_the_protocol_asks_for(pendulum):
    for name in TaskFamily.__annotations__:
        assert getattr(pendulum, name) is not None, name
    for protocol, thing in ((TaskFamily, pendulum), (VecSim, pendulum.make_sim([{}]))):
        for name, method in inspect.getmembers(protocol, inspect.isfunction):
            if not name.startswith("_"):
                wanted = list(inspect.signature(method).parameters)[1:]
                assert list(inspect.signature(getattr(thing, name)).parameters) == wanted, name


def test_a_name_says_what_is_fixed_and_what_varies():
    parsed = query.parse("gymnasium:ALE/Pong-v5?obs_type=ram&mode=1,0&frameskip=4&p=0.5..2&s=true")
    assert parsed.env_id == "ALE/Pong-v5"
    assert parsed.fixed == {"obs_type": "ram", "frameskip": 4, "s": True}
    assert parsed.choices == {"mode": (0.0, 1.0)}
    assert parsed.ranges == {"p": (0.5, 2.0)}
    assert query.parse("gymnasium:CartPole-v1") == query.Query("CartPole-v1", {}, {}, {})
    assert query.parse("gymnasium:my_package:Mine-v0").env_id == "my_package:Mine-v0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g", "cannot read 'g' .* expected keyword=value"),
        ("g=", "cannot read 'g=' .* expected keyword=value"),
        ("=1", "cannot read '=1' .* expected keyword=value"),
        ("g=1&&m=2", "cannot read '' .* expected keyword=value"),
        ("g=1&g=2", "names the keyword 'g' twice"),
        ("g=2..1", "cannot read 'g=2..1' .* low < high"),
        ("g=0..inf", "a range needs finite numbers"),
        ("g=a..b", "cannot read 'g=a..b' .* could not convert"),
        ("g=0..0.0000001", "six decimals"),
        ("g=0,0.5", "choices must be at least two different whole numbers"),
        ("g=3,3", "choices must be at least two different whole numbers"),
        ("g=left,right", "cannot read 'g=left,right' .* could not convert"),
    ],
)
def test_a_name_that_cannot_be_read_is_answered_by_the_part_of_it(text, message):
    with pytest.raises(ValueError, match=message):
        query.parse(f"gymnasium:Pendulum-v1?{text}")


def test_a_range_is_trained_on_in_its_middle_and_judged_outside(pendulum):
    (g,) = pendulum.variations
    assert (g.nominal, g.train, g.beyond) == (10.0, (7.0, 13.0), (5.0, 15.0))
    splits = pendulum.splits()
    assert {name: len(tasks) for name, tasks in splits.items()} == {
        "train": 128,
        "validation": 32,
        "in_range": 32,
        "extrapolated": 32,
        "held_out": 32,
        "infeasible": 0,
    }
    assert all(7 <= task["g"] <= 13 for task in splits["train"] + splits["in_range"])
    for name in ("validation", "extrapolated", "held_out"):
        assert all(5 <= task["g"] <= 7 or 13 <= task["g"] <= 15 for task in splits[name])
    assert splits == from_name(PENDULUM).splits()


def choices(**values: tuple[float, ...]) -> dict[str, list[dict[str, float]]]:
    """Splits of keywords that vary among these."""
    return query.split(query.variations(query.Query("", {}, {}, values), lambda _: None))


def test_the_largest_choice_is_kept_from_training():
    splits = choices(mode=(0.0, 1.0), difficulty=(0.0, 1.0, 2.0, 3.0))
    assert splits["train"] == [{"mode": 0.0, "difficulty": float(i)} for i in range(3)]
    assert splits["in_range"] == splits["train"]
    assert splits["held_out"] == [{"mode": 1.0, "difficulty": 3.0}]
    judged = splits["validation"] + splits["extrapolated"]
    assert len(judged) == 4
    assert all(task["mode"] == 1.0 or task["difficulty"] == 3.0 for task in judged)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": (0.0, 1.0)},
        {"a": (0.0, 1.0, 2.0)},
        {"a": (0.0, 1.0), "b": (0.0, 1.0)},
        {name: (0.0, 1.0, 2.0, 3.0) for name in "abcdef"},
    ],
)
def test_every_split_has_tasks_and_what_judges_never_tunes(values):
    splits = choices(**values)
    assert all(splits[name] for name in splits if name != "infeasible")
    if not values:
        return  # there is but one task
    judging = splits["extrapolated"] + splits["held_out"]
    few = len(splits["train"]) < 128
    for task in splits["train"] + splits["validation"] if few else splits["train"]:
        assert task not in judging


def test_signals_come_from_the_spaces(pendulum):
    robot = pendulum.robot
    assert [(s.name, s.low, s.high) for s in robot.observations] == [
        ("observation_0.position", -1.0, 1.0),
        ("observation_1.position", -1.0, 1.0),
        ("observation_2.position", -8.0, 8.0),
    ]
    assert [(s.name, s.low, s.high) for s in robot.actions] == [("action_0.effort", -2.0, 2.0)]
    assert robot.references == robot.observations[:1]
    assert (robot.control_period_s, pendulum.episode_steps) == (0.05, 200)


def test_infinite_limits_become_large_and_a_choice_is_one_action():
    family = from_name("gymnasium:CartPole-v1?max_episode_steps=50")
    assert [round(s.high, 2) for s in family.robot.observations] == [4.8, 1e6, 0.42, 1e6]
    (action,) = family.robot.actions
    assert (action.unit, action.low, action.high) == ("choice", 0.0, 1.0)
    assert (family.episode_steps, family.splits()["train"]) == (50, [{}])


def test_whole_numbers_are_passed_as_int(monkeypatch):
    passed = []
    make = gymnasium.make
    monkeypatch.setattr(gymnasium, "make", lambda i, **kw: (passed.append(kw["g"]), make(i))[1])
    family = from_name("gymnasium:Pendulum-v1?g=9,10,11")
    family.make_sim([{"g": 9.0}, {}])
    ranged = from_name(PENDULUM)
    ranged.make_sim([{"g": 7.5}])
    assert passed == [10, 9, 10, 10, 7.5]
    assert [type(value) for value in passed] == [int] * 4 + [float]


def test_a_lane_is_its_environment_stepped_alone(pendulum):
    sim = pendulum.make_sim([{"g": 6.0}, {"g": 14.0}])
    alone = gymnasium.make("Pendulum-v1", g=14.0)
    obs = sim.reset(seed=5)
    alone.reset()
    alone.unwrapped.state = sim.envs[1].unwrapped.state.copy()
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-2, 2, (2, 1)).astype(np.float32)
        obs, reward, terminated, truncated = sim.step(action)
        expected, gained, *_ = alone.step(action[1])
        np.testing.assert_array_equal(obs[1], expected)
        assert reward[1] == np.float32(gained)
    assert obs.dtype == reward.dtype == np.float32
    assert not terminated.any()
    assert not truncated.any()
    assert not np.array_equal(obs[0], obs[1])


def test_a_lane_starts_the_same_way_whichever_others_start_with_it(pendulum):
    sim = pendulum.make_sim([{}, {}, {}])
    all_three = sim.reset(seed=7).copy()
    for _ in range(3):
        before = sim.step(np.ones((3, 1), np.float32))[0]
    alone = sim.reset(seed=7, lanes=np.array([False, True, False]))
    np.testing.assert_array_equal(alone[1], all_three[1])
    np.testing.assert_array_equal(alone[[0, 2]], before[[0, 2]])
    assert len(np.unique(all_three, axis=0)) == 3


def test_a_choice_is_rounded_and_commands_beyond_the_limits_are_clipped():
    sim = from_name("gymnasium:CartPole-v1").make_sim([{}] * 4)
    for env in sim.envs:
        env.reset(seed=0)
    obs, *_ = sim.step(np.array([[0.4], [-7.0], [0.6], [9.0]]))
    np.testing.assert_array_equal(obs[0], obs[1])
    np.testing.assert_array_equal(obs[2], obs[3])
    assert obs[0, 1] < 0 < obs[2, 1]


def test_a_lane_that_terminated_stands_still_until_it_starts_anew():
    sim = from_name("gymnasium:CartPole-v1").make_sim([{}, {}])
    sim.reset(seed=0)
    action = np.array([[0.0], [0.0]])
    for _ in range(200):
        action[1] = float(sim.obs[1, 2] + 0.5 * sim.obs[1, 3] > 0)  # balances
        obs, reward, terminated, _ = sim.step(action)
        if terminated[0]:
            break
    last = obs[0].copy()
    obs, reward, terminated, _ = sim.step(action)
    np.testing.assert_array_equal(obs[0], last)
    assert (reward.tolist(), terminated.tolist()) == ([0.0, 1.0], [True, False])
    sim.reset(seed=1, lanes=terminated)
    _, reward, terminated, _ = sim.step(action)
    assert (reward.tolist(), terminated.tolist()) == ([1.0, 1.0], [False, False])


def test_an_episode_is_cut_at_its_length():
    sim = from_name("gymnasium:Pendulum-v1?max_episode_steps=4").make_sim([{}, {}])
    cut = [sim.step(np.zeros((2, 1)))[3].tolist() for _ in range(3)]
    sim.reset(seed=0, lanes=np.array([True, False]))
    cut.append(sim.step(np.zeros((2, 1)))[3].tolist())
    assert cut == [[False, False]] * 3 + [[False, True]]


def test_references_stand_still_at_zero_or_next_to_it(pendulum):
    np.testing.assert_array_equal(pendulum.make_sim([{}, {}]).reference(4), np.zeros((2, 4, 1)))
    car = from_name("gymnasium:MountainCar-v0")
    np.testing.assert_array_equal(car.reference(), [0.0])
    box = gymnasium.spaces.Box(np.float32(3), np.float32(5), (2,))
    car.robot = car.robot.model_copy(
        update={"references": (robot_of("it", _with(car, box)).references[0],)}
    )
    np.testing.assert_array_equal(car.reference(), [3.0])


def _with(family: GymnasiumFamily, observed: gymnasium.Space) -> gymnasium.Env:
    env = family.make_env({})
    env.observation_space = observed
    return env


def test_a_fault_in_mid_motion_leaves_the_motion(pendulum):
    sim, untouched = (pendulum.make_sim([{"g": 10.0}] * 2) for _ in range(2))
    action = np.ones((2, 1), np.float32)
    for _ in range(5):
        obs, *_ = sim.step(action)
        untouched.step(action)
    sim.set_tasks([{"g": 10.0}, {"g": 15.0}])
    np.testing.assert_array_equal(sim.obs, obs)
    changed, same = sim.step(action)[0], untouched.step(action)[0]
    np.testing.assert_array_equal(changed[0], same[0])
    assert not np.array_equal(changed[1], same[1])
    np.testing.assert_allclose(changed[1], same[1], atol=0.5)


@pytest.mark.slow
def test_a_mujoco_environment_carries_its_motion_over():
    family = from_name("gymnasium:InvertedPendulum-v5?frame_skip=2,3")
    sim = family.make_sim([{}, {}])
    for _ in range(3):
        sim.step(np.full((2, 1), 0.1))
    qpos = sim.envs[1].unwrapped.data.qpos.copy()
    sim.set_tasks([{}, {"frame_skip": 3.0}])
    np.testing.assert_array_equal(sim.envs[1].unwrapped.data.qpos, qpos)
    assert sim.envs[1].unwrapped.frame_skip == 3


def test_what_cannot_be_carried_over_starts_anew(pendulum, monkeypatch):
    monkeypatch.setattr("sim.backends.gymnasium_sim._take_over", lambda old, new: False)
    sim = pendulum.make_sim([{}, {}])
    obs, *_ = sim.step(np.ones((2, 1)))
    sim.set_tasks([{}, {"g": 6.0}])
    np.testing.assert_array_equal(sim.obs[0], obs[0])
    assert not np.array_equal(sim.obs[1], obs[1])
    assert sim._steps.tolist() == [1, 0]


def test_refused_tasks_change_nothing(pong):
    sim = pong.make_sim([{}, {}])
    family = from_name("gymnasium:ALE/Pong-v5?obs_type=ram&mode=0,1,7")
    sim.family, envs = family, list(sim.envs)
    with pytest.raises(ValueError, match="refuses"):
        sim.set_tasks([{"mode": 1.0}, {"mode": 7.0}])
    assert sim.envs == envs
    assert sim.tasks == [{}, {}]


def test_the_reward_is_no_planners_and_it_is_said_what_to_do(pendulum):
    nothing = torch.zeros(3)
    with pytest.raises(LookupError, match=r"Pendulum-v1 knows its reward.*without a model \(PPO"):
        pendulum.reward(nothing, nothing, nothing, nothing)


def test_what_varies_is_described(pendulum):
    (row,) = pendulum.describe()
    assert (row["name"], row["train"], row["held_out"]) == ("g", (7.0, 13.0), False)
    assert pendulum.feasible({"g": 5.0})


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("CartPole-v99", LookupError, "gymnasium has no environment 'CartPole-v99'"),
        ("NoSuchThing-v0", LookupError, "gymnasium has no environment 'NoSuchThing-v0'"),
        ("nowhere/Thing-v0", LookupError, "no environment 'nowhere/Thing-v0'.*module"),
        ("", LookupError, "gymnasium has no environment ''"),
        ("no_such_package:It-v0", LookupError, "needs a package: No module named 'no_such_package"),
        ("Pendulum-v1?colour=3", LookupError, "'colour'.*; it knows the keywords render_mode, g"),
        ("FrozenLake-v1", ValueError, r"observes Discrete\(16\); only a Box of numbers"),
    ],
)
def test_an_environment_that_will_not_do_is_answered_by_a_sentence(name, kind, message):
    with pytest.raises(kind, match=message):
        from_name(f"gymnasium:{name}")


@pytest.mark.parametrize("missing", [ImportError, gymnasium.error.DependencyNotInstalled])
def test_an_environment_whose_package_is_missing_says_so(monkeypatch, missing):
    def make():
        raise missing("no Box2D here, pip install it")

    monkeypatch.setitem(
        gymnasium.registry, "Lander-v0", gymnasium.envs.registration.EnvSpec("Lander-v0", make)
    )
    with pytest.raises(LookupError, match="Lander-v0 needs a package: no Box2D here, pip install"):
        from_name("gymnasium:Lander-v0")


def test_images_are_refused_with_the_way_out(pendulum):
    images = gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    with pytest.raises(ValueError, match=r"observes images of shape \(96, 96, 3\).*obs_type=ram"):
        robot_of("it", _with(pendulum, images))


def test_actions_of_other_kinds_are_refused(pendulum):
    env = pendulum.make_env({})
    env.action_space = gymnasium.spaces.MultiBinary(3)
    with pytest.raises(ValueError, match=r"'it' is commanded by MultiBinary\(3\)"):
        robot_of("it", env)


def test_bad_tasks_are_named(pendulum):
    with pytest.raises(ValueError, match="no tasks given; a simulator needs one a lane"):
        pendulum.make_sim([])
    with pytest.raises(LookupError, match=r"has no variation 'm' \(there are: g\)"):
        pendulum.make_sim([{}, {"m": 1.0}])
    with pytest.raises(
        ValueError, match=r"variation 'g' of family '.*' is 99.0, outside its range"
    ):
        pendulum.make_sim([{"g": 99.0}])
    sim = pendulum.make_sim([{}])
    with pytest.raises(ValueError, match="2 tasks for 1 lanes"):
        sim.set_tasks([{}, {}])


def test_bad_actions_are_named_and_move_nothing(pendulum):
    sim = pendulum.make_sim([{}, {}])
    before = sim.obs.copy()
    with pytest.raises(ValueError, match=r"actions have shape \(2,\), expected \(2, 1\)"):
        sim.step(np.zeros(2))
    with pytest.raises(ValueError, match="the action of lane 1 is not finite"):
        sim.step(np.array([[0.0], [np.nan]]))
    np.testing.assert_array_equal(sim.obs, before)
    assert sim._steps.tolist() == [0, 0]


def test_without_ale_py_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(LookupError, match=r"needs a package: .*reptile-agent\[atari\]"):
        from_name("gymnasium:ALE/Pong-v5?obs_type=ram")


@pytest.fixture(scope="module")
def pong() -> GymnasiumFamily:
    pytest.importorskip("ale_py", reason="ale-py is in the extra 'atari'")
    return from_name("gymnasium:ALE/Pong-v5?obs_type=ram&mode=0,1&difficulty=0,1,2,3")


def test_two_tasks_of_pong_are_two_games(pong):
    sim = pong.make_sim([{"mode": 0.0, "difficulty": 0.0}, {"mode": 1.0, "difficulty": 3.0}] * 2)
    for env in sim.envs:  # the same start, so that only the task differs
        env.reset(seed=0)
    assert sim.obs.shape == (4, 128)
    for _ in range(60):
        obs, *_ = sim.step(np.full((4, 1), 2.0))
    np.testing.assert_array_equal(obs[:2], obs[2:])
    assert (obs[0] != obs[1]).sum() > 5


def test_pong_splits_and_signals(pong):
    assert len(pong.splits()["train"]) == 3
    assert (pong.robot.actions[0].high, pong.robot.observations[127].high) == (5.0, 255.0)


def test_pongs_images_are_refused(pong):
    with pytest.raises(ValueError, match=r"images of shape \(210, 160, 3\).*obs_type=ram"):
        from_name("gymnasium:ALE/Pong-v5")


def test_a_mode_that_the_game_lacks_is_refused(pong):
    family = from_name("gymnasium:ALE/Pong-v5?obs_type=ram&mode=0,7")
    with pytest.raises(ValueError, match=r"ALE/Pong-v5 refuses .*'mode': 7.*mode"):
        family.make_sim([{"mode": 7.0}])
