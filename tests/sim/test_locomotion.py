"""The half-cheetahs and the ant: gymnasium's where nominal, and else what their tasks say."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from reptile_agent.spec import limits
from sim import registry
from sim.backends.batch import BatchSim
from sim.families import _gymnasium, ant, half_cheetah

CHEETAHS = ["half_cheetah", "half_cheetah_vel", "half_cheetah_dir"]
MOTORS = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]


@pytest.fixture
def cheetah():
    return registry.get("half_cheetah")


@pytest.fixture
def walker():
    return registry.get("ant")


@pytest.fixture(params=[*CHEETAHS, "ant"])
def family(request):
    return registry.get(request.param)


@pytest.fixture
def original(tmp_path, monkeypatch):
    """Makes gymnasium's own environment, its cones and contact forces as in our family."""
    monkeypatch.chdir(tmp_path)  # mujoco writes a log where it stands

    def make(name: str):
        if name == "half_cheetah":
            return HalfCheetahEnv()
        env = AntEnv(include_cfrc_ext_in_observation=False, contact_cost_weight=0.0)
        env.model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        return env

    return make


def in_the_air(sim: BatchSim) -> BatchSim:
    """Every lane high above the ground, straight and at rest."""
    sim.batch.qpos[:], sim.batch.qvel[:] = sim.family.model.qpos0, 0.0
    height = 1 if sim.family.name != "ant" else 2
    sim.batch.qpos[:, height] += 5.0
    sim.batch.forward()
    return sim


def pushed(sim: BatchSim) -> np.ndarray:
    """Speed along x that is left of 3 m/s after a fifth of a second on the ground, [lanes]."""
    still = np.zeros((sim.num_envs, len(sim.family.robot.actions)), np.float32)
    for _ in range(40):
        sim.step(still)
    sim.batch.qvel[:, 0] = 3.0
    for _ in range(4):
        sim.step(still)
    return sim.batch.qvel[:, 0].copy()


@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")
@pytest.mark.parametrize("name", ["half_cheetah", "ant"])
def test_the_nominal_robot_moves_as_gymnasiums_and_is_paid_as_there(name, original):
    family, env = registry.get(name), original(name)
    sim = BatchSim(family, [{}])
    before = sim.reset(seed=1)
    env.reset(seed=0)
    env.set_state(sim.batch.qpos[0].copy(), sim.batch.qvel[0].copy())
    start = env.data.qpos[0]
    forward = {"half_cheetah": half_cheetah.FORWARD, "ant": ant.FORWARD}[name]
    rng, way = np.random.default_rng(0), 0.0
    for _ in range(20):
        action = rng.uniform(-1, 1, (1, len(family.robot.actions))).astype(np.float32)
        obs, reward, terminated, _ = sim.step(action)
        theirs, _, done, _, info = env.step(action[0])
        np.testing.assert_allclose(obs[0], theirs, atol=1e-5)
        assert terminated[0] == done
        speed = (before[0, forward] + obs[0, forward]) / 2
        rest = info["reward_ctrl"] + info.get("reward_survive", 0.0)
        np.testing.assert_allclose(reward[0] - speed, rest, atol=1e-5)
        way += speed * family.robot.control_period_s
        before = obs
    # The speed is no more than an approximation of gymnasium's way over time, but without a bias.
    assert abs(way - (env.data.qpos[0] - start)) < 0.05


@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")
@pytest.mark.parametrize("name", ["half_cheetah", "ant"])
def test_episodes_start_as_gymnasiums(name, original):
    family, env = registry.get(name), original(name)
    qpos, qvel = family.initial_state(np.random.default_rng(0), [{}] * 400)
    starts = []
    for seed in range(400):
        env.reset(seed=seed)
        starts.append(np.concatenate([env.data.qpos, env.data.qvel]))
    ours, theirs = np.concatenate([qpos, qvel], axis=1), np.stack(starts)
    if name == "ant":  # gymnasium leaves it to MuJoCo to bring the quaternion to length 1
        theirs[:, 3:7] /= np.linalg.norm(theirs[:, 3:7], axis=1, keepdims=True)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.03)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.02)


@pytest.mark.parametrize("height", [0.1, 0.19, 0.21, 0.6, 0.99, 1.01])
def test_the_ants_episode_ends_at_gymnasiums_heights(walker, height, original):
    env = original("ant")
    state = walker.model.qpos0.copy()
    state[2] = height
    env.set_state(state, np.zeros(14))
    obs = torch.zeros(1, 27)
    obs[0, 0] = height
    assert walker.terminated(obs)[0] == (not env.is_healthy)
    assert walker.terminated(obs.numpy())[0] == (not env.is_healthy)
    assert walker.reward(obs, torch.zeros(1, 8), obs, torch.zeros(1, 1)) == env.healthy_reward


