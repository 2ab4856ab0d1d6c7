"""sim.gymnasium_env: families as gymnasium environments, alone and side by side."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("gymnasium", reason="gymnasium is in the extra 'train'")

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from reptile_agent.spec import limits
from sim import registry
from sim.families.arm import Arm
from sim.families.cartpole import Cartpole
from sim.gymnasium_env import RobotEnv, RobotVectorEnv, environment_id

SLOW = {"pole_mass": 2.0, "pole_length": 1.3, "friction": 3.0, "gain": 0.7}
FAST = {"pole_mass": 0.5, "pole_length": 0.7, "friction": 0.3, "gain": 1.2}


class Same(Cartpole):
    """Every episode starts the same way, and ends early: nothing is left to the seed but tasks."""

    episode_steps = 9

    def initial_state(self, rng, tasks):
        return np.tile([0.1, 3.0], (len(tasks), 1)), np.zeros((len(tasks), 2))

    def draw_course(self, rng, tasks):
        return {"mark": np.full((len(tasks), 1), 0.25)}

    def terminated(self, obs):
        return obs[:, 0] > 0.2


def fresh_python(code: str) -> str:
    """What a python that has imported nothing yet prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_registered_family_has_an_environment():
    for name in registry.names():
        assert gymnasium.spec(environment_id(name)).kwargs == {"family": name}
    assert environment_id("half_cheetah_vel") == "reptile_agent/HalfCheetahVel-v0"


def test_registration_loads_no_family():
    code = (
        "import sys, sim.gymnasium_env; print({'torch', 'mujoco', 'sim.family'} & {*sys.modules})"
    )
    assert fresh_python(code).strip() == "set()"


def test_one_line_registers_and_makes():
    make = "gymnasium.make('sim.gymnasium_env:reptile_agent/Cartpole-v0')"
    assert "reptile_agent/Cartpole-v0" in fresh_python(f"import gymnasium; print({make})")


@pytest.mark.slow
def test_pictures_are_made_where_an_opengl_works():
    # In a process of its own: OpenGL is chosen when mujoco is first imported.
    code = """
import gymnasium
from gymnasium.utils.env_checker import check_env
from sim.render import RenderError
make = dict(id="sim.gymnasium_env:reptile_agent/Arm-v0", render_mode="rgb_array")
try:
    env = gymnasium.make(**make)
except RenderError as error:
    print("none", error)
    raise SystemExit
check_env(env.unwrapped)
envs = gymnasium.make_vec(**make, num_envs=2, tasks=[{}, {"payload_kg": 0.2}])
envs.reset(seed=0)
first = envs.render()
for _ in range(10):
    envs.step(envs.action_space.sample())
second = envs.render()
print(first[0].shape, (first[0] != second[0]).mean() > 0.001, (second[0] != second[1]).any())
envs.close()
env.close()
"""
    printed = fresh_python(code)
    if printed.startswith("none"):
        pytest.skip(printed)
    assert printed.strip() == "(480, 640, 3) True True"


@pytest.mark.parametrize("family", registry.names())
def test_gymnasiums_own_checker_has_nothing_to_say(family):
    env = gymnasium.make(environment_id(family)).unwrapped
    check_env(env, skip_render_check=True)  # pictures: above


def test_an_observation_is_the_measurement_and_the_next_reference():
    env = RobotEnv("arm")
    env.reset(seed=0)
    obs, *_ = env.step(np.zeros(5))
    sim = env._lanes.sim
    np.testing.assert_array_equal(obs, [*sim.obs[0], *sim.reference(1)[0, 0]])
    assert env.observation_space.shape == (15,)


def test_actions_from_minus_one_to_one_span_the_limits(monkeypatch):
    env, sent = RobotEnv("arm"), []
    low, high = limits(Arm.robot.actions)
    step = env._lanes.sim.step
    monkeypatch.setattr(env._lanes.sim, "step", lambda a: (sent.append(a[0]), step(a))[1])
    for action in (-np.ones(5), np.zeros(5), np.full(5, 7.0)):
        env.step(action)
    np.testing.assert_allclose(sent, [low, (low + high) / 2, high], rtol=1e-6, atol=1e-7)


