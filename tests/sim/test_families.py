"""sim.families: variants are physical, and do to the robot what their names say."""

from __future__ import annotations

import inspect

import mujoco
import numpy as np
import pytest
import torch

from reptile_agent.spec import limits
from reptile_agent.task import TaskFamily, VecSim, objective_of
from sim import registry
from sim.backends.batch import BatchSim
from sim.backends.delay_lines import position_servos
from sim.families.arm import Arm
from sim.families.cartpole import Cartpole


@pytest.fixture
def arm() -> Arm:
    return registry.get("arm")


@pytest.fixture
def cartpole() -> Cartpole:
    return registry.get("cartpole")


def held(sim: BatchSim, steps: int, target: float = 0.0) -> np.ndarray:
    """Command one pose for so long; observations [lanes, steps, obs_dim]."""
    action = np.full((sim.num_envs, len(sim.family.robot.actions)), target, np.float32)
    return np.stack([sim.step(action)[0].copy() for _ in range(steps)], axis=1)


def at_rest(sim: BatchSim) -> BatchSim:
    sim.batch.qpos[:], sim.batch.qvel[:] = 0.0, 0.0
    for line, _ in position_servos(sim.family.model):
        sim.batch.history[:, line] = 0.0
    sim.batch.forward()
    return sim


def test_a_family_offers_what_the_protocol_asks_for(family):
    for name in TaskFamily.__annotations__:
        assert getattr(family, name) is not None, name
    for protocol, thing in ((TaskFamily, family), (VecSim, family.make_sim([{}]))):
        for name, method in inspect.getmembers(protocol, inspect.isfunction):
            if not name.startswith("_"):
                wanted = list(inspect.signature(method).parameters)[1:]
                assert list(inspect.signature(getattr(thing, name)).parameters) == wanted, name


def test_shapes_and_types_are_those_of_the_protocol(family):
    sim = family.make_sim([{}, {}, {}])
    obs_dim, act_dim = len(family.robot.observations), len(family.robot.actions)
    assert sim.reset(seed=0).shape == (3, obs_dim)
    obs, reward, terminated, truncated = sim.step(np.zeros((3, act_dim), np.float32))
    assert obs.shape == (3, obs_dim)
    assert obs.dtype == np.float32
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert sim.reference(4).shape == (3, 4, len(family.robot.references))
    assert sim.reference(4).dtype == np.float32
    assert len(family.plan_noise) == act_dim


def test_what_a_simulator_returned_is_not_overwritten_by_its_next_step(family):
    sim = family.make_sim([{}])
    first, *_ = sim.step(np.zeros((1, len(family.robot.actions)), np.float32))
    kept = first.copy()
    sim.step(np.ones((1, len(family.robot.actions)), np.float32))
    np.testing.assert_array_equal(first, kept)


def test_observations_are_named_in_the_order_in_which_they_come(family):
    sim, model = BatchSim(family, [{}]), family.model
    named = {}  # a free joint's columns have names of the family's own
    for joint in (model.joint(i) for i in range(model.njnt)):
        if joint.type[0] != mujoco.mjtJoint.mjJNT_FREE:
            named[joint.qposadr[0]] = f"{joint.name}.position"
            named[model.nq + joint.dofadr[0]] = f"{joint.name}.velocity"
    assert len(family.columns) == len(family.robot.observations)
    for signal, column in zip(family.robot.observations, family.columns):
        assert signal.name == named.get(column, signal.name)
    state = np.concatenate([sim.batch.qpos[0], sim.batch.qvel[0]])
    np.testing.assert_array_equal(sim.state()[0], np.float32(state[family.columns]))
    commanded = [action.joint for action in family.robot.actions]
    if set(commanded) <= {model.joint(i).name for i in range(model.njnt)}:
        assert [model.actuator(i).name for i in range(model.nu)] == commanded


def test_the_mass_matrix_is_positive_definite_over_the_whole_range(family):
    ends = [{v.name: end} for v in (*family.variations, *family.held_out) for end in v.beyond]
    low, high = ({v.name: v.beyond[side] for v in family.variations} for side in (0, 1))
    frozen = family.splits()
    tasks = [{}, *ends, low, high, *frozen["extrapolated"], *frozen["held_out"]]
    sim, rng = BatchSim(family, tasks), np.random.default_rng(0)
    qpos, _ = family.initial_state(rng, tasks)
    for lane in range(len(tasks)):
        model = sim.batch.get_model(lane)
        data, matrix = mujoco.MjData(model), np.zeros((model.nv, model.nv))
        data.qpos[:] = qpos[lane]
        hinges = model.jnt_qposadr[model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE]
        data.qpos[hinges] += rng.uniform(-1, 1, hinges.size)
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, matrix)
        assert np.linalg.eigvalsh(matrix).min() > 1e-5, tasks[lane]
        # What no rigid body can have: a principal inertia above the sum of the other two.
        inertia = np.sort(model.body_inertia[1:], axis=1)
        assert (inertia[:, 2] <= (inertia[:, 0] + inertia[:, 1]) * (1 + 1e-6)).all(), tasks[lane]


