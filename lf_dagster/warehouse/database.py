"""The warehouse database: opened briefly, one writer at a time, waiting for the lock within bounds.

Every connection is an in-memory DuckDB with the warehouse attached under the alias `warehouse`, so that the
same statements run on a DuckDB file and on any catalogue that ATTACH understands (`ducklake:...`).
"""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import tenacity

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, WarehouseLocked

if TYPE_CHECKING:
    from lf_dagster.lake import Lake

ALIAS = "warehouse"
"""Name under which every statement finds the attached database."""

MODEL_MEMORY = "192MB"
"""DuckDB's share of the memory of a process that runs models: beyond it, it works on disk."""

_STORAGE_VERSION = "v1.4.0"
"""Of new files, and of old ones once they are written to. The compression that came with it takes half the time of the
one before; DuckDB 1.4 and later read it."""

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_ATTACHED_HERE = "Unique file handle conflict"
_LOCKED = "Could not set lock on file"
_MISSING = "database does not exist"
_counter = itertools.count()
_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class Warehouse:
    """A DuckDB file, or a connection string for ATTACH such as `ducklake:sqlite:catalog.sqlite`.

    `lock_timeout_seconds` bounds the wait for another process; `memory_limit` and `threads` are DuckDB settings, and
    the most that `in_little_memory` and `use_threads` take.
    Raises WarehouseLocked (retryable) that names the process holding the file, ConfigError when a file that is
    opened for reading does not exist yet.
    """

    def __init__(
        self,
        path_or_connection_string: str,
        *,
        threads: int | None = None,
        memory_limit: str = "2GB",
        lock_timeout_seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.location = path_or_connection_string
        self.is_file = not re.match(r"^[a-z_]{2,}:", path_or_connection_string)
        self._lock_timeout = lock_timeout_seconds
        self._clock = clock
        self._sleep = sleep
        self._config: dict[str, str | int] = {
            "autoinstall_known_extensions": "false",
            "memory_limit": memory_limit,
            "preserve_insertion_order": "false",
        }
        self._most_threads = threads
        if threads is not None:
            self._config["threads"] = threads

    @classmethod
    def of(cls, settings: ProjectSettings, lake: Lake, **options: Any) -> Warehouse:
        """The warehouse that the settings name, else `warehouse.duckdb` in the lake's folder; `options` as above.

        Raises ConfigError for a lake behind a URL without a warehouse setting.
        """
        if settings.warehouse:
            return cls(settings.warehouse, **options)
        if not lake.is_local:
            raise ConfigError(
                f"the lake {settings.data} is no local folder, so the warehouse needs a place of its own",
                hint="Set `warehouse` to a DuckDB file or a connection string.",
            )
        return cls(str(Path(lake.root) / "warehouse.duckdb"), **options)

    @contextmanager
    def connect(
        self, *, read_only: bool = False, memory_limit: str | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory connection (UTC) with the database attached as `warehouse`; closed, and unlocked, at exit."""
        with self.session(memory_limit=memory_limit) as con:
            self._attach(con, read_only=read_only)
            yield con

    @contextmanager
    def session(self, *, memory_limit: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory connection (UTC) to attach the database to (`attached`) whenever it is looked at.

        What it has taken of memory serves all of these times, which a connection of its own for each would have to take
        from the machine again.
        """
        spill = self._spill_directory()
        config: dict[str, Any] = {**self._config, "temp_directory": str(spill)}
        if memory_limit:
            config["memory_limit"] = memory_limit
        con = duckdb.connect(":memory:", config=config)
        try:
            con.execute("SET TimeZone = 'UTC'")
            # In a Python prompt DuckDB would draw it on stdout, into what is printed there.
            con.execute("SET enable_progress_bar = false")
            yield con
        finally:
            con.close()
            shutil.rmtree(spill, ignore_errors=True)

    @contextmanager
    def attached(self, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """The database as `warehouse`, for reading, in the connection of a `session`; unlocked at exit."""
        self._attach(con, read_only=True)
        try:
            yield
        finally:
            con.execute(f"DETACH {ALIAS}")

    def in_little_memory(self, work: Callable[[duckdb.DuckDBPyConnection], _Result]) -> _Result:
        """What `work` returns over a connection for writing whose memory is bounded by MODEL_MEMORY.

        Work that cannot be done so, such as on single rows of many megabytes, is done again within `memory_limit`; it
        has to undo by itself what it did until then.
        """
        try:
            with self.connect(memory_limit=MODEL_MEMORY) as con:
                return work(con)
        except duckdb.OutOfMemoryException as error:
            log.info(
                "%s is not enough memory, trying again with %s: %s", MODEL_MEMORY, self._config["memory_limit"], error
            )
        with self.connect() as con:
            return work(con)

    def use_threads(self, con: duckdb.DuckDBPyConnection, wanted: int) -> None:
        """Let a connection work with as many threads, or with fewer where the warehouse is to have no more."""
        con.execute(f"SET threads = {min(wanted, self._most_threads or wanted)}")

    def exists(self) -> bool:
        """Whether there is anything to read; always true for a connection string."""
        return not self.is_file or Path(self.location).exists()

    def _attach(self, con: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        if self.is_file and not read_only:
            Path(self.location).parent.mkdir(parents=True, exist_ok=True)
        options = " (READ_ONLY)" if read_only else f" (STORAGE_VERSION '{_STORAGE_VERSION}')" if self.is_file else ""
        statement = f"ATTACH {literal(self.location)} AS {ALIAS}{options}"
        started = self._clock()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(WarehouseLocked),
            wait=tenacity.wait_exponential(multiplier=0.02, max=1.0) + tenacity.wait_random(0, 0.05),
            stop=lambda _state: self._clock() - started >= self._lock_timeout,
            sleep=self._sleep,
            reraise=True,
        )
        retrying(self._attach_once, con, statement)

    def _attach_once(self, con: duckdb.DuckDBPyConnection, statement: str) -> None:
        try:
            con.execute(statement)
        except (duckdb.IOException, duckdb.BinderException) as error:
            raise self._explain(str(error)) or error from None

    def _explain(self, text: str) -> WarehouseLocked | ConfigError | None:
        if _MISSING in text:
            return ConfigError(
                f"the warehouse {self.location} does not exist yet", hint="Materialise the typed models first."
            )
        if _ATTACHED_HERE in text:
            holder = f"this process ({os.getpid()}) in another thread"
        elif _LOCKED in text:
            found = _HOLDER.search(text)
            holder = f"process {found['pid']} ({found['program']})" if found else "another process"
        else:
            return None
        return WarehouseLocked(
            f"the warehouse {self.location} is held by {holder}",
            hint=f"Waited {self._lock_timeout:g} s. Close that process (a shell, a notebook, a run that hangs) "
            "or run again when it is done.",
        )

    def _spill_directory(self) -> Path:
        """Where DuckDB may write what does not fit in memory: beside the file, named after this host and process.

        Directories that killed processes of this host left behind are removed.
        """
        host = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())
        if self.is_file:
            base = Path(self.location).absolute()
            parent, prefix = base.parent, f".{base.name}.spill-{host}-"
        else:
            parent, prefix = Path(tempfile.gettempdir()), f"lf-dagster-spill-{host}-"
        for left in parent.glob(f"{prefix}*"):
            pid = left.name[len(prefix) :].split("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
        return parent / f"{prefix}{os.getpid()}-{next(_counter)}"


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: str) -> str:
    """A file's path for DuckDB's readers, which take `*`, `?` and `[` in it for a pattern."""
    return literal(glob.escape(path))


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
