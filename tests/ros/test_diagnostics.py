"""/diagnostics of both nodes once a second, and ~/introspection of policy_node."""

from __future__ import annotations

import importlib.util
import math
import runpy
import time

import numpy as np
import pytest
from played_robot import Robot

from bench.faults.nodes import bring_up, change_state, latched

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"


class Watcher:
    """What comes on /diagnostics, by status name."""

    def __init__(self, peer) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self.peer, self.found, self.times_s = peer, {}, {}
        peer.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message) -> None:
        for status in message.status:
            self.found[status.name] = status
            self.times_s.setdefault(status.name, []).append(time.monotonic())

    def until(self, name: str, level: bytes, message: str):
        """Wait for a status; returns its figures."""

        def is_so() -> bool:
            status = self.found.get(name)
            return status is not None and (status.level == level and message in status.message)

        try:
            self.peer.wait_for(is_so, f"{name} {message}", 5.0)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.found.get(name)}") from None
        return {pair.key: pair.value for pair in self.found[name].values}


def test_policy_node_says_whether_control_keeps_time(start_node, peer, arm_bundle):
    from std_srvs.srv import Trigger

    spec, watch, name = arm_bundle.manifest.robot, Watcher(peer), "policy_node: control"
    start_node("reptile_agent_ros.policy_node", max_frozen=0)
    assert change_state(peer, "policy_node", 1)
    watch.until(name, OK, "inactive")
    assert watch.found[name].hardware_id == spec.name
    assert change_state(peer, "policy_node", 3)
    idle = watch.until(name, STALE, "waiting for joint_states")
    assert (idle["rate_hz"], idle["jitter_p99_ms"]) == ("0", "nan")
    assert idle["age_ms elbow_flex"] == "inf"
    robot = Robot(peer, list(spec.observed_joints))
    watch.until(name, OK, "active")
    peer.spin_for(3.0)
    found = watch.until(name, OK, "active")
    assert float(found["rate_hz"]) == pytest.approx(25, rel=0.1)
    assert 0 <= float(found["jitter_p50_ms"]) < 20
    assert float(found["jitter_p50_ms"]) <= float(found["jitter_p99_ms"])
    assert float(found["age_ms elbow_flex"]) < 60
    assert (found["mode"], found["dry_run"]) == ("active", "False")
    assert found["missed"].isdigit()
    assert found["parameters_version"] == "0"
    assert found["parameters_sha256"] == arm_bundle.manifest.start_sha256
    assert {f"clamps {action.name}" for action in spec.actions} <= set(found)
    assert np.diff(watch.times_s[name]).mean() == pytest.approx(1.0, rel=0.1)
    robot.silent = True
    found = watch.until(name, ERROR, "fallback: the newest measurement is")
    assert found["fallbacks"] == "1"
    assert math.isfinite(float(found["age_ms elbow_flex"]))
    robot.silent = False
    assert peer.call(Trigger, "policy_node/reset", Trigger.Request()).success
    watch.until(name, OK, "active")
    assert change_state(peer, "policy_node", 4)
    watch.until(name, OK, "inactive")


def test_a_warning_lasts_as_long_as_its_cause(start_node, peer, arm_bundle):
    """In a dry run, with a reference that is farther than a period's step."""
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    joints = list(arm_bundle.manifest.robot.observed_joints)
    watch, name = Watcher(peer), "arm_1/policy_node: control"
    Robot(peer, joints)
    remap = {"__ns": "/arm_1", "joint_states": "/joint_states", "reference": "/reference"}
    start_node("reptile_agent_ros.policy_node", remap, dry_run=True, max_clamps=10_000)
    bring_up(peer, "arm_1/policy_node")
    watch.until(name, WARN, "dry run")
    assert "clamped" not in watch.found[name].message
    publisher = peer.node.create_publisher(JointTrajectory, "reference", 10)
    peer.wait_for(publisher.get_subscription_count, "subscription")
    for place in 6 * (0.9, -0.9):
        goal = JointTrajectoryPoint(positions=[place] * len(joints))
        publisher.publish(JointTrajectory(joint_names=joints, points=[goal]))
        peer.spin_for(0.25)
    found = watch.until(name, WARN, "clamped in the last second")
    assert int(found["clamps"]) > 0
    peer.wait_for(lambda: watch.found[name].message == "dry run", "the end of the clamps", 5.0)


def test_what_is_there_twice_is_a_warning(start_node, peer, arm_bundle):
    from reptile_agent_msgs.msg import Parameters

    watch, name = Watcher(peer), "policy_node: control"
    Robot(peer, list(arm_bundle.manifest.robot.observed_joints))
    start_node("reptile_agent_ros.policy_node", max_frozen=0)
    bring_up(peer, "policy_node")
    watch.until(name, OK, "active")
    adapters = [peer.node.create_publisher(Parameters, "adapter_node/parameters", 1) for _ in "ab"]
    watch.until(name, WARN, "2 publishers of adapter_node/parameters: launched twice?")
    peer.node.destroy_publisher(adapters[0])
    watch.until(name, OK, "active")
    start_node("reptile_agent_ros.policy_node")
    watch.until(name, WARN, "2 nodes /policy_node: launched twice?")


