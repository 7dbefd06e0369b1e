"""Rolling-window counters for rate limits, on an injected clock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class RollingWindow:
    """Counts amounts over the last `seconds`, and refuses what would go over `limit`; thread-safe."""

    def __init__(self, limit: float, seconds: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def take(self, amount: float = 1.0) -> bool:
        """Charge the amount; False, and nothing is charged, when the window would overflow."""
        with self._lock:
            self._expire()
            if self._total + amount > self.limit:
                return False
            self._entries.append((self._clock(), amount))
            self._total += amount
            return True

    def fits(self, amount: float = 1.0) -> bool:
        """Whether `take` would succeed now."""
        with self._lock:
            self._expire()
            return self._total + amount <= self.limit

    def wait_seconds(self) -> float:
        """Seconds until the oldest charge leaves the window; 0 when it is empty."""
        with self._lock:
            self._expire()
            return max(0.0, self._entries[0][0] + self.seconds - self._clock()) if self._entries else 0.0

    def _expire(self) -> None:
        horizon = self._clock() - self.seconds
        while self._entries and self._entries[0][0] <= horizon:
            self._total -= self._entries.popleft()[1]
