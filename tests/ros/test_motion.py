"""reptile_agent_ros.motion and fields: what is read of Imu and Odometry, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("reptile_agent_ros", reason="ros2_ws is not sourced; run `make test`")

from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry
from reptile_agent_ros.fields import check_units, match, match_all
from reptile_agent_ros.joints import JointError, JointReader
from reptile_agent_ros.motion import IMU, ODOMETRY, MotionError, MotionReader
from sensor_msgs.msg import Imu, JointState

from reptile_agent.spec import RobotSpec, Signal

NAMES = ["a.position", "b.position", "b.velocity"]


def robot(*signals: tuple[str, str], limit: float = 9.0) -> RobotSpec:
    found = tuple(
        Signal(joint=joint, quantity=quantity, unit="1", low=-limit, high=limit)
        for joint, quantity in signals
    )
    return RobotSpec(
        name="toy",
        control_period_s=0.1,
        observations=found,
        actions=found[:1],
        references=found[:1],
    )


def reading(source, *fields: str, limit: float = 9.0):
    """A function message -> values, of a robot whose signals are those fields."""
    spec = robot(*((f"s{i}", "position") for i in range(len(fields))), limit=limit)
    obs = np.full(len(fields), np.nan, np.float32)
    received_s = np.full(len(fields), -np.inf)
    taken = {f"s{i}.position": field for i, field in enumerate(fields)}
    reader = MotionReader(source, spec, taken, obs, received_s)

    def read(message, now_s: float = 1.0) -> list[float]:
        reader.take(message, now_s)
        assert (received_s == now_s).all()
        return obs.tolist()

    return read


def turned(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Roll about the fixed x, then pitch about y, then yaw about z, one after the other."""

    def times(a, b):
        w, x, y, z = a
        return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]) @ b

    quaternion = np.array([1.0, 0.0, 0.0, 0.0])
    for axis, angle in enumerate((roll, pitch, yaw)):
        about = np.zeros(4)
        about[[0, 1 + axis]] = math.cos(angle / 2), math.sin(angle / 2)
        quaternion = times(about, quaternion)
    w, x, y, z = map(float, quaternion)
    return Quaternion(w=w, x=x, y=y, z=z)


def imu(**fields) -> Imu:
    message = Imu(**fields)
    message.angular_velocity.x, message.angular_velocity.z = 0.1, 0.3
    message.linear_acceleration.y = 9.5
    return message


def odometry(yaw: float = 0.0) -> Odometry:
    message = Odometry()
    message.pose.pose.position.x, message.pose.pose.position.y = 1.0, 2.0
    message.pose.pose.orientation = turned(0.0, 0.0, yaw)
    message.twist.twist.linear.x, message.twist.twist.angular.z = 0.5, 0.7
    return message


def test_fields_of_an_imu_are_what_they_say():
    read = reading(IMU, "angular_velocity.z", "linear_acceleration.y", "angular_velocity.x")
    assert read(imu()) == pytest.approx([0.3, 9.5, 0.1])


def test_roll_pitch_and_yaw_are_about_fixed_axes_and_the_quaternion_is_as_sent():
    names = ("roll", "pitch", "yaw", "w", "z")
    read = reading(IMU, *(f"orientation.{name}" for name in names))
    q = turned(0.3, -0.4, 2.0)
    assert read(imu(orientation=q)) == pytest.approx([0.3, -0.4, 2.0, q.w, q.z], abs=1e-6)


def test_fields_of_odometry_are_what_they_say():
    read = reading(ODOMETRY, "pose.position.y", "twist.linear.x", "pose.orientation.yaw")
    assert read(odometry(yaw=-2.5)) == pytest.approx([2.0, 0.5, -2.5], abs=1e-6)


