"""sim.families.rover: a Twist moves the base, and what varies moves it otherwise."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from reptile_agent.spec import limits
from sim import registry
from sim.backends.batch import BatchSim
from sim.families import rover as module
from sim.families.rover import Rover

X, Y, YAW, LEFT, RIGHT = 0, 1, 2, 6, 7
WET = {"grip_left": 0.15, "grip_right": 0.15}


@pytest.fixture
def rover() -> Rover:
    return registry.get("rover")


def at_origin(sim: BatchSim) -> BatchSim:
    sim.batch.qpos[:], sim.batch.qvel[:] = 0.0, 0.0
    sim.batch.qpos[:, module.JOINTS.index("z")] = module.SETTLED_M
    sim.batch.forward()
    return sim


def driven(sim: BatchSim, twist: tuple[float, float], steps: int) -> np.ndarray:
    """Obey one Twist, reached within half a second; observations [lanes, steps, obs_dim]."""
    seen = []
    for step in range(steps):
        now = np.array(twist, np.float32) * min(1.0, (step + 1) / 10)
        seen.append(sim.step(np.tile(now, (sim.num_envs, 1)))[0])
    return np.stack(seen, axis=1)


def drive(rover: Rover, tasks, twist=(0.3, 0.0), steps=80) -> np.ndarray:
    return driven(at_origin(BatchSim(rover, tasks)), twist, steps)


def carried(sim: BatchSim, lane: int) -> dict[str, float]:
    """Force in N with which each geom stands on the floor."""
    model, data = sim.batch.get_model(lane), sim.batch.get_data(lane)
    mujoco.mj_forward(model, data)
    forces, force = {}, np.zeros(6)
    for i in range(data.ncon):
        mujoco.mj_contactForce(model, data, i, force)
        forces[model.geom(max(data.contact[i].geom)).name] = force[0]
    return forces


def test_the_model_is_what_the_constants_say(rover):
    model = rover.model
    assert [model.joint(i).name for i in range(model.njnt)] == list(module.JOINTS)
    for side, sign in (("left", 1), ("right", -1)):
        wheel = model.geom(f"{side}_wheel")
        assert wheel.size[0] == module.WHEEL_RADIUS_M
        assert wheel.friction[0] == module.FRICTION
        assert model.body(f"{side}_wheel").pos[1] == sign * module.TRACK_M / 2
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], module.WHEEL_TORQUE_N_M)
    assert model.geom("caster_front").pos[0] == module.CASTER_M
    assert 3.8 < model.body_mass.sum() < 4.0


def test_it_starts_as_it_settles_with_all_its_weight_on_the_floor(rover):
    sim = at_origin(BatchSim(rover, [{}]))
    assert set(carried(sim, 0)) == {"left_wheel", "right_wheel", "caster_front"}
    driven(sim, (0.0, 0.0), 20)
    assert sim.batch.qpos[0, module.JOINTS.index("z")] == pytest.approx(module.SETTLED_M, abs=1e-4)
    assert sum(carried(sim, 0).values()) == pytest.approx(3.9 * 9.81, rel=0.01)


def test_every_observation_is_the_joint_that_it_names(rover):
    sim = BatchSim(rover, [{}])
    for _ in range(10):
        sim.step(np.array([[0.3, 1.0]], np.float32))
    for value, signal in zip(sim.obs[0], rover.robot.observations, strict=True):
        joint = rover.model.joint(signal.joint)
        if signal.quantity == "position":
            expected = sim.batch.qpos[0, joint.qposadr[0]]
        else:
            expected = sim.batch.qvel[0, joint.dofadr[0]]
        assert value == np.float32(expected), signal.name


def test_a_twist_is_obeyed_in_si_units(rover):
    straight, turned = (drive(rover, [{}], twist)[0, -1] for twist in ((0.3, 0.0), (0.0, 1.0)))
    np.testing.assert_allclose(straight[[3, 4, 5]], [0.3, 0.0, 0.0], atol=0.004)
    np.testing.assert_allclose(turned[[3, 4, 5]], [0.0, 0.0, 1.0], atol=0.02)
    np.testing.assert_allclose(straight[[LEFT, RIGHT]], 0.3 / 0.03575, rtol=0.01)
    np.testing.assert_allclose(turned[RIGHT], 0.233 / 2 / 0.03575, rtol=0.01)


def feed_forward(rover: Rover, course: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """The Twists with which an ideal base would follow the mark, [lanes, steps, 2]."""
    middle, h = (np.arange(steps)[None] + 0.5) * rover.robot.control_period_s, 0.05
    before, now, after = (
        rover.course(course, middle + k * h).astype(np.float64) for k in (-1, 0, 1)
    )
    velocity, acceleration = (after - before) / (2 * h), (after - 2 * now + before) / h**2
    speed = np.linalg.norm(velocity, axis=-1)
    cross = velocity[..., 0] * acceleration[..., 1] - velocity[..., 1] * acceleration[..., 0]
    return np.stack([speed, cross / np.maximum(speed, 0.02) ** 2], axis=-1)


def test_the_ideal_twist_keeps_the_base_as_built_within_six_centimetres(rover):
    sim = BatchSim(rover, [{}] * 16)
    sim.reset(seed=0)
    at_origin(sim)
    twists = feed_forward(rover, sim.course, rover.episode_steps)
    low, high = limits(rover.robot.actions)
    assert (twists > 0.9 * low).all()
    assert (twists < 0.9 * high).all()
    away = []
    for step in range(rover.episode_steps):
        mark = sim.reference(1)[:, 0]
        obs, *_ = sim.step(twists[:, step].astype(np.float32))
        away.append(np.linalg.norm(obs[:, :2] - mark, axis=1))
    assert np.max(away) < 0.06
    assert np.mean(away) < 0.025


def test_a_course_starts_from_rest_at_the_origin_along_x_and_stays_slow(rover):
    course = rover.draw_course(np.random.default_rng(1), [{}] * 64)
    path = rover.course(course, np.arange(0, 20, 0.05)[None]).astype(np.float64)
    np.testing.assert_allclose(path[:, 0], 0.0, atol=1e-6)
    assert (np.linalg.norm(path[:, 1], axis=1) < 0.001).all()
    heading = np.arctan2(path[:, 5, 1], path[:, 5, 0])
    np.testing.assert_allclose(heading, 0.0, atol=0.05)
    assert np.linalg.norm(np.diff(path, axis=1), axis=-1).max() / 0.05 < 0.31
    per_lane = {key: value[:3] for key, value in course.items()}
    times = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(
        rover.course(per_lane, times)[:, 0], path[[0, 1, 2], [20, 40, 60]], atol=1e-6
    )


def test_a_worn_wheel_makes_it_veer_to_its_side(rover):
    yaw = drive(
        rover,
        [{}, {"wheel_radius_left": 0.95}, {"wheel_radius_right": 0.95}],
    )[:, -1, YAW]
    assert abs(yaw[0]) < 0.01
    # 5 % of 0.3 m/s over a track of 0.233 m, for about 3.75 s.
    assert yaw[1] == pytest.approx(0.05 * 0.3 / 0.233 * 3.75, rel=0.15)
    assert yaw[2] == pytest.approx(-yaw[1], abs=0.02)


def test_bald_wheels_still_carry_the_base_and_slow_it(rover):
    bald = {"wheel_radius_left": 0.88, "wheel_radius_right": 0.88}
    sim = at_origin(BatchSim(rover, [{}, bald]))
    speed = driven(sim, (0.3, 0.0), 60)[:, -1, 3]
    assert speed[1] / speed[0] == pytest.approx(0.88, abs=0.01)
    for lane in range(2):
        forces = carried(sim, lane)
        assert forces["left_wheel"] + forces["right_wheel"] > 0.7 * sum(forces.values())


def test_wear_is_not_what_the_controller_believes(rover):
    worn = [{}, {"wheel_radius_left": 0.9, "wheel_radius_right": 0.9}]
    mixing = rover.mixing(worn)
    np.testing.assert_array_equal(mixing[0], mixing[1])
    half = 0.233 / 2 / 0.03575
    np.testing.assert_allclose(mixing[0] @ [0.0, 1.0], [-half, half])
    np.testing.assert_allclose(mixing[0] @ [1.0, 0.0], 1 / 0.03575)


def test_wear_takes_mass_and_inertia_along(rover):
    sim = BatchSim(rover, [{}, {"wheel_radius_right": 0.9}])
    body = rover.model.body("right_wheel").id
    mass, inertia = (sim.batch.expand(f"body_{name}")[:, body] for name in ("mass", "inertia"))
    np.testing.assert_allclose(mass[1], 0.9**2 * mass[0])
    np.testing.assert_allclose(inertia[1], 0.9**4 * inertia[0])


def test_exchanged_wheels_turn_it_the_other_way(rover):
    obs = drive(rover, [{}, {"swap_wheels": 1.0}], (0.2, 0.8))[:, -1]
    assert obs[0, YAW] > 2.5
    assert obs[1, YAW] == pytest.approx(-obs[0, YAW], rel=0.02)


def test_a_wheel_that_drags_pulls_to_its_side_and_can_be_mended(rover):
    sim = at_origin(BatchSim(rover, [{}, {"drag_left_n_m": 0.3}, {"drag_right_n_m": 0.3}]))
    yaw = driven(sim, (0.3, 0.0), 60)[:, -1, YAW]
    assert yaw[1] > 0.1 > -0.1 > yaw[2]
    sim.set_tasks([{}] * 3)
    later = driven(sim, (0.3, 0.0), 60)
    np.testing.assert_allclose(later[:, -1, LEFT], later[:, -1, RIGHT], rtol=1e-3)


def test_a_mended_base_is_the_base_as_built(rover):
    odd = {v.name: v.beyond[1] for v in (*rover.variations, *rover.held_out)}
    sim, fresh = BatchSim(rover, [odd]), BatchSim(rover, [{}])
    sim.set_tasks([{}])
    for name in (
        "geom_size geom_friction body_mass body_inertia body_ipos dof_frictionloss "
        "actuator_delay opt.gravity"
    ).split():
        np.testing.assert_array_equal(sim.batch.expand(name), fresh.batch.expand(name), name)


def test_on_a_wet_slope_it_slides_where_a_dry_one_holds(rover):
    slope = {"slope_roll_rad": 0.15}
    obs = drive(rover, [slope, slope | WET], (0.0, 0.0), 40)[:, -1]
    assert abs(obs[0, Y]) < 0.02
    assert obs[1, Y] > 0.3


def test_each_wheel_has_its_own_grip(rover):
    # A hard start: the wheel that slips is the one that does not push.
    sim = at_origin(BatchSim(rover, [{"grip_left": 0.15}, {"grip_right": 0.15}]))
    for _ in range(6):
        obs, *_ = sim.step(np.tile(np.float32([0.46, 0.0]), (2, 1)))
    assert obs[0, YAW] > 0.02
    assert obs[1, YAW] == pytest.approx(-obs[0, YAW], rel=0.2)


def test_a_slope_turns_gravity_but_not_its_strength(rover):
    tasks = [{}, {"slope_pitch_rad": 0.1}, {"slope_roll_rad": -0.1, "slope_pitch_rad": 0.1}]
    gravity = BatchSim(rover, tasks).batch.expand("opt.gravity")
    np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 9.81)
    np.testing.assert_allclose(gravity[0], [0, 0, -9.81], atol=1e-12)
    assert gravity[1, 0] / -gravity[1, 2] == pytest.approx(np.tan(0.1))
    assert gravity[2, 1] / -gravity[2, 2] == pytest.approx(-np.tan(0.1) / np.cos(0.1))


def test_uphill_a_payload_costs_speed(rover):
    uphill = {"slope_pitch_rad": -0.15}
    speed = drive(rover, [{}, uphill, uphill | {"payload_kg": 9.0}])[:, -1, LEFT]
    assert speed[0] > speed[1] + 0.1 > speed[2] + 0.3


def test_a_payload_rests_where_it_was_put(rover):
    tasks = [{}, *({"payload_kg": 6.0, f"payload_{axis}_m": 0.08} for axis in "xy")]
    tasks.append({"payload_kg": 6.0, "payload_x_m": -0.08})
    sim = at_origin(BatchSim(rover, tasks))
    driven(sim, (0.0, 0.0), 20)
    nominal, front, left, rear = (carried(sim, lane) for lane in range(4))
    assert nominal["left_wheel"] == pytest.approx(nominal["right_wheel"], rel=0.01)
    assert front["caster_front"] > nominal["caster_front"] + 0.6 * 6 * 9.81 * 0.08 / 0.125
    assert left["left_wheel"] - left["right_wheel"] == pytest.approx(
        2 * 6 * 9.81 * 0.08 / 0.233, rel=0.1
    )
    assert rear["caster_rear"] > 10.0
    assert sim.batch.qpos[3, module.JOINTS.index("pitch")] < -0.02  # nose up


def test_latency_delays_the_response_by_that_long(rover):
    sim = at_origin(BatchSim(rover, [{}, {"latency_s": 0.05}, {"latency_s": 0.15}]))
    sim.batch.ctrl[:] = 5.0
    first_moved = np.full(3, -1)
    for substep in range(1, 40):
        sim.batch.step(nstep=1, stage=mujoco.mjtStage.mjSTAGE_VEL)
        moved = np.abs(sim.batch.qvel[:, -1]) > 0.5
        first_moved = np.where((first_moved < 0) & moved, substep, first_moved)
    np.testing.assert_array_equal(first_moved - first_moved[0], [0, 10, 30])


@pytest.mark.parametrize(
    ("task", "feasible"),
    [
        ({}, True),
        ({"slope_roll_rad": 0.15, "slope_pitch_rad": 0.15}, True),
        ({"slope_roll_rad": 0.15, "grip_left": 0.2}, False),
        ({"slope_roll_rad": 0.15, "grip_right": 0.2}, False),
        ({"payload_kg": 9.0, "payload_y_m": 0.1, "slope_roll_rad": 0.15}, False),
        ({"payload_kg": 9.0, "slope_pitch_rad": 0.15}, True),
        ({"payload_kg": 9.0, "slope_pitch_rad": 0.15, "drag_left_n_m": 0.4}, False),
    ],
)
def test_tipping_slipping_and_stalling_are_not_feasible(rover, task, feasible):
    assert rover.feasible(task) is feasible


@pytest.mark.parametrize("split", ["train", "extrapolated", "held_out"])
def test_feasible_tasks_stay_upright_and_within_the_limits_that_are_believed(rover, split):
    sim, rng = BatchSim(rover, rover.splits()[split][:32]), np.random.default_rng(0)
    low, high = limits(rover.robot.observations)
    for step in range(120):
        if step % 10 == 0:
            action = rng.uniform([-0.46, -1.9], [0.46, 1.9], (sim.num_envs, 2))
        obs, *_ = sim.step(action.astype(np.float32))
        assert (obs > low).all()
        assert (obs < high).all()
    lean = sim.batch.qpos[:, [module.JOINTS.index("pitch"), module.JOINTS.index("roll")]]
    assert np.abs(lean).max() < 0.12


def test_held_out_tasks_are_of_a_kind_that_no_other_split_has(rover):
    splits = rover.splits()
    kinds = [{v.name for v in rover.held_out} & task.keys() for task in splits["held_out"]]
    assert all(len(kind) == 1 for kind in kinds)
    assert set.union(*kinds) == {v.name for v in rover.held_out}
    for split in ("train", "validation", "in_range", "extrapolated"):
        assert not any(v.name in task for v in rover.held_out for task in splits[split])
    for tasks in (splits["held_out"], splits["extrapolated"]):
        rover.check(tasks)
        assert all(rover.feasible(task) for task in tasks)
    assert not any(rover.feasible(task) for task in splits["infeasible"])


def test_the_reward_is_zero_on_the_mark_and_minus_one_ten_centimetres_off(rover):
    mark, action = torch.tensor([0.4, -0.2]), torch.zeros(2)
    obs = torch.zeros(8)
    obs[:2] = mark
    assert rover.reward(obs, action, obs, mark) == 0.0
    off = obs.clone()
    off[Y] += 0.1
    torch.testing.assert_close(rover.reward(obs, action, off, mark), torch.tensor(-1.0))
