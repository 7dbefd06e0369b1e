"""How much of a core a crew's threads need, which says how many of them help.

Python runs one thread at a time. Threads that mostly wait for a server cost nothing and hide its delays; once they have
work to do all the time, each further one only takes the interpreter away from the others, a thousand times a second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

ENOUGH = 0.5
"""Share of a core from which on no further thread joins in."""
TOO_MUCH = 0.85
"""Share of a core from which on one that did steps back."""
SHORTEST_SECONDS = 0.05
LONGEST_SECONDS = 0.25
_SCHEDULED = Path("/proc/thread-self/schedstat")
"""Nanoseconds on a core, nanoseconds in line for one, turns."""


def cpu_needed() -> float:
    """CPU seconds that the calling thread has used, and stood in line for where the system tells (Linux).

    On a machine with too much to do, threads that get no core would else look like threads that wait for a server.
    """
    try:
        with _SCHEDULED.open("rb", buffering=0) as file:
            in_line = int(file.read(100).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        in_line = 0.0
    return time.thread_time() + in_line


class Load:
    """CPU time that some threads needed over the last quarter of a second. Not thread-safe.

    Each thread says by `report` what it needed since its last report; what it does not report (a request under way, a
    file being written without the interpreter) counts as waiting. `clock` and `cpu` give seconds, `cpu` those of the
    calling thread.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = cpu_needed) -> None:
        self._clock = clock
        self._cpu = cpu
        self._used = 0.0
        self._reported: dict[int, float] = {}
        self._samples = deque([(clock(), 0.0)])

    def report(self) -> None:
        """Count what the calling thread needed; its first report counts nothing."""
        thread, cpu = threading.get_ident(), self._cpu()
        self._used += cpu - self._reported.get(thread, cpu)
        self._reported[thread] = cpu
        self._sample()

    def restart(self) -> None:
        """Judge by what happens from now on."""
        self._samples = deque([(self._clock(), self._used)])

    def leaves_room(self) -> bool:
        """Whether the threads waited more than they worked; no, as long as there is too little to judge by."""
        share = self._share()
        return share is not None and share < ENOUGH

    def is_too_much(self) -> bool:
        """Whether the threads get in each other's way; no, as long as there is too little to judge by."""
        share = self._share()
        return share is not None and share > TOO_MUCH

    def _share(self) -> float | None:
        self._sample()
        (then, used_then), (now, used) = self._samples[0], self._samples[-1]
        return (used - used_then) / (now - then) if now - then >= SHORTEST_SECONDS else None

    def _sample(self) -> None:
        now = self._clock()
        self._samples.append((now, self._used))
        while len(self._samples) > 2 and self._samples[1][0] <= now - LONGEST_SECONDS:
            self._samples.popleft()