def test_the_seed_draws_tasks_of_the_split_and_everything_else():
    one, other = (RobotEnv("cartpole", split="extrapolated") for _ in range(2))
    tasks = []
    for env in (one, other):
        drawn = [env.reset(seed=4)] + [env.reset() for _ in range(5)]
        tasks.append(drawn)
    assert data_equivalence(tasks[0], tasks[1], exact=True)
    names = [info["task"] for _, info in tasks[0]]
    assert all(task in Cartpole().splits()["extrapolated"] for task in names)
    assert len({tuple(task.values()) for task in names}) > 2
    assert not data_equivalence(other.reset(seed=5), tasks[0][0])


def test_a_task_can_be_chosen_at_a_start_and_the_next_is_drawn_again():
    env = RobotEnv("cartpole", tasks=[FAST])
    assert env.reset(options={"task": SLOW})[1] == {"task": SLOW}
    assert env._lanes.sim.tasks == [SLOW]
    assert env.reset()[1] == {"task": FAST}
    assert env._lanes.sim.tasks == [FAST]


def test_one_lane_is_the_single_environment():
    alone, vector = SyncVectorEnv([lambda: RobotEnv("arm")]), RobotVectorEnv(1, "arm")
    same_course(alone, vector, steps=330)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_lanes_are_what_single_environments_side_by_side_are(mode):
    family, tasks = Same(), [SLOW, FAST, {}]
    alone = SyncVectorEnv([lambda: RobotEnv(family, tasks)] * 5, autoreset_mode=mode)
    vector = RobotVectorEnv(5, family, tasks, autoreset_mode=mode)
    assert vector.metadata == alone.metadata
    for (
        name
    ) in "single_observation_space observation_space single_action_space action_space".split():
        assert getattr(vector, name) == getattr(alone, name)
    ends = same_course(alone, vector, steps=60)
    assert ends["terminated"] > 5
    assert ends["truncated"] > 5


def same_course(alone: SyncVectorEnv, vector: RobotVectorEnv, steps: int) -> dict[str, int]:
    """Assert that both say the same to the bit over so many steps; count how episodes ended."""
    assert data_equivalence(alone.reset(seed=3), vector.reset(seed=3), exact=True)
    vector.action_space.seed(0)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(steps):
        action = vector.action_space.sample()
        one, other = alone.step(action), vector.step(action)
        assert data_equivalence(one, other, exact=True)
        ended = other[2] | other[3]
        ends["terminated"] += other[2].sum()
        ends["truncated"] += other[3].sum()
        if vector.autoreset_mode == AutoresetMode.DISABLED and ended.any():
            pair = (envs.reset(options={"reset_mask": ended.copy()}) for envs in (alone, vector))
            assert data_equivalence(*pair, exact=True)
    return ends


def test_what_was_returned_does_not_change_afterwards():
    envs = RobotVectorEnv(3, Same(), autoreset_mode="SameStep")
    obs, _ = envs.reset(seed=0)
    kept = [(obs, obs.copy())]
    for _ in range(20):
        *arrays, infos = envs.step(envs.action_space.sample())
        arrays += [x for x in infos.get("final_obs", []) if x is not None]
        kept += [(x, x.copy()) for x in arrays]
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


def test_an_episode_can_be_cut_earlier():
    envs = gymnasium.make_vec("reptile_agent/Cartpole-v0", num_envs=2, max_episode_steps=3)
    envs.reset(seed=0)
    cut = [envs.step(envs.action_space.sample())[3].tolist() for _ in range(5)]
    assert cut == [[False] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2]
    envs.reset(options={"reset_mask": np.array([True, False])})
    cut = [envs.step(envs.action_space.sample())[3].tolist() for _ in range(3)]
    assert cut == [[False, False], [False, True], [True, False]]


