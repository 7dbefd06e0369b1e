"""One delivery per hour at a time, on one machine: OS locks on a file in the hour's ledger folder.

The kernel lets a lock go when its process dies. Behind a URL, and where there is no `fcntl`, there are no such locks:
two deliveries of one hour at the same time then send some events twice under the same ids, and one of them may
report that the ledger does not balance.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lf_dagster.destinations.ledger import Ledger
from lf_dagster.errors import RetryableError
from lf_dagster.hours import Hour

try:
    import fcntl
except ImportError:  # pragma: no cover - only where there is no fcntl (Windows)
    fcntl = None

_NAME = ".delivering"
_POLL_SECONDS = 0.25


class HourLocks:
    """Holds the locks of some hours until each is released, or the block ends."""

    def __init__(self) -> None:
        self._held: dict[Hour, ExitStack] = {}

    def add(self, hour: Hour, lock: ExitStack) -> None:
        self._held[hour] = lock

    def release(self, hour: Hour) -> None:
        lock = self._held.pop(hour, None)
        if lock is not None:
            lock.close()

    def release_all(self) -> None:
        for hour in list(self._held):
            self.release(hour)


@contextmanager
def lock_hours(
    ledger: Ledger,
    hours: Sequence[Hour],
    *,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[HourLocks]:
    """Waits until no other delivery works on any of the hours; raises RetryableError that names the other one.

    Locks are taken in the order of the hours, so two deliveries never wait for each other.
    """
    locks = HourLocks()
    until = clock() + timeout_seconds
    try:
        if ledger.lake.is_local:
            for hour in sorted(hours):
                folder = Path(ledger.lake.ledger_folder(ledger.project, ledger.destination, hour))
                folder.mkdir(parents=True, exist_ok=True)
                locks.add(hour, _wait_for(folder / _NAME, hour, until=until, sleep=sleep, clock=clock))
        yield locks
    finally:
        locks.release_all()


def _wait_for(
    path: Path, hour: Hour, *, until: float, sleep: Callable[[float], None], clock: Callable[[], float]
) -> ExitStack:
    while True:
        lock = _try_lock(path)
        if lock is not None:
            return lock
        if clock() >= until:
            raise RetryableError(
                f"another delivery ({_holder(path)}) is working on this hour",
                hint="Wait for it to end, or stop it, then run again.",
                hour=hour.key,
            )
        sleep(_POLL_SECONDS)


def _try_lock(path: Path) -> ExitStack | None:
    if fcntl is None:
        return ExitStack()
    with ExitStack() as stack:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        if not _is_still(path, descriptor):
            # The holder removed the file between our open and our lock: what we hold is nobody's any more.
            return _try_lock(path)
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}".encode())
        stack.callback(path.unlink, missing_ok=True)
        return stack.pop_all()
    return None


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown process"
    except OSError:
        return "unknown process"
