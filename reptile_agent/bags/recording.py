"""What a robot's nodes said, read from a bag (MCAP or sqlite) by rosbags, without ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from reptile_agent.onboard import parameters
from reptile_agent.onboard.manifest import Manifest
from reptile_agent.transition import Transition, read_message

PACKAGE = "reptile_agent_msgs/msg/"
TRANSITION, ATTEMPT, PARAMETERS, STATUS = (
    PACKAGE + name for name in ("Transition", "AdaptationStatus", "Parameters", "PolicyStatus")
)
RECORD = "ros2 launch reptile_agent record.launch.py"


class BagError(ValueError):
    """A bag cannot be used; the message names it, what is wrong, and the mend."""


@dataclass(frozen=True)
class Attempt:
    """An adaptation as the robot's adapter_node reported it."""

    time_s: float
    """When it was recorded, by the recorder's clock [s]."""
    newest_step: int
    """Step of the newest transition that it remembered."""
    remembered: int
    """Transitions that it remembered."""
    in_use_sha256: str
    asked_steps: int
    asked_window: int
    asked_start: str
    inner_lr: float
    steps: int
    """Inner steps that it took."""
    tau: float
    """Recency of the minibatches that it took them on."""
    stop: str
    version: int
    """Of the parameters it published last."""
    verdict: str
    accepted: bool
    loss: np.ndarray
    """float32 [steps]."""
    live_before: float
    live_after: float


@dataclass(frozen=True)
class Recording:
    """What a bag holds of one robot, in the order in which it was recorded."""

    path: Path
    transitions: list[Transition] = field(default_factory=list)
    """Of one lane each."""
    times_s: list[float] = field(default_factory=list)
    """When each transition was recorded, by the recorder's clock [s]."""
    steps: list[int] = field(default_factory=list)
    """Number that policy_node gave each; it begins anew with every activation."""
    attempts: list[Attempt] = field(default_factory=list)
    offers: dict[str, np.ndarray] = field(default_factory=dict)
    """Parameters that adapter_node published, by hash, flat float32."""
    fallbacks_s: list[float] = field(default_factory=list)
    """When policy_node fell back, by the recorder's clock [s]."""


def message_types() -> Typestore:
    """ROS's message types and our own, for bags that carry no definitions."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted((Path(__file__).parent / "msg").glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), PACKAGE + file.stem))
    return store


def read(path: Path, manifest: Manifest, namespace: str | None = None) -> Recording:
    """Read what policy_node and adapter_node said.

    Args:
        path: of a bag's folder, or of a .mcap or .db3 file.
        manifest: of the bundle that drove the robot.
        namespace: of the nodes; None: the only one there is in the bag.

    Raises:
        BagError: it is no bag, damaged, of another robot or bundle, or holds no transitions.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f"there is no bag {path}")
    try:
        with AnyReader([path], default_typestore=message_types()) as reader:
            messages = _Messages(path, reader, namespace)
            return _recording(path, messages, manifest)
    except BagError:
        raise
    except Exception as error:
        # Whatever a damaged file makes the library raise, and that is nearly anything.
        raise BagError(
            f"bag {path} cannot be read: {type(error).__name__}: {error}; it is damaged, cut off "
            f"or no bag (a folder with metadata.yaml, a .mcap or a .db3 file). What a recorder "
            f"that was killed leaves behind, `ros2 bag reindex {path}` mends"
        ) from error


