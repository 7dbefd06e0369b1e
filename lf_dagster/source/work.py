"""Hours and parts of hours, worked off side by side.

A `Segment` is a time window of one hour and stream that one worker walks alone. Walkers may hand parts of what is
left of theirs to idle workers, so that one large hour uses all request slots while many small hours run one beside
the other. Everything here is about order and ownership; walkers know the API.
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

    Use as a context manager: leaving it stops the threads and abandons what is unfinished.
    """

    def __init__(self, jobs: Sequence[Job[R]], *, workers: int) -> None:
        self._lock = threading.Condition()
        self._waiting = deque(_Progress(job) for job in jobs)
        self._parts: deque[tuple[_Progress, Segment]] = deque()
        self._open: dict[int, _Progress] = {}
        self._total = self._left = len(jobs)
        self._idle = 0
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
        for progress in self._open.values():
            progress.job.abandon()

    def results(self) -> Iterator[R]:
        """Results as jobs finish; raises the first error of any worker."""
        for _ in range(self._total):
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def idle_workers(self) -> int:
        """Workers that have nothing to do, not even a job that was not begun."""
        with self._lock:
            return 0 if self._waiting or self._parts else self._idle

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
            while (taken := self._take()) is not None:
                self._do(*taken)
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001 - it travels to the caller's thread
            self._stop()
            self._results.put(error)

    def _take(self) -> tuple[_Progress, Segment | None] | None:
        with self._lock:
            self._idle += 1
            while not (self._parts or self._waiting or self._stopped or not self._left):
                self._lock.wait()
            self._idle -= 1
            if self._stopped:
                return None
            if self._parts:
                return self._parts.popleft()
            if self._waiting:
                progress = self._waiting.popleft()
                progress.open_segments = 1
                self._open[id(progress.job)] = progress
                return progress, None
            return None

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