def test_without_gymnasium_the_mend_is_named(cheetah, monkeypatch):
    monkeypatch.setattr(_gymnasium, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"'half_cheetah.xml' comes with gymnasium"):
        cheetah.build()


def test_signals_are_of_the_joints_that_they_name(family):
    model, sim = family.model, BatchSim(family, [{}])
    rng = np.random.default_rng(0)
    sim.batch.qpos[0], sim.batch.qvel[0] = rng.normal(size=model.nq), rng.normal(size=model.nv)
    seen = {s.name: value for s, value in zip(family.robot.observations, sim.state()[0])}
    named = {s.joint for s in family.robot.observations}
    for joint in (model.joint(i) for i in range(model.njnt)):
        if f"{joint.name}.position" in seen:
            assert seen[f"{joint.name}.position"] == np.float32(sim.batch.qpos[0, joint.qposadr[0]])
        if joint.name in named:
            assert seen[f"{joint.name}.velocity"] == np.float32(sim.batch.qvel[0, joint.dofadr[0]])
    driven = [model.joint(i).name for i in model.actuator_trnid[:, 0]]
    assert driven == [signal.joint for signal in family.robot.actions]
    assert len(seen) == len(family.columns)


def test_the_ants_torso_is_observed_by_axis(walker):
    sim = BatchSim(walker, [{}])
    sim.batch.qpos[0, :7] = np.arange(7)
    sim.batch.qvel[0, :6] = np.arange(10, 16)
    seen = {s.name: value for s, value in zip(walker.robot.observations, sim.state()[0])}
    names = ["z", "qw", "qx", "qy", "qz"]
    assert [seen[f"torso_{name}.position"] for name in names] == [2, 3, 4, 5, 6]
    names = ["x", "y", "z", "wx", "wy", "wz"]
    assert [seen[f"torso_{name}.velocity"] for name in names] == [10, 11, 12, 13, 14, 15]


def crippled() -> list:
    """Tasks of both robots with the actions that must be dead in them."""
    cases = [("half_cheetah", {"crippled_joint": float(i)}, [MOTORS[i]]) for i in range(1, 6)]
    cases += [
        ("half_cheetah", {"crippled_joint_0": 1.0}, ["bthigh"]),
        ("half_cheetah", {"crippled_joint": 3.0, "crippled_joint_0": 1.0}, ["bthigh"]),
        ("half_cheetah_vel", {"crippled_joint_0": 1.0}, ["bthigh"]),
        ("half_cheetah", {}, []),
        ("ant", {}, []),
        ("ant", {"crippled_leg_3": 1.0}, ["hip_4", "ankle_4"]),
        ("ant", {"crippled_leg": 1.0, "crippled_leg_3": 1.0}, ["hip_4", "ankle_4"]),
    ]
    legs = [("ant", {"crippled_leg": float(i)}, [f"hip_{i + 1}", f"ankle_{i + 1}"]) for i in (0, 2)]
    return cases + legs


@pytest.mark.parametrize(("name", "task", "dead"), crippled())
def test_a_crippled_joints_action_has_no_effect_and_every_other_has(name, task, dead):
    family = registry.get(name)
    motors = [signal.joint for signal in family.robot.actions]
    sim = in_the_air(BatchSim(family, [task] * (1 + len(motors))))
    action = np.zeros((1 + len(motors), len(motors)), np.float32)
    action[1:] = np.eye(len(motors))  # lane 0 rests, lane 1 + i commands motor i
    obs, *_ = sim.step(action)
    moved = [motor for motor, lane in zip(motors, obs[1:]) if not np.array_equal(lane, obs[0])]
    assert moved == [motor for motor in motors if motor not in dead]


def test_a_cheetahs_mass_is_14_kg_and_scales_with_its_inertia(cheetah):
    sim = BatchSim(cheetah, [{}, {"mass": 2.0}])
    mass, inertia = sim.batch.expand("body_mass"), sim.batch.expand("body_inertia")
    np.testing.assert_allclose(mass.sum(axis=1), [14.0, 28.0])
    np.testing.assert_allclose(inertia[1], 2.0 * inertia[0])


@pytest.mark.parametrize("name", CHEETAHS)
def test_a_heavier_cheetah_is_slower(name):
    sim = in_the_air(BatchSim(registry.get(name), [{"mass": m} for m in (0.6, 1.0, 2.5)]))
    sim.command(np.ones((3, 6)))
    sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
    speed = np.abs(sim.batch.qvel[:, 3])
    assert speed[0] > 1.1 * speed[1] > 1.1**2 * speed[2] > 0