def test_adapter_node_says_what_the_gate_said(start_node, peer, arm_bundle):
    from reptile_agent_msgs.msg import Transition
    from test_adapter_listens import Rig

    watch, name = Watcher(peer), "adapter_node: adaptation"
    rig = Rig(start_node, peer, arm_bundle)
    found = watch.until(name, OK, "nothing was adapted yet")
    peer.spin_for(1.1)
    found = watch.until(name, OK, "nothing was adapted yet")
    assert (found["remembered"], found["accepted"], found["rejected"]) == ("70", "0", "0")
    assert watch.found[name].hardware_id == arm_bundle.manifest.robot.name
    rig.ask(steps=2)
    peer.wait_for(lambda: rig.verdicts, "verdict")
    verdict = rig.verdicts[-1]
    found = watch.until(name, OK, verdict.verdict)
    assert (found["verdict"], found["reason"]) == (verdict.verdict, verdict.reason)
    assert int(found["accepted"]) + int(found["rejected"]) == 1
    assert float(found["duration_ms"]) > 0
    assert found["frozen"] == "False"
    publisher = peer.node.create_publisher(Transition, "policy_node/transition", 10)
    peer.wait_for(publisher.get_subscription_count, "subscription")
    publisher.publish(Transition(start_sha256="0" * 64))
    watch.until(name, ERROR, "the policy runs another bundle")
    assert change_state(peer, "adapter_node", 4)
    watch.until(name, OK, "inactive")
    rig.client.destroy()


@pytest.mark.parametrize("asked", [True, False])
def test_introspection_has_a_name_for_every_value(start_node, peer, arm_bundle, asked):
    from rclpy.qos import qos_profile_sensor_data
    from reptile_agent_ros.introspection import Names, Values

    spec, values = arm_bundle.manifest.robot, []
    robot = Robot(peer, list(spec.observed_joints))
    robot.position["elbow_flex"] = 0.25
    topic = "policy_node/introspection/"
    peer.node.create_subscription(Values, topic + "values", values.append, qos_profile_sensor_data)
    start_node("reptile_agent_ros.policy_node", introspection=asked)
    bring_up(peer, "policy_node")
    if not asked:
        peer.wait_for(lambda: robot.commands, "commands")
        peer.spin_for(0.5)
        assert values == []
        assert topic + "values" not in str(
            peer.node.get_publisher_names_and_types_by_node("policy_node", "/")
        )
        return
    peer.wait_for(lambda: len(values) > 25, "values")
    names = latched(peer, Names, topic + "names")  # A late joiner gets them.
    peer.wait_for(lambda: names, "names")
    assert names[0].names_version == values[-1].names_version != 0
    assert len(set(names[0].names)) == len(names[0].names) == len(values[-1].values)
    found = dict(zip(names[0].names, values[-1].values))
    assert (
        found["observation.elbow_flex.position"] == found["reference.elbow_flex.position"] == 0.25
    )
    sent = [list(command) for command in robot.commands]
    assert [found[f"action.{action.name}"] for action in spec.actions] in sent
    assert 0 <= found["envelope.oldest_ms"] < 60
    assert (found["envelope.fallback"], found["parameters.version"]) == (0, 0)
    assert found["tracking_error"] == pytest.approx(0, abs=1e-6)
    stamps = [v.header.stamp.sec + 1e-9 * v.header.stamp.nanosec for v in values]
    assert np.diff(stamps).mean() == pytest.approx(0.04, rel=0.1)
    robot.silent = True
    peer.wait_for(lambda: values[-1].values[names[0].names.index("envelope.fallback")], "fallback")


def test_its_messages_are_those_that_plotjuggler_knows():
    """pal_statistics_msgs/StatisticsNames and StatisticsValues, field for field."""
    from reptile_agent_msgs.msg import IntrospectionNames, IntrospectionValues

    ours = IntrospectionNames.get_fields_and_field_types()
    assert list(ours) == ["header", "names", "names_version"]
    assert list(ours.values()) == ["std_msgs/Header", "sequence<string>", "uint32"]
    ours = IntrospectionValues.get_fields_and_field_types()
    assert list(ours) == ["header", "values", "names_version"]
    assert list(ours.values()) == ["std_msgs/Header", "sequence<double>", "uint32"]


def test_where_plotjuggler_s_messages_are_installed_they_are_taken(tmp_path, monkeypatch):
    """By a stand-in: the package is not among the wheels."""
    package = tmp_path / "pal_statistics_msgs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "msg.py").write_text("class StatisticsNames: pass\nclass StatisticsValues: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = importlib.util.find_spec("reptile_agent_ros.introspection").origin
    found = runpy.run_path(source)
    assert found["Names"].__name__ == "StatisticsNames"
    assert found["Values"].__name__ == "StatisticsValues"
