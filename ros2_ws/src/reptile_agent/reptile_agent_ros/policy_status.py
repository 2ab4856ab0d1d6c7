"""What policy_node says of its controller on `~/status`."""

from __future__ import annotations

from collections.abc import Iterable
import math

from reptile_agent.onboard.controller import Controller
from reptile_agent_msgs.msg import PolicyStatus
from std_msgs.msg import Header


def status_message(
    controller: Controller, header: Header, errors: Iterable[float], **more: object
) -> PolicyStatus:
    """A status.

    Args:
        controller: that drives.
        header: of now.
        errors: tracking errors of the last control periods; what is not finite is left out.
        more: fields that the controller does not know.
    """
    seen = [error for error in errors if math.isfinite(error)]
    fields = {
        'mode': controller.mode,
        'parameters_version': controller.version,
        'probation': controller.probation.outcome,
        'ticks': controller.ticks,
        'missed': controller.missed,
        'clamps': controller.envelope.clamps,
        'clamps_by_action': controller.envelope.clamps_by_action.tolist(),
        'rollbacks': controller.rollbacks,
        'fallbacks': controller.fallbacks,
        'fallback_failures': controller.fallback.failures,
        'tracking_error': sum(seen) / len(seen) if seen else math.nan,
    }
    return PolicyStatus(header=header, **(fields | more))