class _Messages:
    """The messages of one robot's nodes, by their type."""

    def __init__(self, path: Path, reader: AnyReader, namespace: str | None) -> None:
        self._path, self._reader, self._ours = path, reader, message_types()
        ours = [c for c in reader.connections if c.msgtype.startswith(PACKAGE)]
        found = sorted({_namespace(c) for c in ours if c.msgtype == TRANSITION})
        if not found:
            there = ", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in reader.connections))
            raise BagError(
                f"bag {path} holds no {TRANSITION}; its topics are: {there or 'none'}. Nothing "
                f"else will do: record policy_node/transition, by `{RECORD}`"
            )
        if namespace is None and len(found) > 1:
            raise BagError(f"bag {path} holds several robots; say --namespace, one of {found}")
        wanted = found[0] if namespace is None else "/" + namespace.strip("/")
        if wanted not in found:
            raise BagError(
                f"bag {path} holds no transitions of namespace {wanted}, only of {found}"
            )
        self._connections = [c for c in ours if _namespace(c) == wanted]

    def __iter__(self) -> Iterator[tuple[str, float, Any]]:
        """Type, time of recording [s] and content of each, in the order of that time."""
        for connection in self._connections:
            self._check(connection)
        for connection, stamp_ns, data in self._reader.messages(connections=self._connections):
            yield connection.msgtype, 1e-9 * stamp_ns, self._content(connection, data)

    def _content(self, connection: Connection, data: bytes) -> Any:
        if connection.msgtype in self._reader.typestore.fielddefs:
            return self._reader.deserialize(data, connection.msgtype)
        return self._ours.deserialize_cdr(data, connection.msgtype)

    def _check(self, connection: Connection) -> None:
        """Whether the definition that the bag carries has all that ours has."""
        theirs = self._reader.typestore.fielddefs.get(connection.msgtype)
        ours = self._ours.fielddefs.get(connection.msgtype)
        if theirs is None or ours is None:
            return
        missing = {name for name, _ in ours[1]} - {name for name, _ in theirs[1]}
        if missing:
            raise BagError(
                f"bag {self._path}: {connection.msgtype} has no {sorted(missing)} there: it was "
                f"recorded with another version of reptile_agent_msgs; take that version, or "
                f"record anew"
            )


def _namespace(connection: Connection) -> str:
    """Of the node with the private topic."""
    return connection.topic.rsplit("/", 2)[0] or "/"


def _recording(path: Path, messages: _Messages, manifest: Manifest) -> Recording:
    """Sort the messages; transitions are refused and linked as adapter_node does it."""
    found, others = Recording(path), Counter[str]()
    references, size = len(manifest.robot.references), sum(e.size for e in manifest.parameters)
    last_step, mode = -1, ""
    for kind, time_s, message in messages:
        if kind == TRANSITION and message.start_sha256 != manifest.start_sha256:
            others[message.start_sha256] += 1
        elif kind == TRANSITION:
            continues, last_step = message.step == last_step + 1, message.step
            try:
                found.transitions.append(read_message(message, continues, references))
            except ValueError:
                continue
            found.steps.append(message.step)
            found.times_s.append(time_s)
        elif kind == ATTEMPT:
            found.attempts.append(_attempt(time_s, message))
        elif kind == PARAMETERS and message.data.size == size:
            flat = np.array(message.data, np.float32)
            found.offers[parameters.sha256(flat)] = flat
        elif kind == STATUS:
            if message.mode == "fallback" and mode == "active":
                found.fallbacks_s.append(time_s)
            mode = message.mode
    if not found.transitions:
        said = ", ".join(f"{start[:12]} ({count} transitions)" for start, count in others.items())
        raise BagError(
            f"bag {path} holds nothing of this bundle's start {manifest.start_sha256[:12]}, but "
            f"{said or 'an empty topic'}; give the bundle that drove the robot"
        )
    return found


def _attempt(time_s: float, message: Any) -> Attempt:
    """An AdaptationStatus."""
    return Attempt(
        time_s=time_s,
        newest_step=message.newest_step,
        remembered=message.window,
        in_use_sha256=message.in_use_sha256,
        asked_steps=message.asked_steps,
        asked_window=message.asked_window,
        asked_start=message.asked_start,
        inner_lr=message.inner_lr,
        steps=message.steps,
        tau=message.tau,
        stop=message.stop,
        version=message.version,
        verdict=message.verdict,
        accepted=message.accepted,
        loss=np.array(message.loss, np.float32),
        live_before=message.live_before,
        live_after=message.live_after,
    )
