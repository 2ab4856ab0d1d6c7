"""What `ros2 bag record` does, for machines that have no rosbag2: raw messages into a bag."""

from __future__ import annotations

import time
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from bench.faults.nodes import Peer
from reptile_agent.bags.recording import message_types


class Recorder:
    """Records topics of reptile_agent_msgs while its peer spins.

    Args:
        peer: that subscribes.
        path: of the bag's folder, which must not be there.
        topics: names -> kinds of message, as in reptile_agent_msgs.
        plugin: MCAP or SQLITE3.
    """

    def __init__(self, peer: Peer, path: Path, topics: dict[str, str], plugin: str) -> None:
        import reptile_agent_msgs.msg
        from rclpy.qos import DurabilityPolicy, QoSProfile

        types = message_types()
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin[plugin])
        self._writer.open()
        for topic, kind in topics.items():
            connection = self._writer.add_connection(
                topic, f"reptile_agent_msgs/msg/{kind}", typestore=types
            )

            def write(data: bytes, connection=connection) -> None:
                self._writer.write(connection, time.time_ns(), data)

            latched = kind != "Transition"
            qos = QoSProfile(
                depth=100,
                durability=DurabilityPolicy.TRANSIENT_LOCAL
                if latched
                else DurabilityPolicy.VOLATILE,
            )
            message = getattr(reptile_agent_msgs.msg, kind)
            peer.node.create_subscription(message, topic, write, qos, raw=True)

    def close(self) -> None:
        """End the bag."""
        self._writer.close()
