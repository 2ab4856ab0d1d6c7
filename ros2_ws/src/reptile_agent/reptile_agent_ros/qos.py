"""Qualities of service that several nodes share, and which of them parameters may override."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""A late joiner gets the last message."""
NEWEST = QoSProfile(depth=1)
"""Reliable; only the newest message counts."""
NEWEST_SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For sensors: only the newest message counts, and none is sent twice."""
PARTIAL_SENSOR = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For sensors whose messages hold a part each: the newest of one may not push out another's."""
MAX_DEPTH = 10
"""A measurement counts as new when it is taken out of its queue: a long queue would hide its age.
"""
RELIABILITIES = (
    ReliabilityPolicy.RELIABLE,
    ReliabilityPolicy.BEST_EFFORT,
    ReliabilityPolicy.SYSTEM_DEFAULT,
    ReliabilityPolicy.BEST_AVAILABLE,
)


def subscribe(
    node: Node, kind: type, topic: str, callback: Callable[..., None], default: QoSProfile
) -> Subscription:
    """A subscription whose `qos_overrides.<topic>.subscription` parameters count.

    Depth and reliability: what is kept for ever or for late joiners would be taken for new. Two
    subscriptions to a topic share them.

    Raises:
        ValueError: a parameter asks for what there is not.
    """
    with _named(topic):
        return node.create_subscription(
            kind, topic, callback, copy(default), qos_overriding_options=_options()
        )


def advertise(node: Node, kind: type, topic: str, default: QoSProfile) -> Publisher:
    """A publisher whose `qos_overrides.<topic>.publisher` parameters count; see `subscribe`.

    Raises:
        ValueError: a parameter asks for what there is not.
    """
    with _named(topic):
        return node.create_publisher(kind, topic, copy(default), qos_overriding_options=_options())


def _options() -> QoSOverridingOptions:
    # Declared by the first who makes such an entity; rclpy takes them as they are after that.
    kinds = (QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
    return QoSOverridingOptions(kinds, callback=_judge)


def _judge(profile: QoSProfile) -> SetParametersResult:
    if not 1 <= profile.depth <= MAX_DEPTH:
        reason = f'depth is {profile.depth}; set 1 to {MAX_DEPTH}'
    elif profile.reliability not in RELIABILITIES:
        words = ', '.join(policy.name.lower() for policy in RELIABILITIES)
        reason = f'reliability is {profile.reliability.name.lower()}; set one of {words}'
    else:
        return SetParametersResult(successful=True)
    return SetParametersResult(successful=False, reason=reason)


@contextmanager
def _named(topic: str) -> Iterator[None]:
    """Turn the several errors of rclpy into one that a node's configure understands."""
    try:
        yield
    except (InvalidQosOverridesError, ParameterException, RuntimeError) as error:
        raise ValueError(f'qos_overrides of {topic}: {error}') from error