def test_gain_scales_what_an_action_does(cheetah):
    tasks = [{}, {"gain": 0.4}, {"gain": 1.4}, {}]
    sim = in_the_air(BatchSim(cheetah, tasks))
    sim.command(np.array([[1.0], [1.0], [1.0], [0.0]]) * np.ones(6))
    sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
    effect = (sim.batch.qvel - sim.batch.qvel[3])[:3, 3:]
    np.testing.assert_allclose(effect, np.outer([1.0, 0.4, 1.4], effect[0]))


def test_a_slope_turns_gravity_uphill_where_positive(cheetah):
    slope = np.array([0.0, 0.3, -0.2])
    sim = in_the_air(BatchSim(cheetah, [{"slope_rad": s} for s in slope]))
    for _ in range(4):
        sim.step(np.zeros((3, 6), np.float32))
    fallen = 9.81 * 0.2
    np.testing.assert_allclose(sim.batch.qvel[:, 0], -fallen * np.sin(slope), atol=1e-3)
    np.testing.assert_allclose(sim.batch.qvel[:, 1], -fallen * np.cos(slope), atol=1e-3)


@pytest.mark.parametrize("name", CHEETAHS)
def test_latency_delays_the_response_by_that_long(name):
    delays = (0.0, 0.02, 0.06)
    sim = in_the_air(BatchSim(registry.get(name), [{"latency_s": s} for s in delays]))
    sim.command(np.ones((3, 6)))
    first_moved = np.full(3, -1)
    for substep in range(12):
        sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
        moved = np.abs(sim.batch.qvel[:, 3]) > 0.1
        first_moved = np.where((first_moved < 0) & moved, substep, first_moved)
    np.testing.assert_array_equal(first_moved, [0, 2, 6])


def test_friction_slows_what_slides(family):
    low, high = next(v.beyond for v in family.variations if v.name == "friction")
    sim = BatchSim(family, [{"friction": f} for f in (low, 1.0, high)])
    speed = pushed(sim)
    assert speed[0] > speed[1] + 0.1 > speed[2] + 0.2


def test_the_ants_payload_is_a_ball_on_its_back(walker):
    spec = walker.build()
    # inertiafromgeom makes the compiler add what the family computes.
    spec.body("torso").add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.05, 0, 0], pos=[0, 0, 0.3], mass=0.4
    )
    loaded = spec.compile()
    sim = BatchSim(walker, [{"payload_kg": 0.4}])
    for name in ("body_mass", "body_ipos"):
        np.testing.assert_allclose(sim.batch.expand(name)[0], getattr(loaded, name), atol=1e-9)
    # The compiler may name the principal axes in another order.
    np.testing.assert_allclose(
        np.sort(sim.batch.expand("body_inertia")[0]), np.sort(loaded.body_inertia), rtol=1e-6
    )


def test_a_loaded_ant_turns_over_more_slowly(walker):
    sim = in_the_air(BatchSim(walker, [{"payload_kg": m} for m in (0.0, 0.3, 0.9)]))
    action = np.zeros((3, 8), np.float32)
    action[:, [1, 3]] = 1.0  # two neighbouring ankles pitch the torso
    sim.step(action)
    rate = np.linalg.norm(sim.batch.qvel[:, 3:5], axis=1)
    assert rate[0] > 1.02 * rate[1] > 1.02**2 * rate[2] > 0


def test_the_ants_cones_are_elliptic(walker):
    assert walker.model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC


def test_the_cheetahs_velocity_is_the_reference_and_its_error_the_cost():
    family = registry.get("half_cheetah_vel")
    sim = BatchSim(family, [{"target_velocity": v} for v in (0.0, 1.5, 3.0)])
    np.testing.assert_array_equal(sim.reference(2)[..., 0], [[0, 0], [1.5, 1.5], [3, 3]])
    before = sim.obs
    obs, reward, *_ = sim.step(np.full((3, 6), 0.5, np.float32))
    speed = (before[:, half_cheetah.FORWARD] + obs[:, half_cheetah.FORWARD]) / 2
    expected = -np.abs(speed - [0.0, 1.5, 3.0]) - 0.05 * 6 * 0.25
    np.testing.assert_allclose(reward, expected, rtol=1e-5)


def test_the_cheetahs_direction_is_the_references_sign_and_turns_the_reward():
    family = registry.get("half_cheetah_dir")
    sim = BatchSim(family, [{"target_direction": -1.0}, {"target_direction": 1.0}])
    np.testing.assert_array_equal(sim.reference(1)[:, 0, 0], [-20.0, 20.0])
    sim.batch.qpos[:], sim.batch.qvel[:] = 0.0, 0.0
    sim.batch.qvel[:, 0] = 2.0
    sim.batch.forward()
    obs, reward, *_ = sim.step(np.full((2, 6), 0.5, np.float32))
    np.testing.assert_array_equal(obs[0], obs[1])
    speed = (2.0 + obs[0, half_cheetah.FORWARD]) / 2
    np.testing.assert_allclose(reward, [-speed - 0.075, speed - 0.075], rtol=1e-5)


