"""Scratch space next to a target, with atomic commits, that knows a live writer from a dead one.

On a local lake a workspace is a hidden folder `.writing-<uuid>` in the target's folder. Its owner holds an OS lock on
the file `lock` inside, which the kernel lets go when the process dies in whatever way: the next writer of that folder
can take the lock, so it knows that the leftovers belong to nobody and removes them. Other filesystems have no such
lock; there the scratch folder is local and temporary, only the upload has a temporary name, and leftover uploads go
after a day.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover - only where there is no fcntl (Windows)
    fcntl = None

_LIVE = ".writing-"
_BORN = ".starting-"
_UPLOAD = "_uploading-"
_STALE = timedelta(days=1)


@dataclass(frozen=True)
class Workspace:
    """A local scratch folder whose files can be moved, whole, to their place in the lake."""

    folder: Path
    _publish: Callable[[Path, str], None]

    def path(self, name: str) -> Path:
        """Path of a scratch file; it goes with the workspace unless it is committed."""
        return self.folder / name

    def commit(self, name: str, target: str) -> None:
        """Make the scratch file appear at `target`, replacing what is there, in one step and durably."""
        self._publish(self.folder / name, target)


@contextmanager
def local_workspace(folder: Path) -> Iterator[Workspace]:
    """A workspace inside a local folder of the lake, which is created when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    name = uuid.uuid4().hex
    scratch = folder / f"{_LIVE}{name}"
    with _locked_folder(folder / f"{_BORN}{name}", scratch):
        try:
            yield Workspace(scratch, _replace)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def remote_workspace(filesystem: Any) -> Iterator[Workspace]:
    """A workspace for an fsspec filesystem: scratch files are local, a commit uploads and renames."""

    def publish(source: Path, target: str) -> None:
        _upload(filesystem, source, target)

    with tempfile.TemporaryDirectory(prefix="lf-dagster-") as folder:
        yield Workspace(Path(folder), publish)


@contextmanager
def _locked_folder(born: Path, live: Path) -> Iterator[None]:
    # Only once its lock is held does the folder get the name under which others look for dead writers.
    born.mkdir()
    descriptor = os.open(born / "lock", os.O_CREAT | os.O_RDWR)
    try:
        try_lock(descriptor)
        born.rename(live)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the scratch folders of dead writers in a local folder of the lake."""
    for entry in [*folder.glob(f"{_LIVE}*"), *folder.glob(f"{_BORN}*")]:
        abandoned = _is_dead(entry) if entry.name.startswith(_LIVE) else _older_than(entry, _STALE)
        if abandoned:
            shutil.rmtree(entry, ignore_errors=True)


def _is_dead(scratch: Path) -> bool:
    if fcntl is None:
        return _older_than(scratch, _STALE)
    try:
        descriptor = os.open(scratch / "lock", os.O_RDWR)
    except FileNotFoundError:
        # Its owner is removing it, or died doing so.
        return True
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the OS lock of an open file for this process, if nobody holds it. False too where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Held by another, or a filesystem without locks: then nobody is ever taken for dead.
        return False
    return True


def _older_than(path: Path, age: timedelta) -> bool:
    try:
        modified = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    except FileNotFoundError:
        return False
    return datetime.now(timezone.utc) - modified > age


def _replace(source: Path, target: str) -> None:
    _sync(source)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _sync(Path(target).parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upload(filesystem: Any, source: Path, target: str) -> None:
    folder, _, name = target.rpartition("/")
    filesystem.makedirs(folder, exist_ok=True)
    _remove_stale_uploads(filesystem, folder)
    temporary = f"{folder}/{_UPLOAD}{uuid.uuid4().hex}-{name}"
    try:
        filesystem.put_file(str(source), temporary)
        filesystem.mv(temporary, target)
    except BaseException:
        if filesystem.exists(temporary):
            filesystem.rm_file(temporary)
        raise


def _remove_stale_uploads(filesystem: Any, folder: str) -> None:
    for path in filesystem.glob(f"{folder}/{_UPLOAD}*"):
        try:
            modified = filesystem.modified(path)
        except FileNotFoundError:
            continue  # its writer has just put it in place
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=timezone.utc)
        if datetime.now(timezone.utc) - modified > _STALE:
            filesystem.rm_file(path)
