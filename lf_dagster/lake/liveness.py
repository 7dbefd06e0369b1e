"""Which runs are still alive: a mark in the lake that a living process keeps locked.

Dagster's own launcher cannot tell that a machine went down under a run: the run stays "started" until its time limit,
hours later. The kernel lets a lock go when its process dies in whatever way, so a mark that can be locked belongs to
nobody. Marks exist on local lakes only; elsewhere nothing is known, and launchers of clusters look after their workers.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from lf_dagster.lake.lake import Lake
from lf_dagster.lake.workspace import try_lock

_OLD = timedelta(days=1)
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
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


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
