"""Files of the lake that cannot be read: which errors say so, and the error that does."""

from __future__ import annotations

import errno

import pyarrow as pa

from lf_dagster.errors import FatalError

_OF_THE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EIO})


class UnreadableFile(FatalError):
    """A file of the lake is damaged, or may not be read."""


def is_broken(error: BaseException) -> bool:
    """Whether an error while reading a file is about this file: damaged, or not to be read.

    All others (no connection to an object store, too many open files) say nothing about it. pyarrow raises a bare
    OSError, without a number, for what it cannot decode.
    """
    if isinstance(error, OSError):
        return error.errno in _OF_THE_FILE or (type(error) is OSError and error.errno is None)
    return isinstance(error, pa.ArrowInvalid)


def unreadable_extract(path: str, error: BaseException, *, is_opened: bool = False) -> UnreadableFile:
    """The error for an extract whose reading failed with `error`; `is_opened`: its footer could be read."""
    again = "move it away and run" if is_opened else "run"
    return UnreadableFile(
        f"the extract cannot be read: {error}",
        hint=f"Restore it from a backup, or {again} the hour again from its raw assets on, which read it from "
        "Langfuse. What it knew of deleted rows and vanished metadata is nowhere else.",
        path=path,
    )
