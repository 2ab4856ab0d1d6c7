"""The node policy_node: controls the robot at a fixed rate, with the parameters it may trust.

Reads `joint_states` and `reference`, writes commands, publishes every transition and its status,
takes adapted parameters from `adapter_node/parameters`. Lifecycle: configure checks everything,
nothing moves before activate.
"""

from __future__ import annotations

import math

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.time import Time
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import BundleError
from reptile_agent.onboard.controller import LATE, Controller, Tick
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from reptile_agent_msgs.msg import Parameters, PolicyStatus
from reptile_agent_msgs.msg import Transition as TransitionMessage
from reptile_agent_ros import wire
from reptile_agent_ros.commands import Commands
from reptile_agent_ros.joints import JointError, JointReader, parse_joint_map
from reptile_agent_ros.qos import LATCHED, NEWEST, NEWEST_SENSOR, PARTIAL_SENSOR
from reptile_agent_ros.run import run
from reptile_agent_ros.settings import (
    declare_policy,
    envelope_config,
    load_bundle,
    probation_config,
    value,
)
from reptile_agent_ros.track import Track

STATUS_PERIOD_S = 0.2
WAITING = 'waiting for joint_states'
MAX_REFERENCE_AGE_S = 3600.0
LAST_COMMAND_S = 0.5
"""How long to wait, at the end, for the robot's driver to acknowledge the last command."""
ERROR_TICKS = 25
"""Control periods that the status's tracking error is averaged over."""


