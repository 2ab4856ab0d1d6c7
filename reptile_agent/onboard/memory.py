"""What the robot remembers: a replay of one lane, safe to fill while another thread learns from it,
and kept on disk where a spool is given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np

from reptile_agent.experience import PLAIN, Experience
from reptile_agent.onboard.spool import SEGMENTS, Spool, SpoolError
from reptile_agent.replay import Replay
from reptile_agent.spec import RobotSpec
from reptile_agent.transition import Batch, Transition, with_reference

_log = logging.getLogger(__name__)


class Memory:
    """The newest transitions of one robot.

    Args:
        robot: whose.
        capacity: transitions held; memory does not grow, however many come.
        folder: of the spool; None: nothing is kept on disk.
        experience: what is learned from.
        reward: names the reward in the transitions, where one is learned from.

    Raises:
        SpoolError: the folder belongs to another robot, or another process uses it.
        OSError: the folder cannot be read or written.
    """

    def __init__(
        self,
        robot: RobotSpec,
        capacity: int,
        folder: Path | None = None,
        experience: Experience = PLAIN,
        reward: str = "",
    ) -> None:
        self._experience, observed = experience, experience.observed(robot)
        self._of = robot, capacity, experience, reward
        self._replay = Replay(capacity, observed, len(robot.actions))
        self._lock, self._folder = threading.Lock(), folder
        self._spool = None
        if folder is not None:
            # Plain transitions have no name, so that spools written before there were others fit.
            kind = "with references " * experience.sees_reference + reward
            self._spool = Spool(folder, robot, capacity, observed, kind)
        self.lost = self._spool.lost if self._spool else 0
        """Transitions that the spool had to drop because they were damaged."""
        for transition in self._spool.restored if self._spool else ():
            self._replay.push(transition)
        self.restored = len(self._replay)
        """Transitions that came from the spool."""

    def __len__(self) -> int:
        """Transitions held."""
        return len(self._replay)

    def push(self, transition: Transition) -> None:
        """Append one transition; the oldest makes room.

        A disk that refuses is said once; learning goes on without it.

        Raises:
            ValueError: it does not fit or is not finite (nothing is stored then).
        """
        if self._experience.sees_reference:
            transition = with_reference(transition)
        self._keep(transition)

    def _keep(self, transition: Transition) -> None:
        """Append one, as the learner sees it."""
        spool = self._spool
        if spool is not None and spool.gap:
            transition = dataclasses.replace(transition, first=np.ones(1, bool))
        with self._lock:
            self._replay.push(transition)
        try:
            if spool is not None:
                spool.append(transition)
        except OSError as error:
            self._lose_spool(error)

    def clear(self) -> None:
        """Forget everything, on disk too."""
        with self._lock:
            self._replay.clear()
        try:
            if self._spool is not None:
                self._spool.clear()
            else:
                self._forget_on_disk()
        except OSError as error:
            self._lose_spool(error)
            self._forget_on_disk()

    def sample(self, rng: np.random.Generator, steps: int, batch: int, **how: Any) -> Batch:
        """Minibatches, as `Replay.sample` makes them."""
        with self._lock:
            of = self._experience
            how |= {"fields": of.fields, "past_end": of.past_end}
            return self._replay.sample(rng, steps, batch, **how)

    def latest(self, count: int, segment: int = 1) -> Batch:
        """The newest segments, as `Replay.latest` gives them."""
        with self._lock:
            return self._replay.latest(count, segment, fields=self._experience.fields)

    def hand_over(self, other: Memory) -> Memory:
        """A memory made like another one, with this one's place on disk; this one is closed.

        What is remembered goes along if it is of the same kind (fields, and the reward that is
        learned from). Else it stays on disk, for a node that is started with the old kind again,
        and what comes is not kept across restarts. A disk that refuses is said; learning goes on.

        Args:
            other: of the same robot, with nothing on disk.
        """
        kept, folder = self._replay.state(), self._folder
        (_, _, ours, our_reward), (robot, capacity, experience, reward) = self._of, other._of
        fits = (ours.sees_reference, our_reward) == (experience.sees_reference, reward)
        self.close()
        if not fits:
            if folder is not None:
                _log.warning(
                    "what is remembered is of another kind than the new bundle learns from: it "
                    "stays in %s, and what comes is not kept there",
                    folder,
                )
            return other
        # It may hold more or fewer now: written anew.
        self._forget_on_disk()
        try:
            found = Memory(robot, capacity, folder, experience, reward)
        except (OSError, SpoolError) as error:
            found = other
            found._folder = folder
            found._lose_spool(error)
        for at in range(max(0, kept["obs"].shape[1] - capacity), kept["obs"].shape[1]):
            row = {name: field[:, at] for name, field in kept.items()}
            row |= {name: row[name].astype(bool) for name in ("first", "terminated")}
            found._keep(Transition(**row))
        return found

    def close(self) -> None:
        """Let go of the spool; what was written stays."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _forget_on_disk(self) -> None:
        """What was to be forgotten may not come back with the next start."""
        if self._folder is None:
            return
        for name in SEGMENTS:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def _lose_spool(self, error: OSError | SpoolError) -> None:
        _log.error("what is remembered is no longer kept on disk: %s; learning goes on", error)
        self.close()
