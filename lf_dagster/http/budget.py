"""A client-side rate limit that several threads and clients share."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable

NEVER = float("-inf")


class Budget:
    """At most `limit` requests in any `window_seconds`; `limit=None` sets no limit and only honours pauses.

    The window slides, so that whatever the phase of the server's fixed window, no such window sees more than `limit`
    requests. One instance serves all clients of one organisation in a process; it is thread-safe.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        window_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = limit
        self._starts: list[float] = []
        """The latest `limit` starts, booked or past, ascending."""
        self._paused_until = NEVER

    def acquire(self, sleep: Callable[[float], None], *, served: float = NEVER) -> None:
        """Take one request's place, sleeping until it is due.

        `served` is the end of a pause that the caller has slept through already (what `pause` returned).
        """
        start = self._book(self._clock())
        if (wait := start - self._clock()) > 0:
            sleep(wait)
        with self._lock:
            wait = self._paused_until - self._clock() if self._paused_until > served else 0.0
        if wait > 0:
            sleep(wait)
        self._rebook(start, self._clock())

    def pause(self, seconds: float) -> float:
        """Nobody sends for this long: the server said so to one of us. Returns the end of the pause."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            return self._paused_until

    def _book(self, now: float) -> float:
        """Book the next free start."""
        if self._limit is None:
            return now
        with self._lock:
            full = len(self._starts) == self._limit
            start = max(now, self._starts[0] + self._window) if full else now
            self._insert(start)
            return start

    def _rebook(self, booked: float, actual: float) -> None:
        """Sleeping may take longer than planned; what counts is when a request really starts."""
        if self._limit is None or actual <= booked:
            return
        with self._lock:
            if booked in self._starts:
                self._starts.remove(booked)
            self._insert(actual)

    def _insert(self, start: float) -> None:
        bisect.insort(self._starts, start)
        if self._limit is not None:
            del self._starts[: -self._limit]
