"""What a person may ask of policy_node: stop, start again, old parameters, another bundle."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.service import Service
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.controller import Controller
from reptile_agent_ros.answers import create_trigger
from reptile_agent_ros.bundle_swap import BundleSwap
from std_srvs.srv import Trigger

STOPPED = 'stopped by ~/stop'


class OperatorServices:
    """Serves `~/stop`, `~/reset`, `~/rollback` and `~/load_bundle` from configure to cleanup.

    Args:
        node: policy_node.
        active: whether it is.
        controller: the one in force.
        make: makes one of a bundle.
        begin: controls anew, from where the robot is.
        changed: says what drives now.
        take: controls anew with another controller.
    """

    def __init__(
        self,
        node: Node,
        active: Callable[[], bool],
        controller: Callable[[], Controller],
        make: Callable[[Bundle], Controller],
        begin: Callable[[], None],
        changed: Callable[[], None],
        take: Callable[[Controller], None],
    ) -> None:
        self._node, self._active, self._controller = node, active, controller
        self._make, self._begin = make, begin
        self._changed, self._take = changed, take
        self._stopped = False
        self._services: list[Service] = []
        self._swap: BundleSwap[Controller] | None = None

    def offer(self) -> None:
        """Offer them.

        Raises:
            ValueError: the node's bundles_folder is no absolute path.
        """
        self._swap = BundleSwap(
            self._node,
            lambda: self._controller().bundle,
            self._make,
            self._take,
            self._why_no_swap,
        )
        for name, do, message in (
            ('~/stop', self._stop, f'{STOPPED}; ~/reset releases it'),
            ('~/reset', self._reset, 'released: a fallback, a stop or a rollback holds no longer'),
        ):
            self._services.append(create_trigger(self._node, name, do, message))
        self._services.append(self._node.create_service(Trigger, '~/rollback', self._rollback))

    def destroy(self) -> None:
        """Offer them no longer; who stopped the robot has it stopped still."""
        if self._swap is not None:
            self._swap.destroy()
            self._swap = None
        for service in self._services:
            self._node.destroy_service(service)
        self._services = []

    def hold_on(self) -> None:
        """Stop a controller that was reset or made since somebody stopped the robot.

        Whatever states the node goes through meanwhile, only `~/reset` ends that.
        """
        if self._stopped:
            self._controller().envelope.latch(STOPPED)

    def _stop(self) -> None:
        """Let the fallback drive from the next control period on."""
        self._stopped = True
        self.hold_on()
        self._changed()

    def _reset(self) -> None:
        self._stopped = False
        self._begin()

    def _rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        controller = self._controller()
        controller.roll_back()
        self._changed()
        version = controller.version
        response.success = True
        response.message = (
            f'on parameters version {version} again' if version else "on the bundle's start"
        ) + '; ~/reset lets others in again'
        return response

    def _why_no_swap(self) -> str:
        """Why the bundle may not be exchanged now: that would undo what somebody asked for."""
        controller = self._controller()
        if self._active() and controller.mode == 'fallback':
            return f'the fallback drives ({controller.reason}); ~/reset it, or deactivate the node'
        if controller.frozen:
            return '~/rollback keeps adapted parameters out; ~/reset it first'
        return ''
