"""The thread beside the executor's: one job at a time, ended and handed over by the other."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import Queue

import pytest

Job = pytest.importorskip("reptile_agent_ros.background").Job
Background = pytest.importorskip("reptile_agent_ros.background").Background


class Executor:
    """This thread, in the executor's place."""

    def __init__(self) -> None:
        self.told: Queue = Queue()
        self.background = Background(self.told.put)
        self.done: list[tuple[str, bool]] = []
        self.threads: set[int] = set()

    def do(self, name: str, begun: threading.Event | None = None) -> Job:
        """A job that runs until it is stopped."""

        def work(stop: threading.Event) -> bool:
            self.threads.add(threading.get_ident())
            if begun is not None:
                begun.set()
            return stop.wait(10)

        def done(future: Future) -> None:
            self.done.append((name, future.result()))

        job = Job(work, done)
        self.background.do(job)
        return job

    def spin(self) -> None:
        """What the other thread told."""
        self.told.get(timeout=10)()


@pytest.fixture
def executor():
    made = Executor()
    yield made
    made.background.close()


def test_jobs_are_done_in_turn_in_one_thread_and_handed_over_in_this_one(executor):
    first, second = executor.do("first"), executor.do("second")
    second.stop.set()
    assert executor.told.empty(), "the second may not begin before the first has ended"
    first.stop.set()
    executor.spin()
    assert executor.done == [("first", True)]
    executor.spin()
    assert executor.done == [("first", True), ("second", True)]
    assert executor.background.idle
    assert len(executor.threads) == 1
    assert threading.get_ident() not in executor.threads


def test_paused_nothing_runs_and_what_waited_begins_afterwards(executor):
    begun = threading.Event()
    executor.do("first")
    executor.do("second", begun)
    with executor.background.paused():
        assert executor.done == [("first", True)], "it was ended and handed over"
        assert not begun.wait(0.1)
        assert not executor.background.idle
    assert begun.wait(10)
    executor.spin()
    assert executor.done == [("first", True)], "what was handed over is not so twice"


def test_closed_everything_has_been_ended_and_handed_over(executor):
    for name in ("first", "second", "third"):
        executor.do(name)
    executor.background.close()
    assert [name for name, _ in executor.done] == ["first", "second", "third"]
    assert executor.background.idle


def test_stop_ends_what_runs_and_what_waits(executor):
    jobs = [executor.do(name) for name in ("first", "second")]
    executor.background.stop()
    assert all(job.stop.is_set() for job in jobs)
    executor.spin()
    executor.spin()
    assert executor.background.idle


def test_what_a_job_raises_comes_to_whoever_takes_it(executor):
    def work(stop: threading.Event) -> None:
        raise LookupError("too little")

    errors: list[BaseException | None] = []
    executor.background.do(Job(work, lambda future: errors.append(future.exception())))
    executor.spin()
    assert str(errors[0]) == "too little"
    executor.do("next").stop.set()
    executor.spin()
    assert executor.done == [("next", True)]