def test_the_longest_and_heaviest_pole_has_the_inertia_of_its_rod(cartpole):
    mass, length = cartpole.model.body_mass[2], cartpole.model.body_inertia[2]
    sim = BatchSim(cartpole, [{"pole_mass": 2.0}, {"pole_length": 1.5}, {}])
    inertia = sim.batch.expand("body_inertia")[:, 2]
    np.testing.assert_allclose(sim.batch.expand("body_mass")[:, 2], [2 * mass, mass, mass])
    np.testing.assert_allclose(inertia[0], 2 * length)
    np.testing.assert_allclose(inertia[1, :2], 1.5**2 * length[:2])
    middle = cartpole.model.body_ipos[2]
    np.testing.assert_allclose(sim.batch.expand("body_ipos")[1, 2], 1.5 * middle)


def test_a_payloads_inertia_grows_with_its_mass(arm):
    sim = BatchSim(arm, [{"payload_kg": 0.1}, {"payload_kg": 0.3}])
    body = arm._payload_body
    mass = sim.batch.expand("body_mass")[:, body]
    inertia = sim.batch.expand("body_inertia")[:, body]
    np.testing.assert_allclose(mass, [0.101, 0.301])
    np.testing.assert_allclose(inertia, np.outer(mass, np.full(3, 0.4 * 0.02**2)))


def test_a_payload_makes_the_arm_sag(arm):
    sim = at_rest(BatchSim(arm, [{}, {"payload_kg": 0.2}, {"payload_kg": 0.4}]))
    lift = held(sim, 75)[:, -1, 1]
    assert lift[0] + 0.02 < lift[1]
    assert lift[1] + 0.02 < lift[2]


def test_a_weak_servo_sags_more_and_the_others_do_not(arm):
    sim = at_rest(BatchSim(arm, [{}, {"gain_shoulder_lift": 0.4}]))
    pose = held(sim, 75)[:, -1]
    assert pose[1, 1] > 1.5 * pose[0, 1] > 0
    np.testing.assert_allclose(pose[1, 0], pose[0, 0], atol=0.01)


def test_latency_delays_the_response_by_that_long(arm):
    sim = at_rest(BatchSim(arm, [{"latency_s": 0.0}, {"latency_s": 0.02}, {"latency_s": 0.06}]))
    start = np.array(sim.batch.qpos[:, 0])
    sim.batch.ctrl[:] = 0.0
    sim.batch.ctrl[:, 0] = 1.0
    first_moved = np.full(3, -1)
    for substep in range(1, 20):
        sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
        moved = np.abs(sim.batch.qpos[:, 0] - start) > 1e-3
        first_moved = np.where((first_moved < 0) & moved, substep, first_moved)
    np.testing.assert_array_equal(first_moved - first_moved[0], [0, 4, 12])


def test_a_late_servo_stays_where_it_is_until_its_first_command_arrives(arm):
    sims = [BatchSim(arm, [{"latency_s": 0.06, "payload_kg": 0.0}]) for _ in range(2)]
    for sim, action in zip(sims, (-0.3, 0.3)):
        sim.reset(seed=4)
        assert np.abs(sim.state()[0, [0, 4]]).min() > 0.02
        sim.step(np.full((1, 5), action, np.float32))
    # 0.04 of 0.06 s: what was commanded plays no part yet, and no servo runs to its zero.
    np.testing.assert_array_equal(sims[0].state(), sims[1].state())
    start = BatchSim(arm, [{}]).reset(seed=4)
    assert np.abs(sims[0].state()[0, [0, 4]] - start[0, [0, 4]]).max() < 0.005


def test_a_ramp_turns_gravity_but_not_its_strength(arm):
    tasks = [{}, {"tilt_roll_rad": 0.3}, {"tilt_pitch_rad": -0.2, "tilt_roll_rad": 0.3}]
    gravity = BatchSim(arm, tasks).batch.expand("opt.gravity")
    np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 9.81)
    np.testing.assert_allclose(gravity[0], [0, 0, -9.81], atol=1e-12)
    np.testing.assert_allclose(gravity[1, 1] / gravity[1, 2], -np.tan(0.3))


