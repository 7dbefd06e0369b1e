"""The Dagster instance of this project: Dagster's own, with an event log on SQLite that keeps its connections.

Dagster opens each SQLite file anew for every event that it stores and closes it again, which also writes SQLite's log
back into the file: half a dozen waits for the disk per event, and a run over a day of hours has hundreds of events.
Here the connections stay open, and a commit waits for the disk only when SQLite's log is written back. A killed process
loses nothing of it; a machine that goes down may lose the last moments of Dagster's history, which nothing rests on:
what is on disk decides what is done (docs/decisions.md).

`dagster.yaml` names it, and every Dagster process loads it, so this module imports nothing of ours. Files and folders
are Dagster's own: with the lines removed from `dagster.yaml`, Dagster goes on from the same history.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.event_api import EventHandlerFn
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.schema import AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.event import listen
from sqlalchemy.pool import NullPool
from typing_extensions import Self
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer

_KEPT = 8
"""Connections of one process: the index, and the runs last written or looked at."""
_BATCH = 1_000


class ProjectInstance(dg.DagsterInstance):
    """Dagster's instance whose default storage is `ProjectStorage`; what `dagster.yaml` says of `storage` wins."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """Keys of `dagster.yaml` beyond Dagster's own: none."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """What holds where `dagster.yaml` says nothing; `base_dir`: the instance's folder."""
        config = yaml.dump({"base_dir": base_dir}, default_flow_style=False)
        storage = ConfigurableClassData(__name__, ProjectStorage.__name__, config)
        return {**InstanceRef.config_defaults(base_dir), "storage": storage}

    def _get_event_batch_size(self) -> int:
        """How many events Dagster hands to the event log at once, where it has them: an asset's hours of a step."""
        return _BATCH


class ProjectStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `KeptEventLog` as its event log, in the same place."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data=inst_data)
        self._event_log_storage = KeptEventLog(str(Path(base_dir, "history", "runs")))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)


class KeptEventLog(SqliteEventLogStorage):
    """Dagster's event log on SQLite files, one per run and an index, whose connections stay open."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._kept = _KeptConnections()
        self._known: set[str] = set()
        super().__init__(base_dir, inst_data=inst_data)
        weakref.finalize(self, self._kept.close)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; one that was there once is not looked for again."""
        if table_name not in self._known and super().has_table(table_name):
            self._known.add(table_name)
        return table_name in self._known

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores events of one run, as `store_event` would one by one, in one transaction per file.

        Of an asset's events of one type only the last one becomes its newest.
        """
        [run_id] = {event.run_id for event in events}
        insert = SqlEventLogStorageTable.insert()
        rows = [self._event_to_row(event) for event in events]
        with self.run_connection(run_id) as connection:
            connection.execute(insert, rows)
        newest: dict[tuple[Any, Any], tuple[EventLogEntry, int]] = {}
        with self.index_connection() as connection:
            stored = [
                (event, connection.execute(insert, row).lastrowid) for event, row in zip(events, rows, strict=True)
            ]
            for event, event_id in stored:
                if event.dagster_event_type in ASSET_EVENTS:
                    self._store_asset_event_tags(connection, [event], [event_id])
                    newest[event.get_dagster_event().asset_key, event.dagster_event_type] = event, event_id
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)
        for event, event_id in stored:
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, event_id)

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Calls back for every event of a run after `cursor`, until `end_watch`."""
        if not self._obs:
            self._obs = Observer()
            self._obs.start()
        handler = _Watchdog(self, run_id, callback, cursor)
        self._watchers[run_id][callback] = (handler, self._obs.schedule(handler, self._base_dir, recursive=True))

    def wipe(self) -> None:
        with self._db_lock:
            self._kept.close()
        super().wipe()

    def dispose(self) -> None:
        with self._db_lock:
            self._kept.close()
        super().dispose()

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        name = f"{AssetKeyTable.name}.{column_name}"
        if name not in self._known and super()._has_asset_key_col_on_connection(conn, column_name):
            self._known.add(name)
        return name in self._known

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """A transaction on the file of a run or on the index; one at a time, as Dagster does it."""
        with self._db_lock:
            connection = self._kept.get(shard) or self._kept.put(shard, self._open(shard))
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                # Whatever state it is in: the next one gets a new one, as it would from Dagster.
                self._kept.drop(shard)
                raise

    def _open(self, shard: str) -> Connection:
        # The lock above lets one thread at a time use a connection, whichever thread it is.
        arguments = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        engine = create_engine(self.conn_string_for_shard(shard), poolclass=NullPool, connect_args=arguments)
        listen(engine, "connect", _wait_less)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine.connect()


def _wait_less(connection: sqlite3.Connection, _record: object) -> None:
    """Commits wait for the disk no more; Dagster puts a file into this mode too, but after all its tables are made."""
    [[mode]] = connection.execute("PRAGMA journal_mode=WAL")
    if mode == "wal":
        # Safe with a write-ahead log alone; where a filesystem allows none, every commit goes on waiting.
        connection.execute("PRAGMA synchronous=NORMAL")


class _KeptConnections:
    """Open connections by file, the least used ones closed beyond `_KEPT`; none of them crosses a fork."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._by_shard: OrderedDict[str, Connection] = OrderedDict()
        self._parents: Any = None

    def get(self, shard: str) -> Connection | None:
        if self._process != os.getpid():
            # SQLite forbids to use, or to close, a connection in a child: it is put aside.
            self._process, self._parents, self._by_shard = os.getpid(), self._by_shard, OrderedDict()
        if shard in self._by_shard:
            self._by_shard.move_to_end(shard)
        return self._by_shard.get(shard)

    def put(self, shard: str, connection: Connection) -> Connection:
        self._by_shard[shard] = connection
        while len(self._by_shard) > _KEPT:
            self._by_shard.popitem(last=False)[1].close()
        return connection

    def drop(self, shard: str) -> None:
        connection = self._by_shard.pop(shard, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        for shard in list(self._by_shard) if self._process == os.getpid() else []:
            self.drop(shard)


class _Watchdog(SqliteEventLogStorageWatchdog):
    """Looks at the write-ahead log too: with connections that stay open, that is the file that events go to."""

    def __init__(
        self, event_log_storage: KeptEventLog, run_id: str, callback: EventHandlerFn, cursor: str | None
    ) -> None:
        super().__init__(event_log_storage, run_id, callback, cursor)
        self._patterns = [self._log_path, f"{self._log_path}-wal"]

    def on_modified(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - whichever of the two
        self._process_log()
