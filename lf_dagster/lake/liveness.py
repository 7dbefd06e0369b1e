"""Which runs are still alive: a mark in the lake that a living process keeps locked.

Dagster's own launcher cannot tell that a machine went down under a run: the run stays "started" until its time limit,
hours later. The kernel lets a lock go when its process dies in whatever way, so a mark that can be locked belongs to
nobody. Marks exist on local lakes only, and count only where locks are seen: under the same kernel, or on a host of
the same name that was started anew. Elsewhere nothing is known, and launchers of clusters look after their workers.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

from lf_dagster.lake.lake import Lake
from lf_dagster.lake.workspace import try_lock

_OLD = timedelta(days=1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LONGEST = 4096
_held: dict[Path, int] = {}
"""Marks of this process; they are let go when it ends."""


def hold(lake: Lake, run_id: str) -> None:
    """Mark a run as alive for as long as this process is."""
    if not lake.is_local:
        return
    mark = _mark(lake, run_id)
    if mark in _held:
        return
    mark.parent.mkdir(parents=True, exist_ok=True)
    _tidy(mark.parent)
    descriptor = os.open(mark, os.O_CREAT | os.O_RDWR)
    try_lock(descriptor)
    os.truncate(descriptor, 0)
    os.write(descriptor, "\n".join(_here()).encode())
    _held[mark] = descriptor


def is_dead(lake: Lake, run_id: str) -> bool:
    """Whether a run had a mark and the process that held it is gone; false while nothing is known."""
    mark = _mark(lake, run_id)
    if not lake.is_local or mark in _held:
        return False
    try:
        descriptor = os.open(mark, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        holder = os.read(descriptor, _LONGEST).decode().split("\n")
        return not set(holder).isdisjoint(_here()) and try_lock(descriptor)
    finally:
        os.close(descriptor)


def _here() -> tuple[str, str]:
    """This host's name and, where the system tells, this start of its kernel."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = "-"
    return socket.gethostname(), boot


def _mark(lake: Lake, run_id: str) -> Path:
    return Path(lake.root) / "alive" / run_id


def _tidy(folder: Path) -> None:
    """Remove marks of runs that ended long ago."""
    for mark in folder.iterdir():
        try:
            old = datetime.now(timezone.utc) - datetime.fromtimestamp(mark.stat().st_mtime, tz=timezone.utc) > _OLD
            descriptor = os.open(mark, os.O_RDWR) if old else None
        except FileNotFoundError:
            continue  # another process tidies up too
        if descriptor is not None:
            if try_lock(descriptor):
                mark.unlink(missing_ok=True)
            os.close(descriptor)
