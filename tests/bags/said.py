"""What a robot's nodes say, and bags of it as a recorder writes them, by rosbags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from reptile_agent.bags.recording import ATTEMPT, PARAMETERS, STATUS, TRANSITION, message_types
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.transition import Transition

PERIOD_S = 0.04
TYPES = message_types()


def header():
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="")


@dataclass
class Robot:
    """What the nodes of one robot say, as rows of topic, type, time and message."""

    start_sha256: str
    namespace: str = ""
    rows: list = field(default_factory=list)
    now_s: float = 1000.0

    def say(self, topic: str, kind: str, **fields) -> None:
        message = TYPES.types[kind](header=header(), **fields)
        self.rows.append((f"{self.namespace}/{topic}", kind, self.now_s, message))

    def moved(self, step: int, transition: Transition, **other) -> None:
        self.now_s += PERIOD_S
        reference = np.zeros(0) if transition.reference is None else transition.reference
        fields = {
            "step": step,
            "first": bool(transition.first[0]),
            "observation": transition.obs[0],
            "action": transition.action[0],
            "next_observation": transition.next_obs[0],
            "reference": reference.astype(np.float32).ravel(),
            "reward": float(transition.reward[0]),
            "parameters_version": 0,
            "start_sha256": self.start_sha256,
        }
        self.say("policy_node/transition", TRANSITION, **(fields | other))

    def adapted(self, adapter: Adapter, found: Adaptation, step: int, in_use: str, **asked) -> None:
        if found.verdict.accepted:
            self.say(
                "adapter_node/parameters",
                PARAMETERS,
                version=1,
                start_sha256=self.start_sha256,
                sha256=parameters.sha256(found.parameters),
                data=found.parameters,
            )
        config, evidence = adapter.config, found.evidence
        fields = {
            "version": 0,
            "accepted": found.verdict.accepted,
            "verdict": found.verdict.word,
            "reason": found.verdict.reason,
            "steps": found.loss.size,
            "window": len(adapter.replay),
            "loss": found.loss,
            "live_before": evidence.live_before,
            "live_after": evidence.live_after,
            "rehearsal_before": evidence.rehearsal_start,
            "rehearsal_after": evidence.rehearsal_after,
            "distance": evidence.distance,
            "figure_names": [],
            "figure_values": np.zeros(0),
            "stop": found.stop,
            "tau": found.tau,
            "duration_ms": found.duration_ms,
            "newest_step": step,
            "in_use_sha256": in_use,
            "asked_steps": config.inner_steps,
            "asked_window": config.window,
            "asked_start": config.start,
            "inner_lr": config.inner_lr,
        }
        self.say("adapter_node/status", ATTEMPT, **(fields | asked))

    def mode(self, mode: str) -> None:
        numbers = dict.fromkeys(
            (
                "parameters_version",
                "ticks",
                "missed",
                "clamps",
                "rollbacks",
                "fallbacks",
                "fallback_failures",
            ),
            0,
        )
        others = {"clamps_by_action": np.zeros(0, np.uint64), "dry_run": False}
        texts = dict.fromkeys(("reason", "parameters_sha256", "probation"), "")
        self.say(
            "policy_node/status",
            STATUS,
            mode=mode,
            tracking_error=0.0,
            **numbers,
            **texts,
            **others,
        )


def write_bag(path: Path, *robots: Robot, plugin: str = "MCAP") -> Path:
    """A bag of what robots said; rows of other types need fields of their own."""
    with Writer(path, version=9, storage_plugin=StoragePlugin[plugin]) as writer:
        topics: dict = {}
        for topic, kind, now_s, message in (row for robot in robots for row in robot.rows):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            data = TYPES.serialize_cdr(message, kind)
            writer.write(topics[topic], round(1e9 * now_s), data)
    return path
