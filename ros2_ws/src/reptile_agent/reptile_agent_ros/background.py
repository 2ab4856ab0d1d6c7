"""One thing at a time in a thread of its own, begun and ended on the executor's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
import threading
from typing import Any


@dataclass(eq=False)
class Job:
    """What is to be done, and by whom what comes of it is taken."""

    work: Callable[[threading.Event], Any]
    """Called in the thread; to end soon after the event is set, which may be before it began."""
    done: Callable[[Future], None]
    """Called on the executor's thread with what `work` returned or raised."""
    stop: threading.Event = field(default_factory=threading.Event)


class Background:
    """Does jobs in turn. All of its methods are for the executor's thread alone.

    Args:
        tell: has a function called on the executor's thread; called from any thread.
    """

    def __init__(self, tell: Callable[[Callable[[], None]], object]) -> None:
        self._tell = tell
        self._pool = ThreadPoolExecutor(1, 'background')
        self._waiting: deque[Job] = deque()
        self._running: tuple[Job, Future] | None = None
        self._paused = False

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return self._running is None and not self._waiting

    def do(self, job: Job) -> None:
        """Do a job as soon as those before it are done."""
        self._waiting.append(job)
        self._next()

    def stop(self) -> None:
        """Let everything that runs or waits end soon."""
        for job in (*self._waiting, *([self._running[0]] if self._running else [])):
            job.stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing runs in here: what does is ended first, what waits begins afterwards."""
        self._paused = True
        try:
            if self._running is not None:
                self._running[0].stop.set()
                self._finish(self._running[0])
            yield
        finally:
            self._paused = False
            self._next()

    def close(self) -> None:
        """End everything, and wait for it."""
        self.stop()
        while self._running is not None:
            self._finish(self._running[0])
        self._pool.shutdown()

    def _next(self) -> None:
        if self._paused or self._running is not None or not self._waiting:
            return
        job = self._waiting.popleft()
        future = self._pool.submit(job.work, job.stop)
        self._running = job, future
        future.add_done_callback(lambda _: self._tell(lambda: self._finish(job)))

    def _finish(self, job: Job) -> None:
        """Hand over what came of a job, waiting for it if need be; once only."""
        if self._running is None or self._running[0] is not job:
            return
        _, future = self._running
        future.exception()
        self._running = None
        job.done(future)
        self._next()
