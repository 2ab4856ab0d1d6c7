"""Conducts one episode: brings the nodes up, watches, drops the fault in, and records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# rclpy and the messages are there only where ROS is: imported when an episode is conducted.
# pyright: reportMissingImports=false
from reptile_agent.demo.processes import DemoError, Nodes, local_udp
from reptile_agent.demo.recording import Attempt, Recording
from reptile_agent.onboard.path import Path

WAIT_S = 30.0
LEAD_IN_S = 8.0
"""Time from the start of the reference to that of the recording: nodes come up, arms settle."""


class Conductor:
    """A ROS node that speaks to the others as a user's would.

    Args:
        nodes: already started.
        domain: ROS domain of theirs.
    """

    def __init__(self, nodes: Nodes, domain: int) -> None:
        os.environ.update(local_udp())
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import (
            DurabilityPolicy,
            QoSProfile,
            ReliabilityPolicy,
            qos_profile_sensor_data,
        )
        from reptile_agent_msgs.msg import AdaptationStatus, PolicyStatus
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory

        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._nodes = nodes
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("conductor", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        subscribe = self._node.create_subscription
        subscribe(JointState, "joint_states", self._on_joints, qos_profile_sensor_data)
        subscribe(JointTrajectory, "reference", self._on_reference, latched)
        subscribe(PolicyStatus, "policy_node/status", self._on_policy, latched)
        subscribe(AdaptationStatus, "adapter_node/status", self._on_adaptation, latched)
        self._began_s: float | None = None
        self._joints: list[str] = []
        self._measured: list[tuple[float, list[float]]] = []
        self._course: tuple[list[str], Path] | None = None
        self._policy: Any = None
        self._versions: list[tuple[float, int]] = []
        self._attempts: list[Attempt] = []

    def bring_up(self, name: str) -> None:
        """Configure and activate a lifecycle node.

        Raises:
            DemoError: it refuses; the end of its log says why.
        """
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        for label, number in (
            ("configure", Transition.TRANSITION_CONFIGURE),
            ("activate", Transition.TRANSITION_ACTIVATE),
        ):
            request = ChangeState.Request(transition=Transition(id=number))
            if not self.call(ChangeState, f"{name}/change_state", request).success:
                raise DemoError(f"{name} did not {label}:\n{self._nodes.tail(name)}")

    def record(
        self,
        fault: dict[str, float],
        before_s: float,
        after_s: float,
        tell: Callable[[str], None],
    ) -> Recording:
        """Watch, drop the fault in, watch on.

        Args:
            fault: variation name -> value.
            before_s: seconds before the fault, after LEAD_IN_S.
            after_s: seconds after it.
            tell: called with what happens.
        """
        from reptile_agent_msgs.srv import InjectFault

        self._until(lambda: self._course is not None, "reference")
        self._until(lambda: len(self._measured) > 0, "joint_states")
        self._until(lambda: self._policy and self._policy.mode == "active", "active policy")
        assert self._course is not None
        # Time zero is a fixed time of the reference: each episode meets the fault in one pose.
        self._began_s = float(self._course[1].times_s[0]) + LEAD_IN_S
        if self._now_s() > self._began_s:
            raise DemoError(f"the nodes took over {LEAD_IN_S:g} s to come up; is the machine busy?")
        self._spin(self._began_s + before_s - self._now_s())
        request = InjectFault.Request(names=list(fault), values=list(fault.values()))
        fault_s = self._now_s() - self._began_s
        answer = self.call(InjectFault, "mujoco_robot/inject_fault", request)
        if not answer.success:
            raise DemoError(f"the robot refused the fault: {answer.message}")
        tell(f"{fault_s:5.1f} s  fault: " + ", ".join(f"{n}={v:g}" for n, v in fault.items()))
        self._spin(after_s)
        return self._recording(fault_s)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service once it is there."""
        client = self._node.create_client(kind, name)
        self._until(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self._until(future.done, f"answer of {name}")
        self._node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _recording(self, fault_s: float) -> Recording:
        assert self._course is not None
        began_s = self._began_s or 0.0
        stamps = np.array([stamp for stamp, _ in self._measured])
        kept = stamps >= began_s
        names, path = self._course
        reference = path.at(stamps)[:, [names.index(joint) for joint in self._joints]]
        position = np.array([position for _, position in self._measured])
        fields = ("mode", "reason", "parameters_version", "probation", "ticks", "missed", "clamps")
        policy = {name: getattr(self._policy, name) for name in (*fields, "rollbacks", "fallbacks")}
        attempts = [a for a in self._attempts if a.time_s >= 0]
        return Recording(
            joints=self._joints,
            fault_s=fault_s,
            time_s=stamps[kept] - began_s,
            position=position[kept],
            reference=reference[kept],
            attempts=attempts,
            versions=[(t, version) for t, version in self._versions if t >= 0],
            policy=policy,
        )

    def _now_s(self) -> float:
        return self._node.get_clock().now().nanoseconds * 1e-9

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            self._nodes.check()
            if time.monotonic() > end_s:
                raise DemoError(f"no {what} within {WAIT_S:g} s; see {self._nodes.logs}")
            self._executor.spin_once(timeout_sec=0.05)

    def _spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._nodes.check()
            for _ in range(20):
                self._executor.spin_once(timeout_sec=0.01)

    def _on_joints(self, message: Any) -> None:
        self._joints = list(message.name)
        self._measured.append((_seconds(message.header.stamp), list(message.position)))

    def _on_reference(self, message: Any) -> None:
        begin_s = _seconds(message.header.stamp)
        times_s = np.array([begin_s + _seconds(p.time_from_start) for p in message.points])
        path = Path(
            times_s,
            np.array([point.positions for point in message.points]),
            np.array([point.velocities for point in message.points]),
        )
        if self._course is not None:
            path = _joined(self._course[1], path)
        self._course = (list(message.joint_names), path)

    def _on_policy(self, message: Any) -> None:
        self._policy = message
        at_s = _seconds(message.header.stamp) - (self._began_s or np.inf)
        self._versions.append((at_s, message.parameters_version))

    def _on_adaptation(self, message: Any) -> None:
        at_s = _seconds(message.header.stamp) - (self._began_s or np.inf)
        self._attempts.append(
            Attempt(
                time_s=at_s,
                accepted=message.accepted,
                verdict=message.verdict,
                live_before=message.live_before,
                live_after=message.live_after,
                steps=message.steps,
                duration_ms=message.duration_ms,
            )
        )


def _joined(old: Path, new: Path) -> Path:
    """One path of two stretches: the old one until the new one begins."""
    assert old.slopes is not None
    assert new.slopes is not None
    kept = old.times_s < new.times_s[0]
    return Path(
        np.concatenate([old.times_s[kept], new.times_s]),
        np.concatenate([old.values[kept], new.values]),
        np.concatenate([old.slopes[kept], new.slopes]),
    )


def _seconds(stamp: Any) -> float:
    """A builtin_interfaces Time or Duration in seconds."""
    return stamp.sec + 1e-9 * stamp.nanosec
