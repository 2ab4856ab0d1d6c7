"""Two kinds of services: those that cannot fail, and those whose answer takes its time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.service import Service
from std_srvs.srv import Trigger


def create_trigger(node: Node, name: str, do: Callable[[], None], message: str) -> Service:
    """A service that has something done and says so.

    Args:
        node: that offers it.
        name: of it.
        do: what is asked for; it may not fail.
        message: of the answer.
    """

    def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        do()
        response.success, response.message = True, message
        return response

    return node.create_service(Trigger, name, serve)


def create_late_service(
    node: Node, kind: Any, name: str, begin: Callable[[Any, Callable[[Any], None]], None]
) -> Service:
    """A service that answers when its work is done, not when its callback returns.

    A callback that awaits would do, were it not polled at full speed until then
    (docs/decisions/24).

    Args:
        node: that offers it.
        kind: of the service.
        name: of it.
        begin: called with a request, and with what its response is to be given to, once, on the
            executor's thread.
    """
    service = node.create_service(kind, name, lambda request, _: request)
    answer = service.send_response

    def send_response(request: Any, header: Any) -> None:
        """What the executor calls with what the callback returned: here, the request."""
        begin(request, partial(answer, header=header))

    setattr(service, 'send_response', send_response)  # noqa: B010
    return service
