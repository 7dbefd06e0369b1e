"""Hours and parts of hours, worked off side by side.

A `Segment` is a time window of one hour and stream that one worker walks alone. Walkers may hand parts of what is
left of theirs to idle workers, so that one large hour uses all request slots while many small hours run one beside
the other; where answers come so fast that reading them is the work, few workers are used. Everything here is about
order and ownership; walkers know the API.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
from typing_extensions import Self

from lf_dagster.http import Cancelled, HttpStats
from lf_dagster.source.load import SHORTEST_SECONDS, Load

PATIENCE_SECONDS = 5.0
"""How long a crew that stops early waits for its workers."""


@dataclass(frozen=True)
class Segment:
    """Event times [low, high), to be asked for with pages of `limit` rows."""

    low: datetime
    high: datetime
    limit: int


class Work(Protocol):
    """What a walker may do while it walks a segment."""

    stats: HttpStats

    def add(self, rows: pa.RecordBatch) -> None: ...
    def saw_lateness(self, lateness: timedelta | None) -> None: ...
    def offer(self, segment: Segment) -> None: ...
    def idle_workers(self) -> int: ...
    def pace(self) -> None: ...
    def cancelled(self) -> bool: ...


class Walker(Protocol):
    """Reads one stream."""

    def whole(self, low: datetime, high: datetime) -> Segment: ...
    def walk(self, segment: Segment, work: Work) -> None: ...


Result_co = TypeVar("Result_co", covariant=True)


class Job(Protocol[Result_co]):
    """An hour of a stream. `begin` and `finish` are called once each, `abandon` when it will not be finished."""

    def begin(self, crew: Crew) -> Segment: ...
    def walk(self, segment: Segment) -> None: ...
    def finish(self) -> Result_co: ...
    def abandon(self) -> None: ...


@dataclass
class _Progress:
    job: Job
    open_segments: int = 0
    begun: bool = False


R = TypeVar("R")


class Crew(Generic[R]):
    """A few threads that work off jobs in their order; parts of begun jobs come before jobs not yet begun.

    One thread begins, and another one joins in while those at work mostly wait (`load`). Once they are too many, one
    pauses between two pages. Use as a context manager: leaving it stops the threads and abandons what is unfinished.
    """

    def __init__(self, jobs: Sequence[Job[R]], *, workers: int, load: Load | None = None) -> None:
        self._lock = threading.Condition()
        self._load = load or Load()
        self._waiting = deque(_Progress(job) for job in jobs)
        self._parts: deque[tuple[_Progress, Segment]] = deque()
        self._open: dict[int, _Progress] = {}
        self._total = self._left = len(jobs)
        self._idle = self._at_work = self._paused = 0
        self._stopped = False
        self._results: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()
        count = max(1, workers)
        self._threads = [threading.Thread(target=self._run, name=f"read-{n}", daemon=True) for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()
        # A worker may hang in a request until its timeout. What it does after this is harmless: a finished hour is
        # put in place whole, and an unfinished one has lost its scratch folder.
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            unfinished = list(self._open.values())
        for progress in unfinished:
            progress.job.abandon()

    def results(self) -> Iterator[R]:
        """Results as jobs finish; raises the first error of any worker."""
        for _ in range(self._total):
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def idle_workers(self) -> int:
        """Workers that have nothing to do, not even a job that was not begun, and would help if they had."""
        with self._lock:
            if self._has_work() or self._paused or not self._load.leaves_room():
                return 0
            return self._idle

    def pace(self) -> None:
        """Called by a worker between two pages: notes its load, and returns once it may go on."""
        with self._lock:
            self._load.report()
            if not self._is_one_too_many():
                return
            self._paused += 1
            self._leave()
            while not (self._stopped or self._is_welcome()):
                self._lock.wait(SHORTEST_SECONDS)
            self._paused -= 1
            self._join()

    def cancelled(self) -> bool:
        return self._stopped

    def offer(self, job: Job[R], segment: Segment) -> None:
        """A part of a begun job, for whoever is free."""
        with self._lock:
            progress = self._open[id(job)]
            progress.open_segments += 1
            self._parts.append((progress, segment))
            self._lock.notify()

    def _run(self) -> None:
        try:
            taken = self._take(at_work=False)
            while taken is not None:
                self._do(*taken)
                taken = self._take(at_work=True)
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001 - it travels to the caller's thread
            self._stop()
            self._results.put(error)

    def _take(self, *, at_work: bool) -> tuple[_Progress, Segment | None] | None:
        """What the calling worker does next; None at the end. `at_work`: it comes from work."""
        with self._lock:
            if at_work and not self._stays():
                self._leave()
                at_work = False
            if not at_work:
                if not self._wait_for_work():
                    return None
                self._join()
            if self._parts:
                return self._parts.popleft()
            progress = self._waiting.popleft()
            progress.open_segments = 1
            self._open[id(progress.job)] = progress
            return progress, None

    def _wait_for_work(self) -> bool:
        """Whether there is work for one more; False at the end."""
        self._idle += 1
        while self._left and not (self._stopped or (self._has_work() and not self._paused and self._is_welcome())):
            self._lock.wait(SHORTEST_SECONDS if self._has_work() else None)
        self._idle -= 1
        return bool(self._left) and not self._stopped

    def _has_work(self) -> bool:
        return bool(self._parts or self._waiting)

    def _stays(self) -> bool:
        """Whether a worker that has finished something goes on at once. A paused one's hour is finished first."""
        self._load.report()
        return self._has_work() and not (self._stopped or self._paused or self._is_one_too_many())

    def _is_one_too_many(self) -> bool:
        return self._at_work > 1 and self._load.is_too_much()

    def _is_welcome(self) -> bool:
        return not self._at_work or self._load.leaves_room()

    def _join(self) -> None:
        self._at_work += 1
        self._load.report()
        self._load.restart()

    def _leave(self) -> None:
        self._at_work -= 1
        self._load.restart()
        if not self._at_work:
            self._lock.notify_all()

    def _do(self, progress: _Progress, segment: Segment | None) -> None:
        job = progress.job
        job.walk(job.begin(self) if segment is None else segment)
        with self._lock:
            progress.open_segments -= 1
            if progress.open_segments:
                return
        result = job.finish()
        with self._lock:
            del self._open[id(job)]
            self._left -= 1
            self._results.put(result)
            self._lock.notify_all()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
