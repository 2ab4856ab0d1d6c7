"""The node adapter_node: remembers what the robot did, takes k inner steps, asks the gate.

Reads `policy_node/transition`, publishes what the gate accepts on `~/parameters` and every
verdict on `~/status`; `~/adapt` adapts on request. A process of its own, and a niced one, so
that learning takes only the time that control leaves over. It learns in a thread beside the
executor's (docs/decisions/24), so that whoever wants to end that is heard at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
import os
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from reptile_agent.adaptation import AdaptationConfig, MIN_NEW_TRANSITIONS
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.transition import read_message
from reptile_agent_msgs.msg import AdaptationStatus, Parameters, PolicyStatus
from reptile_agent_msgs.msg import Transition as TransitionMessage
from reptile_agent_ros import wire
from reptile_agent_ros.adapt_action import AdaptAction
from reptile_agent_ros.adaptation_diagnostics import AdaptationDiagnostics
from reptile_agent_ros.adapter_services import AdapterServices, SPOOL, state_folder
from reptile_agent_ros.background import Background, Job
from reptile_agent_ros.bundle_swap import BundleSwap
from reptile_agent_ros.live_parameters import LiveParameters
from reptile_agent_ros.qos import LATCHED
from reptile_agent_ros.run import run
from reptile_agent_ros.settings import declare_adapter, load_bundle, value
from reptile_agent_ros.transitions import logged
from std_msgs.msg import Header

REMEMBERED = 32
"""Published parameters kept, to know those that the policy says it uses."""


class AdapterNode(LifecycleNode):
    """Learns with a bundle; all decisions are the Adapter's, all ROS is here."""

    def __init__(self) -> None:
        super().__init__('adapter_node')
        declare_adapter(self)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._active = False
        self._made: list = []
        self._background: Background | None = None
        self._action: AdaptAction | None = None
        self._requests: AdapterServices | None = None
        self._adapter: Adapter | None = None
        self._swap: BundleSwap[Adapter] | None = None
        self._timer: Any = None
        self._diagnostics: AdaptationDiagnostics | None = None
        self._live = LiveParameters(self, self._bundle_config, self._on_live_parameters)

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the bundle; make publishers, subscriptions and the action."""
        try:
            self._configure()
        except (BundleError, ValueError, OSError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._destroy()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to remember and to adapt."""
        self._active = True
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop adapting; what was remembered stays."""
        self._active = False
        self._background.stop()
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._destroy()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        os.nice(max(0, value(self, 'nice') - os.nice(0)))
        bundle = load_bundle(self)
        folder = state_folder(value(self, 'state_folder'))
        self._adapter = self._new_adapter(bundle, None if folder is None else folder / SPOOL)
        self._start_sha256 = bundle.manifest.start_sha256
        self._references = len(bundle.manifest.robot.references)
        self._version = 0
        self._published: dict[str, np.ndarray] = {}
        self._in_use, self._in_use_version = self._start_sha256, 0
        self._policy_is_active = False
        self._new_transitions = 0
        self._last_step = -1
        self._offers = self.create_publisher(Parameters, '~/parameters', LATCHED)
        self._status = self.create_publisher(AdaptationStatus, '~/status', LATCHED)
        self._made = [
            self.create_subscription(
                TransitionMessage, 'policy_node/transition', self._on_transition, 200
            ),
            self.create_subscription(
                PolicyStatus, 'policy_node/status', self._on_policy_status, LATCHED
            ),
        ]
        self._start_timer()
        self._background = Background(lambda what: self.executor.create_task(what))
        self._requests = AdapterServices(
            self,
            self._adapter,
            self._background.paused,
            folder,
            value(self, 'consolidate_epsilon'),
            self._publish,
            self._version_in_use,
            lambda: self._active,
        )
        self._requests.load_start()
        self._action = AdaptAction(
            self, self._adapter, self._learn, self._take, lambda: self._active
        )
        self._swap = BundleSwap(
            self, lambda: self._adapter.bundle, self._new_adapter, self._take_bundle
        )
        self._diagnostics = AdaptationDiagnostics(
            self,
            lambda: self._adapter,
            lambda: self._active,
            lambda: (self._in_use_version, self._in_use),
        )
        self.get_logger().info(f'bundle {bundle.path}: {self._how()}, niceness {os.nice(0)}')
        if folder is not None:
            self.get_logger().info(
                f'{self._adapter.replay.restored} transitions restored from {folder / SPOOL}, '
                f'{self._adapter.replay.lost} were damaged and dropped'
            )

    def _destroy(self) -> None:
        self._active = False
        if self._swap is not None:
            self._swap.destroy()
            self._swap = None
        if self._background is not None:
            self._background.close()
            self._background = None
        for made in self._made:
            self.destroy_subscription(made)
        self._made = []
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        for name in ('_action', '_requests', '_diagnostics'):
            if getattr(self, name) is not None:
                getattr(self, name).destroy()
                setattr(self, name, None)
        if self._adapter is not None:
            self._adapter.close()
            self._adapter = None
        for name in ('_offers', '_status'):
            if hasattr(self, name):
                self.destroy_publisher(getattr(self, name))
                delattr(self, name)

    def _new_adapter(self, bundle: Bundle, spool: Path | None = None) -> Adapter:
        how = self._live.now()
        config = how.config(bundle.manifest.adaptation)
        return Adapter(bundle, config, how.budget_s, value(self, 'seed'), spool)

    def _take_bundle(self, adapter: Adapter) -> None:
        """Learn with another bundle of the same robot; what is being learned is called off."""
        with self._background.paused():
            adapter.succeed(self._adapter)
            self._adapter = adapter
        self._start_sha256 = self._in_use = adapter.bundle.manifest.start_sha256
        self._in_use_version, self._published = 0, {}
        self._new_transitions, self._last_step = 0, -1
        # Of the bundle that was: the next transition tells what the policy runs now.
        self._diagnostics.other_bundle, self._diagnostics.trouble = False, ''
        self._requests.use(adapter)
        self._action.use(adapter)
        self._on_live_parameters()

    def _bundle_config(self) -> AdaptationConfig:
        if self._adapter is None:
            return AdaptationConfig()
        return self._adapter.bundle.manifest.adaptation

    def _on_live_parameters(self) -> None:
        """Adapt as the parameters now say, from the next adaptation on."""
        adapter = self._adapter
        if adapter is None:
            return
        how = self._live.now()
        # One assignment: `learn` takes steps and step size from one and the same configuration.
        adapter.config = how.config(adapter.bundle.manifest.adaptation)
        adapter.budget_s = how.budget_s
        self._start_timer()
        self.get_logger().info(f'from now on {self._how()}')

    def _start_timer(self) -> None:
        """Adapt every so often, if at all; a period that did not change goes on."""
        period_ns = round(1e9 * self._live.now().adapt_period_s)
        if self._timer is not None:
            if self._timer.timer_period_ns == period_ns:
                return
            self.destroy_timer(self._timer)
            self._timer = None
        if period_ns:
            clock = self._steady_clock
            self._timer = self.create_timer(1e-9 * period_ns, self._on_timer, clock=clock)

    def _how(self) -> str:
        """How it adapts, in a sentence."""
        adapter, period_s = self._adapter, self._live.now().adapt_period_s
        often = f'every {period_s:g} s' if period_s else 'on request'
        config = adapter.config
        steps = f'{config.inner_steps} inner steps of {config.inner_lr:g} from the {config.start}'
        return f'{steps} {often}, within {adapter.budget_s:g} s'

    def _header(self) -> Header:
        return Header(stamp=wire.stamp(self))

    def _on_transition(self, message: TransitionMessage) -> None:
        if self._adapter is None:  # it came while this was cleaned up
            return
        self._diagnostics.other_bundle = message.start_sha256 != self._start_sha256
        if self._diagnostics.other_bundle:
            self.get_logger().error(
                'transition refused: the policy runs another bundle; give both nodes the same',
                throttle_duration_sec=5.0,
            )
            return
        continues = message.step == self._last_step + 1
        self._last_step = message.step
        try:
            transition = read_message(message, continues, self._references)
            self._adapter.remember(transition, message.step)
            self._new_transitions += 1
        except ValueError as error:
            self.get_logger().error(f'transition refused: {error}', throttle_duration_sec=5.0)

    def _on_policy_status(self, message: PolicyStatus) -> None:
        """Learn which parameters really drive the robot: it may have refused or rolled back."""
        if self._adapter is None:
            return
        if message.mode == PolicyStatus.FALLBACK and self._policy_is_active:
            # What led to a fallback is not to be learned from.
            self._adapter.cancel()
            self._adapter.forget()
        if message.mode != PolicyStatus.ACTIVE:
            self._last_step = -1  # a stopped robot may be moved: what comes next begins anew
        self._policy_is_active = message.mode == PolicyStatus.ACTIVE
        # An adapter that was restarted goes on counting where the last one stood.
        self._version = max(self._version, message.parameters_version)
        self._in_use, self._in_use_version = message.parameters_sha256, message.parameters_version
        in_use = self._known_in_use()
        if in_use is None:
            self.get_logger().warning(
                f'parameters version {message.parameters_version} are not of this process: '
                "compared with the bundle's start instead",
                throttle_duration_sec=60.0,
            )
        self._adapter.in_use = self._adapter.bundle.start if in_use is None else in_use

    def _on_timer(self) -> None:
        if self._adapter is None:
            return
        enough = self._new_transitions >= MIN_NEW_TRANSITIONS and self._adapter.ready
        enough = enough and not self._adapter.frozen and self._background.idle
        if not (self._active and self._policy_is_active and enough):
            return
        self._learn(self._on_learned)

    def _on_learned(self, future: Future) -> None:
        try:
            self._take(future)
        except LookupError as error:
            # The robot's periods were uneven: what is remembered lies in too many pieces.
            self._diagnostics.trouble = f'no adaptation: {error}'
            self.get_logger().warning(self._diagnostics.trouble, throttle_duration_sec=5.0)
        except Exception as error:
            # Whatever it is, the robot goes on with what it has, and so does this node.
            self._diagnostics.trouble = f'adaptation failed: {type(error).__name__}: {error}'
            self.get_logger().error(self._diagnostics.trouble, throttle_duration_sec=5.0)

    def _known_in_use(self) -> np.ndarray | None:
        """The parameters that drive the robot; None: this process has not made them."""
        if self._in_use == self._start_sha256:
            return self._adapter.bundle.start
        return self._published.get(self._in_use)

    def _version_in_use(self) -> int:
        """Version of the parameters that drive the robot.

        Raises:
            LookupError: the policy drives with parameters that this process has not made.
        """
        if self._known_in_use() is None:
            raise LookupError(
                'the policy drives with parameters from before this process began; '
                'nothing is saved until it takes newer ones'
            )
        return self._in_use_version

    def _learn(self, done: Callable[[Future], None], **how: Any) -> Job:
        """Have the adapter learn in the background, as `Adapter.learn` is told."""
        self._new_transitions = 0
        job = Job(lambda stop: self._adapter.learn(**how, cancelled=stop), done)
        self._background.do(job)
        return job

    def _take(self, future: Future) -> Adaptation:
        """Use what was learned, unless it was cancelled since, and publish what came of it."""
        adaptation = self._adapter.take(future.result())
        self._publish(adaptation)
        return adaptation

    def _publish(self, adaptation: Adaptation) -> None:
        """Publish the verdict, what was asked for, and the parameters if it accepts them."""
        if adaptation.verdict.accepted:
            self._version += 1
            message = wire.parameters_message(
                adaptation.parameters, self._header(), self._version, self._start_sha256
            )
            self._published[message.sha256] = adaptation.parameters
            old = [sha256 for sha256 in self._published if sha256 != self._in_use]
            for sha256 in old[: max(0, len(self._published) - REMEMBERED)]:
                del self._published[sha256]
            self._offers.publish(message)
        evidence, verdict, asked = adaptation.evidence, adaptation.verdict, adaptation.asked
        how_to_repeat = (
            {
                'newest_step': asked.newest,
                'in_use_sha256': parameters.sha256(asked.in_use),
                'asked_steps': asked.steps,
                'asked_window': asked.window,
                'asked_start': asked.start,
                'inner_lr': asked.inner_lr,
            }
            if asked
            else {}
        )
        status = AdaptationStatus(
            header=self._header(),
            version=self._version,
            accepted=verdict.accepted,
            verdict=verdict.word,
            reason=verdict.reason,
            steps=adaptation.loss.size,
            window=asked.remembered if asked else len(self._adapter.replay),
            loss=wire.floats(adaptation.loss),
            live_before=evidence.live_before,
            live_after=evidence.live_after,
            rehearsal_before=evidence.rehearsal_start,
            rehearsal_after=evidence.rehearsal_after,
            distance=evidence.distance,
            figure_names=list(verdict.figures),
            figure_values=list(verdict.figures.values()),
            tau=adaptation.tau,
            stop=adaptation.stop,
            duration_ms=adaptation.duration_ms,
            **how_to_repeat,
        )
        self._status.publish(status)
        self._diagnostics.note(status)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(AdapterNode, args)


if __name__ == '__main__':
    main()
