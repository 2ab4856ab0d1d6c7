"""The node policy_node: controls the robot at a fixed rate, with the parameters it may trust.

Reads what is measured and `reference`, writes commands, publishes every transition and its status,
takes adapted parameters from `adapter_node/parameters`. Lifecycle: configure checks everything,
nothing moves before activate.
"""

from __future__ import annotations

import math

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.controller import Controller, LATE, Tick
from reptile_agent_msgs.msg import Parameters, PolicyStatus
from reptile_agent_msgs.msg import Transition as TransitionMessage
from reptile_agent_ros import realtime, wire
from reptile_agent_ros.commands import Commands
from reptile_agent_ros.control_diagnostics import ControlDiagnostics
from reptile_agent_ros.introspection import Introspection
from reptile_agent_ros.joints import parse_joint_map
from reptile_agent_ros.operator_services import OperatorServices
from reptile_agent_ros.policy_status import status_message
from reptile_agent_ros.qos import LATCHED
from reptile_agent_ros.references import References
from reptile_agent_ros.run import run
from reptile_agent_ros.settings import declare_policy, load_bundle, make_controller, value
from reptile_agent_ros.sources import Sources, WAITING
from reptile_agent_ros.transitions import logged
from std_msgs.msg import Header

STATUS_PERIOD_S = 0.2
LAST_COMMAND_S = 0.5
"""How long to wait, at the end, for the robot's driver to acknowledge the last command."""
SAY_AGAIN_S = 5.0
"""Parameters that are refused for the same reason are logged so often at the most."""
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
        self._refused = '', -math.inf
        self._operator = OperatorServices(
            self,
            lambda: self._active,
            lambda: self._controller,
            self._make_controller,
            self._begin,
            self._changed,
            self._take_bundle,
        )
        self._parts: list = []

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the bundle; make publishers, subscriptions and services."""
        try:
            self._configure()
        except (BundleError, ValueError, LookupError, OSError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._destroy()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to control as soon as the robot is seen."""
        self._go_first(True)
        self._begin()
        self._active = True
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot where it is, and send no more commands."""
        self._stop()
        self._publish_status()
        self._go_first(False)
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state; the last command reaches the robot before the node is gone."""
        if self._active:
            self._stop()
            self._commands.wait(LAST_COMMAND_S)
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave a command that holds the robot, if one can be sent, and let go of everything."""
        try:
            if self._active:
                self._stop()
                self._commands.wait(LAST_COMMAND_S)
        finally:
            self._destroy()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        bundle = load_bundle(self)
        robot = bundle.manifest.robot
        joint_map = parse_joint_map(value(self, 'joint_map'))
        self._sources = Sources(self, robot, joint_map, self._now_s, self._made)
        self._references = References(self, robot, joint_map, self._now_s, self._made)
        self._use(self._make_controller(bundle))
        self._last_tick_s, self._excused = -math.inf, False
        self._said = ''

        self._diagnostics = ControlDiagnostics(
            self, robot, self._sources.elsewhere, self._status_message, self._ages_s
        )
        self._parts.append(self._diagnostics)
        self._introspection = Introspection(self, robot) if value(self, 'introspection') else None
        self._parts += [self._introspection] if self._introspection else []
        self._operator.offer()
        self._commands = Commands(self, robot, joint_map)
        self._transitions = self.create_publisher(TransitionMessage, '~/transition', 50)
        self._status = self.create_publisher(PolicyStatus, '~/status', LATCHED)
        self._made += [
            self.create_subscription(
                Parameters, 'adapter_node/parameters', self._on_parameters, LATCHED
            ),
            self.create_timer(robot.control_period_s, self._on_tick, clock=self._steady_clock),
            self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=self._steady_clock),
        ]
        self.get_logger().info(
            f"bundle {bundle.path}: robot '{robot.name}', {1 / robot.control_period_s:g} Hz, "
            f'{bundle.start.size} parameters, start {self._start_sha256[:12]}'
        )

    def _make_controller(self, bundle: Bundle) -> Controller:
        return make_controller(self, bundle, self._sources.elsewhere)

    def _use(self, controller: Controller) -> None:
        """Control with a bundle's start."""
        self._controller = controller
        self._start_sha256 = self._sha256 = controller.bundle.manifest.start_sha256
        self._errors = [math.nan] * ERROR_TICKS

    def _destroy(self) -> None:
        self._active = False
        self._go_first(False)
        for part in (self._operator, *self._parts):
            part.destroy()
        self._parts = []
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

    def _go_first(self, first: bool) -> None:
        """Have every thread of this process, all made by now, run before all else, or not."""
        priority = value(self, 'realtime_priority')
        if not priority:
            return
        why_not = realtime.schedule(priority if first else 0)
        if why_not and first:
            self.get_logger().info(f'controls by ordinary scheduling: {why_not}')
        elif why_not:
            self.get_logger().warning(why_not)
        elif first:
            self.get_logger().info(f'controls at real-time priority {priority}')

    def _begin(self) -> None:
        """Control anew: from a measurement yet to come, along a trajectory that still runs.

        Should none come, the robot holds: no policy's command may stand until then.
        """
        command = self._controller.stop()
        if self._active and command is not None:
            self._commands.send(command)
        self._controller.reset()
        self._name_parameters()
        self._operator.hold_on()
        self._diagnostics.ticks.forget()
        self._sources.forget()
        self._references.begin()

    def _stop(self) -> None:
        """Leave a command behind that is safe to stand: a driver may repeat it for ever."""
        self._active = False
        command = self._controller.stop()
        if command is not None:
            self._commands.send(command)

    def _now_s(self) -> float:
        return self._steady_clock.now().nanoseconds * 1e-9

    def _ages_s(self) -> np.ndarray:
        return self._now_s() - self._sources.received_s

    def _header(self) -> Header:
        return Header(stamp=wire.stamp(self))

    def _on_parameters(self, message: Parameters) -> None:
        try:
            flat = wire.read_parameters(message)
            self._controller.offer(message.version, message.start_sha256, flat)
        except ValueError as error:
            refused, now_s = (
                f'parameters version {message.version} refused: {error}',
                self._now_s(),
            )
            if refused != self._refused[0] or now_s - self._refused[1] > SAY_AGAIN_S:
                self._refused = refused, now_s
                self.get_logger().error(refused)

    def _on_tick(self) -> None:
        if not self._active:
            return
        try:
            self._control()
        except Exception as error:
            # Whatever it is, a robot must not be left with the last command of a policy.
            command = self._controller.fail(f'{type(error).__name__}: {error}')
            self._name_parameters()
            try:
                if command is not None:
                    self._commands.send(command)
            except Exception as broken:
                self.get_logger().fatal(f'no command can be sent: {broken}')
            self._say(self._controller.reason)

    def _control(self) -> None:
        """One control period."""
        controller, sources, now_s = self._controller, self._sources, self._now_s()
        waiting = sources.waiting()
        if waiting:  # Before all was measured nothing moves, and nothing is wrong yet.
            self._say(controller.reason or waiting)
            return
        self._diagnostics.ticks.note(now_s)
        if self._was_held_up(now_s):
            return
        if sources.error:
            controller.envelope.latch(sources.error)
        version, rollbacks = controller.version, controller.rollbacks
        reference = self._references.ahead(now_s, sources.obs, controller.policy.horizon)
        tick = controller.tick(now_s, sources.obs, sources.received_s, reference)
        if tick.command is not None:
            self._commands.send(tick.command)
        if self._introspection is not None:
            age_s = now_s - sources.received_s.min()
            self._introspection.publish(sources.obs, reference, tick, controller, age_s)
        self._report(tick, version, rollbacks)

    def _was_held_up(self, now_s: float) -> bool:
        """Whether only this process's own delay makes the measurement look old.

        Where all of the process stood still for a while, the tick may be called before DDS hands
        over the measurement that waited meanwhile. Then the next tick judges, and never a later.
        """
        period_s = self._controller.bundle.manifest.robot.control_period_s
        late = now_s - self._last_tick_s > LATE * period_s
        self._last_tick_s = now_s
        old = now_s - self._sources.received_s.min() > self._controller.envelope.max_age_s
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
            self._changed()
        self._say(controller.reason)

    def _changed(self) -> None:
        """Say what drives now."""
        self._name_parameters()
        if self._active:
            self._say(self._controller.reason or self._sources.waiting())
        self._publish_status()

    def _name_parameters(self) -> None:
        self._sha256 = parameters.sha256(self._controller.policy.parameters)

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
        if hasattr(self, '_status'):  # else its timer was called once more while it was destroyed
            self._status.publish(self._status_message())

    def _status_message(self) -> PolicyStatus:
        inactive = {} if self._active else {'mode': PolicyStatus.INACTIVE}
        return status_message(
            self._controller,
            self._header(),
            self._errors,
            reason=self._said,
            dry_run=self._commands.dry_run,
            parameters_sha256=self._sha256,
            **inactive,
        )

    def _take_bundle(self, controller: Controller) -> None:
        """Hold, and begin anew with another bundle's start, where the robot then stands."""
        self._begin()
        self._use(controller)
        try:
            self._references.renew(controller.bundle.manifest.robot)
        except Exception as error:
            controller.envelope.latch(f'the bundle was not taken whole: {error}')
            raise
        self._publish_status()


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(PolicyNode, args)


if __name__ == '__main__':
    main()
