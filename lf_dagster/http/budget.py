"""A client-side rate limit that several threads and clients share."""

from __future__ import annotations

import threading
import time
from collections import deque
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
        self._starts: deque[float] | None = None if limit is None else deque(maxlen=limit)
        self._paused_until = NEVER

    def acquire(self, sleep: Callable[[float], None], *, served: float = NEVER) -> None:
        """Take one request's place, sleeping until it is due.

        `served` is the end of a pause that the caller has slept through already (what `pause` returned).
        """
        if (wait := self._reserve()) > 0:
            sleep(wait)
        with self._lock:
            wait = self._paused_until - self._clock() if self._paused_until > served else 0.0
        if wait > 0:
            sleep(wait)

    def pause(self, seconds: float) -> float:
        """Nobody sends for this long: the server said so to one of us. Returns the end of the pause."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            return self._paused_until

    def _reserve(self) -> float:
        """Book the next free start and return the seconds until then."""
        if self._starts is None:
            return 0.0
        with self._lock:
            now = self._clock()
            full = len(self._starts) == self._starts.maxlen
            start = max(now, self._starts[0] + self._window) if full else now
            self._starts.append(start)
            return start - now
