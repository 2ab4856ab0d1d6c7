"""The replay on disk, so that a robot that restarts need not begin to learn from nothing.

Two segment files in turn: one grows record by record; when it is full, the older one is begun
anew. Every record has a number and a checksum, so that what is damaged is dropped alone. A record
is one `write` without `fsync`: killing the process loses at most the record being written, a loss
of power what the system had not flushed yet (on Linux about the last 30 s).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from reptile_agent.atomic import atomic_write
from reptile_agent.spec import LIMITS, RobotSpec
from reptile_agent.transition import Transition

MAGIC = b"REPTSPL1"
HEADER = struct.Struct("<8s32sII")
"""Magic, hash of the robot, bytes of a record, checksum of what stands before."""
MAX_BYTES = 64 * 2**20
"""A larger segment is not believed to be one."""
SEGMENTS = ("spool.0", "spool.1")

_log = logging.getLogger(__name__)


class SpoolError(ValueError):
    """A spool was refused; the message names the file, what is wrong, and the mend."""


class Spool:
    """The last transitions of one robot in a folder, between `records` and twice as many.

    Args:
        folder: of its own; made if it is not there.
        robot: whose transitions; those of any other are refused.
        records: transitions in each of the two segments.
        observed: numbers in an observation, where a learner sees more than the robot measures.
        kind: what else tells its transitions from others of the robot; those are refused.

    Raises:
        SpoolError: the folder belongs to another robot, another process uses it, or what lies there
            is no spool.
        OSError: the folder cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        robot: RobotSpec,
        records: int,
        observed: int | None = None,
        kind: str = "",
    ) -> None:
        self.folder, self.records = Path(folder), records
        self._record = _record_type(observed or len(robot.observations), len(robot.actions))
        head = MAGIC + owner_hash(robot, kind) + struct.pack("<I", self._record.itemsize)
        self._header = head + struct.pack("<I", zlib.crc32(head))
        if len(self._header) + records * self._record.itemsize > MAX_BYTES:
            raise SpoolError(
                f"spool {folder}: {records} transitions of {self._record.itemsize} bytes are more "
                f"than {MAX_BYTES}; set a smaller window"
            )
        self._file: int | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = _locked(self.folder)
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self._begin()
            on_error.pop_all()

    def _begin(self) -> None:
        kept, self.lost = self._read()
        if self.lost:
            _log.warning(
                "spool %s: %d transitions were damaged and dropped, %d restored",
                self.folder,
                self.lost,
                kept.size,
            )
        kept = kept[-self.records :]
        kept["first"][:1] = 1
        self.restored = [_transition(row) for row in kept]
        """What was found, oldest first; `first` where it does not continue the one before."""
        # What was read goes into one whole segment, so that no damage is met twice. Should the
        # process end in between, records are there twice, and are known by their number.
        atomic_write(
            self.folder / SEGMENTS[0], self._header + b"".join(_sealed(row) for row in kept)
        )
        (self.folder / SEGMENTS[1]).unlink(missing_ok=True)
        self._next = int(kept["number"][-1]) + 1 if kept.size else 0
        self._side, self._count = 0, kept.size
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(self.folder / SEGMENTS[0], flags)
        self.gap = True
        """Whether the next transition is to be marked `first`: no segment may span the time in
        which nothing was recorded."""

    def append(self, transition: Transition) -> None:
        """Write one transition of one lane, already checked (`Replay.push`).

        Raises:
            OSError: it cannot be written (a full disk); the spool is closed then.
        """
        if self._file is None:
            raise SpoolError(f"spool {self.folder} is closed; open it anew")
        row = np.zeros((), self._record)
        row["number"] = self._next
        row["first"] = self.gap or transition.first[0]
        row["terminated"] = transition.terminated is not None and transition.terminated[0]
        for name in ("obs", "action", "next_obs", "reward"):
            row[name] = getattr(transition, name)[0]
        try:
            if self._count >= self.records:
                self._turn()
            self._write(_sealed(row))
        except OSError:
            self.close()
            raise
        self._next, self.gap = self._next + 1, False
        self._count += 1

    def clear(self) -> None:
        """Forget everything that was written.

        Raises:
            OSError: the disk refuses.
        """
        if self._file is None:
            return
        # The newest first: that is what must not come back.
        os.ftruncate(self._file, 0)
        self._turn()
        (self.folder / SEGMENTS[1 - self._side]).unlink(missing_ok=True)
        self.gap = True

    def close(self) -> None:
        """Let go of the files; what was written stays."""
        for handle in (self._file, self._lock):
            if handle is not None:
                os.close(handle)
        self._file = self._lock = None

    def _turn(self) -> None:
        """Begin the other segment anew; what it held is the oldest there is."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        other = os.open(self.folder / SEGMENTS[1 - self._side], flags, 0o644)
        assert self._file is not None
        os.close(self._file)
        self._file, self._side, self._count = other, 1 - self._side, 0
        self._write(self._header)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        written = os.write(self._file, data)
        if written != len(data):
            # What follows a part of a record could not be told from it.
            raise OSError(f"spool {self.folder}: {written} of {len(data)} bytes were written")

    def _read(self) -> tuple[np.ndarray, int]:
        """The intact records of both segments in order, gaps marked, and how many were not."""
        parts, lost = [np.zeros(0, self._record)], 0
        for name in SEGMENTS:
            file = self.folder / name
            if not file.exists() and not file.is_symlink():
                continue
            rows, damaged = self._read_segment(file)
            parts.append(rows)
            lost += damaged
        rows = np.concatenate(parts)
        _, at = np.unique(rows["number"], return_index=True)
        rows = rows[at]
        rows["first"][1:] |= np.diff(rows["number"].astype(np.int64)) != 1
        return rows, lost

    def _read_segment(self, file: Path) -> tuple[np.ndarray, int]:
        size = self._record.itemsize
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
            raise SpoolError(f"{file} is no plain file of at most {MAX_BYTES} bytes; remove it")
        with open(file, "rb") as opened:
            head, data = opened.read(HEADER.size), opened.read()
        self._check_header(file, head)
        if head != self._header:
            # Torn or damaged: without it nothing says whose records these are.
            return np.zeros(0, self._record), -(-len(data) // size)
        whole = len(data) // size
        torn = 1 if len(data) % size else 0
        rows = np.frombuffer(data, self._record, whole).copy()
        intact = np.array([_sealed(row) == row.tobytes() for row in rows], bool)
        for name in ("obs", "action", "next_obs", "reward"):
            finite = np.isfinite(rows[name])
            intact &= finite.all(axis=1) if finite.ndim > 1 else finite
        return rows[intact], int((~intact).sum()) + torn

    def _check_header(self, file: Path, head: bytes) -> None:
        """Refuse what is whole, and not ours."""
        if len(head) < HEADER.size:
            return
        magic, robot, size, checksum = HEADER.unpack(head)
        if checksum != zlib.crc32(head[:-4]) or head == self._header:
            return
        if magic != MAGIC:
            raise SpoolError(f"{file} is of another version of the spool; remove the folder")
        if robot != self._header[8:40]:
            raise SpoolError(
                f"spool {self.folder} holds transitions of another robot (or of other signals, "
                f"another control period or another learner); give this one a folder of its own, "
                f"or remove it"
            )
        raise SpoolError(
            f"{file} has records of {size} bytes, this robot's have {self._record.itemsize}; "
            f"remove the folder"
        )


def _locked(folder: Path) -> int:
    """A handle of the folder's lock that no other process can have at the same time.

    A file of its own: the folder itself is what `atomic_write` locks.
    """
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SpoolError(
            f"spool {folder} is in use by another process; give each robot a folder of its own"
        ) from None
    return handle


def owner_hash(robot: RobotSpec, kind: str) -> bytes:
    """32 bytes that name a robot: its signals with their units and order, its control period.

    Not their limits: a bundle with stricter ones is of the same robot.
    """
    roles = ("observations", "actions", "references")
    named = robot.model_dump_json(exclude={role: {"__all__": LIMITS} for role in roles})
    return hashlib.sha256((named + kind).encode()).digest()


def _record_type(obs: int, act: int) -> np.dtype:
    """One transition, little-endian and packed; the checksum comes last."""
    return np.dtype(
        [
            ("number", "<u8"),
            ("first", "u1"),
            ("terminated", "u1"),
            ("obs", "<f4", (obs,)),
            ("action", "<f4", (act,)),
            ("next_obs", "<f4", (obs,)),
            ("reward", "<f4"),
            ("checksum", "<u4"),
        ]
    )


def _sealed(row: np.ndarray) -> bytes:
    """A record with its checksum."""
    data = row.tobytes()[:-4]
    return data + struct.pack("<I", zlib.crc32(data))


def _transition(row: np.ndarray) -> Transition:
    """A record as a one-lane transition."""
    return Transition(
        obs=np.array(row["obs"], np.float32)[None],
        action=np.array(row["action"], np.float32)[None],
        next_obs=np.array(row["next_obs"], np.float32)[None],
        reward=np.array([row["reward"]], np.float32),
        first=np.array([bool(row["first"])]),
        terminated=np.array([bool(row["terminated"])]),
    )
