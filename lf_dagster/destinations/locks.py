"""One delivery of a project to a destination at a time, on one machine: an OS lock on a file of the ledger.

A delivery looks for its events in the ledgers of the hours around, because a trace's event moves to another hour when
an earlier row turns up. Two deliveries of different hours would not see what the other one is about to send, and send
one event under two keys. The kernel lets a lock go when its process dies. Behind a URL there are no such locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lf_dagster.destinations.ledger import Ledger
from lf_dagster.errors import RetryableError

_POLL_SECONDS = 0.1


@contextmanager
def one_delivery(ledger: Ledger, *, timeout_seconds: float) -> Iterator[None]:
    """Waits until no other delivery writes to the ledger; raises RetryableError when that takes too long."""
    if not ledger.lake.is_local:
        yield
        return
    path = Path(ledger.lake.delivery_lock_path(ledger.project, ledger.destination))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=timeout_seconds, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise RetryableError(
            f"another delivery to the same destination is under way, {timeout_seconds:g} s and longer",
            hint=f"Wait for it to end, or stop it (`lsof {path}` names its process), then run again.",
        ) from error
    with lock:
        yield