class PolicyNode(LifecycleNode):
    """Acts with a bundle; all decisions are the Controller's, all ROS is here."""

    def __init__(self) -> None:
        super().__init__('policy_node')
        declare_policy(self)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._active = False
        self._made: list = []

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the bundle; make publishers, subscriptions and services."""
        try:
            self._configure()
        except (BundleError, ValueError, LookupError, OSError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._destroy()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to control as soon as the robot is seen."""
        self._begin()
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot where it is, and send no more commands."""
        self._stop()
        self._publish_status()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state; the last command reaches the robot before this node is gone."""
        if self._active:
            self._stop()
            self._commands.wait(LAST_COMMAND_S)
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        bundle = load_bundle(self)
        robot = bundle.manifest.robot
        self._joint_map = parse_joint_map(value(self, 'joint_map'))
        strict = value(self, 'strict_joints')
        self._reader = JointReader(robot, self._joint_map, strict)
        self._track = Track(robot, self._joint_map)
        self._controller = Controller(
            bundle,
            envelope_config(self),
            probation_config(self),
            seed=value(self, 'seed'),
        )
        self._start_sha256 = bundle.manifest.start_sha256
        self._sha256 = self._start_sha256
        self._errors = [math.nan] * ERROR_TICKS
        self._joint_error, self._seen = '', False
        self._tracking = False
        self._last_tick_s, self._excused = -math.inf, False
        self._said = ''

        self._commands = Commands(self, robot, self._joint_map)
        self._transitions = self.create_publisher(TransitionMessage, '~/transition', 50)
        self._status = self.create_publisher(PolicyStatus, '~/status', LATCHED)
        self._made = [
            self.create_subscription(
                JointState,
                'joint_states',
                self._on_joints,
                NEWEST_SENSOR if strict else PARTIAL_SENSOR,
            ),
            # Twice: a latched subscription does not hear publishers that do not latch, and only
            # a latched one hears what was published before it came. Hearing twice does no harm.
            self.create_subscription(JointTrajectory, 'reference', self._on_reference, LATCHED),
            self.create_subscription(JointTrajectory, 'reference', self._on_reference, NEWEST),
            self.create_subscription(
                Parameters, 'adapter_node/parameters', self._on_parameters, LATCHED
            ),
            self.create_service(Trigger, '~/reset', self._on_reset),
            self.create_service(Trigger, '~/rollback', self._on_rollback),
            self.create_timer(robot.control_period_s, self._on_tick, clock=self._steady_clock),
            self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=self._steady_clock),
        ]
        self.get_logger().info(
            f"bundle {bundle.path}: robot '{robot.name}', {1 / robot.control_period_s:g} Hz, "
            f'{bundle.start.size} parameters, start {self._start_sha256[:12]}'
        )

    def _destroy(self) -> None:
        self._active = False
        for made in self._made:
            if hasattr(made, 'cancel'):
                self.destroy_timer(made)
            elif hasattr(made, 'srv_type'):
                self.destroy_service(made)
            else:
                self.destroy_subscription(made)
        self._made = []
        if hasattr(self, '_commands'):
            self._commands.destroy()
            del self._commands
        for name in ('_transitions', '_status'):
            if hasattr(self, name):
                self.destroy_publisher(getattr(self, name))
                delattr(self, name)

    def _begin(self) -> None:
        """Control anew: from a measurement yet to come, along a trajectory that still runs.

        Should none come, the robot holds: no policy's command may stand until then.
        """
        command = self._controller.stop()
        if self._active and command is not None:
            self._commands.send(command)
        self._controller.reset()
        self._reader.forget()
        self._joint_error, self._seen = '', False
        self._tracking = self._track.goes_on(self._now_s())

    def _stop(self) -> None:
        """Leave a command behind that is safe to stand: a driver may repeat it for ever."""
        self._active = False
        command = self._controller.stop()
        if command is not None:
            self._commands.send(command)

    def _now_s(self) -> float:
        return self._steady_clock.now().nanoseconds * 1e-9

    def _header(self) -> Header:
        return Header(stamp=self.get_clock().now().to_msg())

    def _on_joints(self, message: JointState) -> None:
        try:
            self._reader.take(message, self._now_s())
        except JointError as error:
            self._joint_error = str(error)
        else:
            if not self._seen:
                self._joint_error = ''

    def _on_reference(self, message: JointTrajectory) -> None:
        now_s, age_s = self._now_s(), 0.0
        try:
            stamp = Time.from_msg(message.header.stamp)
        except ValueError as error:
            self.get_logger().error(f'reference refused: its stamp is no time: {error}')
            return
        if stamp.nanoseconds:
            age_s = (self.get_clock().now().nanoseconds - stamp.nanoseconds) * 1e-9
        if abs(age_s) > MAX_REFERENCE_AGE_S:
            self.get_logger().error(
                f'reference refused: its stamp is {age_s:.0f} s away from this clock; set the '
                'clocks alike, use_sim_time too, or leave the stamp zero to start at once'
            )
            return
        try:
            self._track.follow(message, now_s - age_s)
        except ValueError as error:
            self.get_logger().error(f'reference refused: {error}')
        else:
            self._tracking = True

    def _on_parameters(self, message: Parameters) -> None:
        try:
            flat = wire.read_parameters(message)
            self._controller.offer(message.version, message.start_sha256, flat)
        except ValueError as error:
            self.get_logger().error(f'parameters version {message.version} refused: {error}')

    def _on_tick(self) -> None:
        if not self._active:
            return
        try:
            self._control()
        except Exception as error:
            # Whatever it is, a robot must not be left with the last command of a policy.
            command = self._controller.fail(f'{type(error).__name__}: {error}')
            try:
                if command is not None:
                    self._commands.send(command)
            except Exception as broken:
                self.get_logger().fatal(f'no command can be sent: {broken}')
            self._say(self._controller.reason)

    def _control(self) -> None:
        """One control period."""
        reader = self._reader
        if not self._seen and not self._is_seen():
            return
        controller, now_s = self._controller, self._now_s()
        if self._was_held_up(now_s):
            return
        if self._joint_error:
            controller.envelope.latch(self._joint_error)
        if not self._tracking:
            self._track.stay(reader.obs[controller.bundle.manifest.robot.reference_columns])
            self._tracking = True
        version, rollbacks = controller.version, controller.rollbacks
        reference = self._track.ahead(now_s, controller.policy.horizon)
        tick = controller.tick(now_s, reader.obs, reader.received_s, reference)
        if tick.command is not None:
            self._commands.send(tick.command)
        self._report(tick, version, rollbacks)

    def _is_seen(self) -> bool:
        """Whether all was measured once; before, nothing moves, and nothing is wrong yet."""
        missing = self._reader.missing
        partly = 0 < len(missing) < self._reader.obs.size
        names = f' to have {", ".join(missing)}; is joint_map right?' if partly else ''
        self._seen = not missing and not self._joint_error
        if not self._seen:
            self._say(self._joint_error or f'{WAITING}{names}')
        return self._seen

    def _was_held_up(self, now_s: float) -> bool:
        """Whether only this process's own delay makes the measurement look old.

        Timers come before messages: after a long callback the newest measurement still waits in
        the queue when the tick is called. Then the next tick judges, and never a later one.
        """
        period_s = self._controller.bundle.manifest.robot.control_period_s
        late = now_s - self._last_tick_s > LATE * period_s
        self._last_tick_s = now_s
        old = now_s - self._reader.received_s.min() > self._controller.envelope.max_age_s
        self._excused = late and old and not self._excused
        return self._excused

    def _report(self, tick: Tick, version: int, rollbacks: int) -> None:
        controller = self._controller
        self._errors[controller.ticks % ERROR_TICKS] = tick.tracking_error
        # In a dry run its action was never applied: whoever learned from it would learn that
        # actions do nothing.
        if tick.transition is not None and not self._commands.dry_run:
            self._transitions.publish(
                wire.transition_message(
                    tick.transition, self._header(), controller.ticks, version, self._start_sha256
                )
            )
        if controller.rollbacks != rollbacks:
            self.get_logger().warning(
                f'rolled back to parameters version {controller.version}: '
                f'{controller.probation.reason}'
            )
        if controller.version != version or controller.rollbacks != rollbacks:
            self._sha256 = parameters.sha256(controller.policy.parameters)
            self._publish_status()
        self._say(controller.reason)

    def _say(self, reason: str) -> None:
        """Log a new reason once, and publish it."""
        if reason != self._said:
            self._said = reason
            # Two lines, because rclpy forbids one line to log at two severities.
            if reason.startswith(WAITING):
                self.get_logger().info(reason)
            elif reason:
                self.get_logger().error(reason)
            self._publish_status()

    def _publish_status(self) -> None:
        controller = self._controller
        seen = [error for error in self._errors if math.isfinite(error)]
        self._status.publish(
            PolicyStatus(
                header=self._header(),
                mode=controller.mode if self._active else PolicyStatus.INACTIVE,
                reason=self._said,
                dry_run=self._commands.dry_run,
                parameters_version=controller.version,
                parameters_sha256=self._sha256,
                probation=controller.probation.outcome,
                ticks=controller.ticks,
                missed=controller.missed,
                clamps=controller.envelope.clamps,
                clamps_by_action=controller.envelope.clamps_by_action.tolist(),
                rollbacks=controller.rollbacks,
                fallbacks=controller.fallbacks,
                fallback_failures=controller.fallback.failures,
                tracking_error=sum(seen) / len(seen) if seen else math.nan,
            )
        )

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin()
        response.success, response.message = True, 'fallback released'
        return response

    def _on_rollback(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._controller.back_to_start()
        self._sha256 = self._start_sha256
        response.success = True
        response.message = "on the bundle's start; ~/reset lets adapted parameters in again"
        self._publish_status()
        return response


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(PolicyNode, args)


if __name__ == '__main__':
    main()
