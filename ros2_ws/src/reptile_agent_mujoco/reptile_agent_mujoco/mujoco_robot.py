"""The node mujoco_robot: a simulated robot with the topics of a real one.

Publishes `joint_states`; obeys `forward_command_controller/commands` or
`joint_trajectory_controller/joint_trajectory`; serves `~/inject_fault` and `~/reset`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import gc
import math
import os
import sys
from typing import Any

import numpy as np
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from rclpy.time import Time
from reptile_agent.spec import RobotSpec
from reptile_agent_msgs.srv import InjectFault
from reptile_agent_mujoco.commands import CommandReader, RefusedError
from reptile_agent_mujoco.parameters import declare
from reptile_agent_mujoco.simulated_robot import SimulatedRobot
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from sim import registry
from sim.backends.batch import UnstableError
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

MAX_CATCH_UP_TICKS = 10
"""Most ticks simulated at once after a delay; what is beyond is lost, and said."""
LOG_PERIOD_S = 5.0
"""Least time between two log lines on the same kind of trouble."""


class MujocoRobot(Node):
    """Steps the simulation in real time on a steady clock and speaks for the robot."""

    def __init__(self) -> None:
        super().__init__('mujoco_robot')
        parameters = declare(self)
        self._tick_s = 1 / parameters.publish_rate_hz
        self._robot = SimulatedRobot(
            registry.get(parameters.family), parameters.task, parameters.seed, self._tick_s
        )
        spec: RobotSpec = self._robot.family.robot
        self._reader = CommandReader(spec, parameters.command_joints)
        self._timeout_s = parameters.command_timeout_s
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._origin_s: float | None = None
        self._ticks = 0
        self._commanded_s: float | None = None
        self._troubles: Counter[str] = Counter()
        self._logged_s: dict[str, float] = {}

        self._joint_states = self.create_publisher(
            JointState, 'joint_states', qos_profile_sensor_data
        )
        newest = QoSProfile(depth=1)
        if parameters.command_interface == 'forward':
            topic = 'forward_command_controller/commands'
            self.create_subscription(Float64MultiArray, topic, self._on_forward, newest)
        else:
            topic = 'joint_trajectory_controller/joint_trajectory'
            self.create_subscription(JointTrajectory, topic, self._on_trajectory, newest)
        # With use_sim_time somebody must say what time it is: the simulation does.
        self._clock_topic = None
        if self.get_parameter('use_sim_time').value:
            self._clock_topic = self.create_publisher(ClockMessage, '/clock', 10)
        self.create_service(InjectFault, '~/inject_fault', self._on_inject_fault)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_timer(self._tick_s, self._on_timer, clock=self._steady_clock)
        self.get_logger().info(
            f"robot '{spec.name}' with task {parameters.task}: joint_states at "
            f'{parameters.publish_rate_hz:g} Hz, commands on {topic}'
        )

    def _now_s(self) -> float:
        return self._steady_clock.now().nanoseconds * 1e-9

    def _on_timer(self) -> None:
        now_s = self._now_s()
        if self._commanded_s is not None and now_s - self._commanded_s > self._timeout_s:
            self._commanded_s = None
            self._robot.hold()
            self._tell('timeout', f'no command for {self._timeout_s} s: the robot holds')
        for _ in range(self._due_ticks(now_s)):
            self._robot.tick()
        if self._clock_topic is not None:
            now_ns = round(self._ticks * self._tick_s * 1e9)
            self._clock_topic.publish(ClockMessage(clock=Time(nanoseconds=now_ns).to_msg()))
        reading = self._robot.read()
        message = JointState(
            name=reading.names,
            position=reading.position,
            velocity=reading.velocity,
            effort=reading.effort,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._joint_states.publish(message)

    def _due_ticks(self, now_s: float) -> int:
        """Ticks that real time is ahead of the simulation, at most MAX_CATCH_UP_TICKS."""
        if self._origin_s is None:
            # Half a tick early, so that a timer's jitter does not round one way or the other.
            self._origin_s = now_s - self._tick_s / 2
        due = math.floor((now_s - self._origin_s) / self._tick_s) - self._ticks
        if due > MAX_CATCH_UP_TICKS:
            lost = due - MAX_CATCH_UP_TICKS
            self._origin_s += lost * self._tick_s
            self._tell(
                'behind',
                f'the simulation fell {lost * self._tick_s:.3f} s behind real time; lower the '
                'load or publish_rate_hz',
            )
            due = MAX_CATCH_UP_TICKS
        self._ticks += due
        return due

    def _on_forward(self, message: Float64MultiArray) -> None:
        self._obey(self._reader.forward, message.data)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._obey(self._reader.trajectory, message)

    def _obey(self, read: Callable[[Any], np.ndarray], command: Any) -> None:
        try:
            action = read(command)
        except RefusedError as error:
            self._tell(error.kind, f'refused: {error}')
            return
        self._robot.command(action)
        self._commanded_s = self._now_s()

    def _on_inject_fault(
        self, request: InjectFault.Request, response: InjectFault.Response
    ) -> InjectFault.Response:
        try:
            self._robot.inject(list(request.names), list(request.values))
        except (LookupError, ValueError) as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, f'the task is now {self._robot.task}'
        self.get_logger().info(f'inject_fault: {response.message}')
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._robot.reset()
        self._commanded_s = None
        response.success, response.message = True, 'the initial state, and the robot as built'
        self.get_logger().info(f'reset: {response.message}')
        return response

    def _tell(self, kind: str, message: str) -> None:
        """Warn at the first trouble of a kind, then at most every LOG_PERIOD_S with the count."""
        self._troubles[kind] += 1
        now_s = self._now_s()
        if now_s - self._logged_s.get(kind, -math.inf) >= LOG_PERIOD_S:
            self._logged_s[kind] = now_s
            self.get_logger().warning(f'{message} ({self._troubles[kind]} so far)')


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop; what it cannot start with is said in one line."""
    # As the other nodes: a killed peer must not stop this one over a lock in shared memory.
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    rclpy.init(args=args)
    try:
        node = MujocoRobot()
    except (LookupError, TypeError, ValueError, ParameterException) as error:
        rclpy.logging.get_logger('mujoco_robot').fatal(str(error))
        rclpy.try_shutdown()
        sys.exit(1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # What was made so far stays: looking through it again and again costs tens of ms a time.
    gc.freeze()
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():
            raise  # else it was told to stop while it published
    except UnstableError as error:
        node.get_logger().fatal(f'{error}; the robot has stopped')
        sys.exit(1)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