def test_a_lane_that_diverges_is_terminated_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # mujoco writes a log where it stands
    envs = RobotVectorEnv(3, "cartpole")
    envs.reset(seed=0)
    envs._lanes.sim.batch.qvel[1, 0] = np.inf
    obs, reward, terminated, *_ = envs.step(np.zeros((3, 1)))
    assert terminated.tolist() == [False, True, False]
    assert np.isfinite(obs).all()
    assert np.isfinite(reward).all()


@pytest.mark.slow
def test_sb3_trains_on_it():
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is in the extra 'dev'")
    env = gymnasium.make("reptile_agent/Cartpole-v0")
    small = {"n_steps": 128, "batch_size": 64, "n_epochs": 2}
    model = sb3.PPO("MlpPolicy", env, **small, device="cpu", seed=0)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(512)
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters()))
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"family": "amr"}, LookupError, "no task family 'amr'"),
        ({"split": "test"}, LookupError, r"'cartpole' has no split 'test' \(has: train, valid"),
        ({"tasks": []}, ValueError, "the argument tasks holds no tasks of family 'cartpole'"),
        ({"tasks": {"gain": 1.0}}, ValueError, "tasks must be a list of tasks"),
        ({"tasks": [{}, {"colour": 1.0}]}, LookupError, "'cartpole' has no variation 'colour'"),
        ({"tasks": [{}, {"gain": 99.0}]}, ValueError, "'gain' of family 'cartpole' is 99.0"),
        ({"render_mode": "human"}, ValueError, "render_mode must be None or 'rgb_array'"),
    ],
)
def test_bad_arguments_are_named(arguments, kind, message):
    for make in (RobotEnv, lambda **kw: RobotVectorEnv(2, **kw)):
        with pytest.raises(kind, match=message):
            make(**{"family": "cartpole"} | arguments)


def test_no_lanes_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        RobotVectorEnv(0, "cartpole")


def test_a_bad_task_at_a_start_changes_nothing():
    env = RobotEnv("cartpole", tasks=[FAST])
    with pytest.raises(LookupError, match="has no variation 'colour'"):
        env.reset(options={"task": {"colour": 1.0}})
    assert env._lanes.sim.tasks == [FAST]


def test_actions_that_do_not_fit_are_refused():
    env, envs = RobotEnv("arm"), RobotVectorEnv(2, "arm")
    with pytest.raises(ValueError, match=r"actions have shape \(1, 3\), expected \(1, 5\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match=r"actions have shape \(5,\), expected \(2, 5\)"):
        envs.step(np.zeros(5))
    with pytest.raises(ValueError, match="the action of lane 1 is not finite"):
        envs.step(np.array([[0.0] * 5, [np.nan] * 5]))


def test_seeds_and_masks_that_do_not_fit_are_refused():
    envs = RobotVectorEnv(3, "cartpole")
    with pytest.raises(ValueError, match="2 seeds for 3 lanes"):
        envs.reset(seed=[1, 2])
    for mask in (np.zeros(3, bool), np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match=r"options\['reset_mask'\] must be bool"):
            envs.reset(options={"reset_mask": mask})


def test_without_automatic_starts_an_ended_lane_is_not_stepped():
    envs = RobotVectorEnv(2, "cartpole", autoreset_mode="Disabled", max_episode_steps=1)
    envs.reset(seed=0)
    envs.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"the episodes of lanes \[0, 1\] have ended"):
        envs.step(np.zeros((2, 1)))


def test_pictures_need_mujoco(monkeypatch):
    from sim.render import RenderError

    env = RobotEnv("cartpole", render_mode="rgb_array")
    monkeypatch.setattr(env._lanes, "sim", object())
    with pytest.raises(RenderError, match="'cartpole' has no picture: only robots in MuJoCo do"):
        env.render()