@pytest.mark.parametrize("name", CHEETAHS)
def test_plans_of_a_cheetah_on_its_back_are_worth_less_and_its_reward_is_not(name):
    family = registry.get(name)
    parts = (family.robot.observations, family.robot.actions, family.robot.references)
    obs, action, reference = (torch.ones(2, len(part)) for part in parts)
    after = obs.clone()
    after[0, half_cheetah.PITCH] = 0.0
    after[1, half_cheetah.PITCH] = np.pi
    reward = family.reward(obs, action, after, reference)
    assert reward[0] == reward[1]
    cost = reward - family.objective(obs, action, after, reference)
    np.testing.assert_allclose(cost, [0.0, 2 * half_cheetah.UPRIGHT], atol=1e-5)


def test_plans_of_an_ant_on_its_back_or_its_side_are_worth_less_and_its_reward_is_not():
    family = registry.get("ant")
    parts = (family.robot.observations, family.robot.actions, family.robot.references)
    obs, action, reference = (torch.zeros(4, len(part)) for part in parts)
    after = obs.clone()
    after[:, 0] = 0.5
    # Upright, turned about the vertical, on its back, on its side.
    half = np.sqrt(0.5)
    turns = [[1, 0, 0, 0], [half, 0, 0, half], [0, half, half, 0], [half, 0, half, 0]]
    after[:, 1:5] = torch.tensor(turns)
    reward = family.reward(obs, action, after, reference)
    assert (reward == reward[0]).all()
    cost = reward - family.objective(obs, action, after, reference)
    np.testing.assert_allclose(cost, np.array([0, 0, 1, 0.5]) * ant.UPRIGHT, atol=1e-5)


@pytest.mark.parametrize("name", CHEETAHS)
def test_joint_0_is_crippled_in_the_held_out_split_alone(name):
    family = registry.get(name)
    for split, tasks in family.splits().items():
        dead = (family.mixing(tasks)[:, 0] == 0).all(axis=1)
        late = np.array(["latency_s" in task for task in tasks], bool)
        assert (dead ^ late).all() if split == "held_out" else not (dead | late).any()


def test_leg_3_is_crippled_in_every_held_out_task_and_in_no_other(walker):
    for split, tasks in walker.splits().items():
        dead = (walker.mixing(tasks)[:, :2] == 0).all(axis=(1, 2))
        assert (dead == (split == "held_out")).all()


def test_the_benchmarks_goals_vary_in_training_and_the_robot_hardly():
    for task in registry.get("half_cheetah_vel").splits()["train"]:
        assert 0.0 <= task["target_velocity"] <= 2.0
        assert task["mass"] == task["friction"] == 1.0
    tasks = registry.get("half_cheetah_dir").splits()["train"]
    assert {task["target_direction"] for task in tasks} == {-1.0, 1.0}
    assert all(abs(task[name] - 1.0) <= 0.1 for task in tasks for name in ("mass", "friction"))


def test_a_slope_too_steep_for_its_ground_is_not_feasible(cheetah):
    assert cheetah.feasible({"slope_rad": 0.3})
    assert cheetah.feasible({"friction": 0.25})
    assert not cheetah.feasible({"slope_rad": 0.3, "friction": 0.5})
    assert not cheetah.feasible({"slope_rad": -0.3, "friction": 0.5})


def test_the_ant_bears_every_payload_of_its_range_but_not_any(walker):
    assert walker.feasible({"payload_kg": 0.9})
    assert not walker.feasible({"payload_kg": 50.0})


def test_what_it_is_asked_to_run_is_beyond_reach_and_within_the_signal(cheetah, walker):
    for family in (cheetah, walker):
        reference = BatchSim(family, [{}]).reference(3)
        assert (reference == 20.0).all()
        assert family.robot.references[0].high > 20.0


def test_violent_motion_stays_within_the_limits_that_are_believed(family):
    frozen = family.splits()
    tasks = [*frozen["extrapolated"][:8], *frozen["held_out"][:4]]
    sim, rng = BatchSim(family, tasks), np.random.default_rng(0)
    low, high = limits(family.robot.observations)
    alive = np.ones(len(tasks), bool)
    for step in range(60):
        if step % 3 == 0:
            action = rng.choice([-1.0, 1.0], (len(tasks), len(family.robot.actions)))
        obs, _, terminated, _ = sim.step(action.astype(np.float32))
        assert ((obs >= low) & (obs <= high))[alive].all()
        alive &= ~terminated