def test_swapped_plugs_move_the_other_joint_of_the_wrist(arm):
    sim = at_rest(BatchSim(arm, [{}, {"swap_wrist": 1.0}]))
    action = np.zeros((2, 5), np.float32)
    action[:, 4] = 0.8  # wrist_roll
    for _ in range(50):
        obs, *_ = sim.step(action)
    assert obs[0, 4] > 0.7 > 0.2 > abs(obs[0, 3])
    assert obs[1, 3] > 0.6 > 0.2 > abs(obs[1, 4])
    np.testing.assert_array_equal(action[:, 4], np.float32(0.8))


def test_a_reversed_motor_pushes_the_other_way(cartpole):
    sim = at_rest(BatchSim(cartpole, [{}, {"reversed": 1.0}, {"gain": 0.5}]))
    obs = held(sim, 5, target=5.0)[:, -1]
    assert obs[0, 0] > 0.05
    np.testing.assert_allclose(obs[1, 0], -obs[0, 0], rtol=1e-4)
    np.testing.assert_allclose(obs[2, 0], 0.5 * obs[0, 0], rtol=0.15)


def test_friction_slows_the_cart(cartpole):
    sim = at_rest(BatchSim(cartpole, [{}, {"friction": 10.0}]))
    speed = held(sim, 10, target=3.0)[:, -1, 2]
    assert speed[1] < 0.95 * speed[0]


def test_commands_beyond_the_limits_are_clipped(family):
    low, high = limits(family.robot.actions)
    sim = BatchSim(family, [{}] * 4)
    sim.command(np.stack([np.full(low.size, 1e6), high, np.full(low.size, -1e6), low]))
    np.testing.assert_array_equal(sim.batch.ctrl[0], sim.batch.ctrl[1])
    np.testing.assert_array_equal(sim.batch.ctrl[2], sim.batch.ctrl[3])
    assert (sim.batch.ctrl[0] > sim.batch.ctrl[2]).all()


def test_an_encoder_that_is_off_moves_the_joint_by_that_much(arm):
    sim = at_rest(BatchSim(arm, [{}, {"encoder_offset_wrist_roll": 0.2}]))
    pose = held(sim, 75)[:, -1]
    assert 0.15 < pose[1, 4] - pose[0, 4] < 0.25
    np.testing.assert_allclose(pose[1, :3], pose[0, :3], atol=0.01)


@pytest.mark.parametrize("objective", [False, True])
def test_the_reward_is_torch_and_takes_any_leading_axes(family, objective):
    value = objective_of(family) if objective else family.reward
    robot, rng = family.robot, torch.Generator().manual_seed(0)
    sizes = (robot.observations, robot.actions, robot.observations, robot.references)
    many = [torch.randn(4, 3, len(s), generator=rng) for s in sizes]
    reward = value(*many)
    assert reward.shape == (4, 3)
    one = value(*(x[2, 1] for x in many))
    torch.testing.assert_close(one, reward[2, 1])


def test_the_arms_reward_is_zero_where_the_reference_is_met_and_below_elsewhere(arm):
    rng = torch.Generator().manual_seed(0)
    reference = torch.randn(6, 5, generator=rng)
    obs, off = torch.zeros(6, 10), torch.zeros(6, 10)
    off[:, :5] = reference
    action = torch.zeros(6, 5)
    torch.testing.assert_close(arm.reward(obs, action, off, reference), torch.zeros(6))
    off[:, 2] += 0.05
    torch.testing.assert_close(arm.reward(obs, action, off, reference), torch.full((6,), -0.2))


def test_the_cartpoles_reward_is_best_upright_on_the_mark(cartpole):
    upright = torch.tensor([0.3, 0.0, 0.0, 0.0])
    nothing, mark = torch.zeros(1), torch.tensor([0.3])
    best = cartpole.reward(upright, nothing, upright, mark)
    assert best == 1.0
    for column in range(4):
        for change in (-0.3, 0.3, 2.0):
            other = upright.clone()
            other[column] += change
            assert cartpole.reward(upright, nothing, other, mark) <= best
    for worse in ([0.3, 3.14, 0.0, 0.0], [1.7, 0.0, 0.0, 0.0], [0.3, 0.0, 0.0, 5.0]):
        assert cartpole.reward(upright, nothing, torch.tensor(worse), mark) < best - 0.2


def test_a_payload_that_the_servos_cannot_hold_is_not_feasible(arm):
    assert arm.feasible({"payload_kg": 0.3})
    assert not arm.feasible({"payload_kg": 0.4, "gain_shoulder_lift": 0.25})


def test_variations_are_described_with_unit_range_and_reason(family):
    rows = family.describe()
    assert [row["name"] for row in rows if not row["held_out"]] == [
        v.name for v in family.variations
    ]
    assert [row["name"] for row in rows if row["held_out"]] == [v.name for v in family.held_out]
    for row in rows:
        assert row["unit"]
        assert row["why"]
        assert len(row["train"]) == len(row["beyond"]) == 2