def test_twist_w_is_the_twist_of_the_body_along_the_axes_of_the_world():
    parts = [f"twist_w.linear.{axis}" for axis in "xyz"]
    read = reading(ODOMETRY, *parts, "twist_w.angular.z")
    assert read(odometry(yaw=math.pi / 2)) == pytest.approx([0.0, 0.5, 0.0, 0.7], abs=1e-6)
    nose_up = odometry()
    nose_up.pose.pose.orientation = turned(0.0, -math.pi / 2, 0.0)
    assert read(nose_up) == pytest.approx([0.0, 0.0, 0.5, 0.0], abs=1e-6)
    rolled = odometry()
    rolled.pose.pose.orientation = turned(math.pi / 2, 0.0, 0.0)
    assert read(rolled) == pytest.approx([0.5, 0.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(("limit", "after"), [(4.0, -3.0), (1000.0, 2 * math.pi - 3.0)])
def test_an_angle_is_counted_on_only_where_the_limits_allow_several_turns(limit, after):
    read = reading(ODOMETRY, "pose.orientation.yaw", limit=limit)
    read(odometry(yaw=3.0))
    assert read(odometry(yaw=-3.0)) == pytest.approx([after], abs=1e-5)


@pytest.mark.parametrize("group", ["orientation", "angular_velocity", "linear_acceleration"])
def test_what_an_imu_says_it_does_not_measure_is_refused_by_name(group):
    message = imu()
    getattr(message, f"{group}_covariance")[0] = -1.0
    fields = {"orientation": "orientation.yaw"}
    read = reading(IMU, fields.get(group, f"{group}.z"))
    with pytest.raises(MotionError, match=rf"imu has no {group}: {group}_covariance\[0\] is -1"):
        read(message)
    other = "linear_acceleration.x" if group != "linear_acceleration" else "angular_velocity.x"
    reading(IMU, other)(message)  # Nobody asked it for the rest.


@pytest.mark.parametrize("w", [0.0, 0.98, 1.02, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "field", ["pose.orientation.yaw", "pose.orientation.w", "twist_w.linear.x"]
)
def test_an_orientation_that_is_no_unit_quaternion_is_refused_and_nothing_is_taken(w, field):
    spec = robot(("a", "position"), ("b", "position"))
    obs, received_s = np.zeros(2, np.float32), np.zeros(2)
    fields = {"a.position": "pose.position.x", "b.position": field}
    reader = MotionReader(ODOMETRY, spec, fields, obs, received_s)
    message = odometry()
    message.pose.pose.orientation = Quaternion(w=w)
    with pytest.raises(MotionError, match=r"pose\.orientation of odom has the length"):
        reader.take(message, 1.0)
    assert not obs.any()
    assert not received_s.any()


def test_what_is_not_finite_is_left_to_the_envelope_as_for_joints():
    message = imu()
    message.angular_velocity.z = float("nan")
    assert math.isnan(reading(IMU, "angular_velocity.z")(message)[0])


def test_strict_joints_counts_only_joints_that_still_come_by_joint_states():
    spec = robot(("a", "position"), ("b", "position"), ("b", "velocity"))
    with pytest.raises(JointError, match="joint 'b' of the bundle is not in joint_states"):
        JointReader(spec, {}).take(JointState(name=["a"], position=[1.0]), 1.0)
    reader = JointReader(spec, {}, strict=True, elsewhere={"b.position", "b.velocity"})
    reader.take(JointState(name=["a"], position=[1.0]), 1.0)
    assert reader.missing == ["b.position", "b.velocity"]
    with pytest.raises(JointError, match="joint_states has 'b', which is no joint of the bundle"):
        reader.take(JointState(name=["a", "b"], position=[1.0, 2.0]), 2.0)
    half = JointReader(spec, {}, strict=True, elsewhere={"b.velocity"})
    half.take(JointState(name=["a", "b"], position=[1.0, 2.0]), 1.0)
    assert half.missing == ["b.velocity"]


def test_signals_and_fields_are_matched_by_name():
    fields = ("linear.x", "linear.y")
    pairs = ["b.velocity=linear.x", "a.position=linear.y"]
    assert match("p", pairs, NAMES, fields) == {"b.velocity": "linear.x", "a.position": "linear.y"}
    assert match_all("p", pairs, ["a.position", "b.velocity"], fields) == ["linear.y", "linear.x"]


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        (["a.position"], "p entry 'a.position' should read signal=field"),
        (["=linear.x"], "should read signal=field"),
        (["c.position=linear.x"], r"'c.position', which the bundle has not \(has: a.position, b"),
        (["a.position=linear.x", "a.position=linear.y"], "names 'a.position' twice"),
        (["a.position=linear"], r"no such field \(there are: linear.x, linear.y\)"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_with_what_there_is(pairs, error):
    with pytest.raises(ValueError, match=error):
        match("p", pairs, NAMES, ("linear.x", "linear.y"))


def test_where_all_are_needed_none_may_lack_and_none_may_share():
    with pytest.raises(ValueError, match=r"names no field for b\.position, b\.velocity; add"):
        match_all("p", ["a.position=linear.x"], NAMES, ("linear.x",))
    pairs = [f"{name}=linear.x" for name in NAMES]
    with pytest.raises(ValueError, match=r"two signals for 'linear\.x'"):
        match_all("p", pairs, NAMES, ("linear.x",))


@pytest.mark.parametrize(
    ("unit", "field"),
    [
        ("m/s", "angular.z"),
        ("rad/s", "linear.x"),
        ("rad", "twist.angular.z"),
        ("m", "pose.orientation.yaw"),
        ("rad", "orientation.w"),
        ("m/s", "linear_acceleration.x"),
        ("rad", "pose.position.x"),
    ],
)
def test_a_field_of_another_unit_is_refused_by_both(unit, field):
    signal = Signal(joint="a", quantity="position", unit=unit, low=-1.0, high=1.0)
    with pytest.raises(
        ValueError, match=rf"p has 'a.position' \[{unit}\] in '{field}', which is in"
    ):
        check_units("p", {"a.position": field}, [signal])
    check_units("p", {}, [signal])


@pytest.mark.parametrize(
    ("unit", "field"),
    [
        ("m/s", "twist_w.linear.x"),
        ("rad/s", "angular.z"),
        ("1", "orientation.w"),
        ("m", "pose.position.y"),
    ],
)
def test_a_field_of_the_same_unit_is_not(unit, field):
    signal = Signal(joint="a", quantity="position", unit=unit, low=-1.0, high=1.0)
    check_units("p", {"a.position": field}, [signal])
