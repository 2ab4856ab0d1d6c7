"""Qualities of service that several nodes share."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

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
