"""The delivery ledger: what became of every event, as Parquet per project, destination and hour.

An hour has one merged file, `data.parquet`, and, while a delivery runs or after it was killed, parts. Every file holds
rows of the same schema, each a statement about one event with the time it was made (`written_at`); the newest
statement of an event counts, whichever file it stands in. So a part is worth its rows from the moment that its name
appears, merging is repeatable, and leftovers need no repair: the next delivery merges them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake, Workspace
from lf_dagster.warehouse.database import file_literal

logger = logging.getLogger(__name__)

_TIME = pa.timestamp("us", tz="UTC")
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("partition_hour", _TIME, nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("entity_id", pa.string()),
        pa.field("time_ms", pa.int64()),
        pa.field("distinct_id", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("payload_hash", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("delivered_at", _TIME),
        pa.field("delivered_identity", pa.string()),
        pa.field("delivered_hash", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("gone_at", _TIME),
        pa.field("written_at", _TIME, nullable=False),
    ]
)
"""Key: (event, event_id) within an hour. `status` is delivered, rejected or skipped; `delivered_*` say what the
destination holds, whatever the status. `identity` is what the source says now; `delivered_identity`, where there is
one, is the key under which the event is sent, with `distinct_id` and `time_ms` as they are sent. `payload` is kept for
rejected events; `gone_at` marks events that are no longer among the hour's, `reason` then says what became of
them."""

COLUMNS = tuple(LEDGER_SCHEMA.names)
_SQL_TYPES = {_TIME: "TIMESTAMPTZ", pa.int64(): "BIGINT", pa.string(): "VARCHAR"}
_PREFIX = "lf_dagster."
_LOOKS = 3
_ROW_GROUP = 100_000
_FEW_VALUES = [
    *("partition_hour", "event", "kind", "status", "reason"),
    *("delivered_at", "run_id", "gone_at", "written_at"),
]
# pyarrow writes these rows in half of the time that DuckDB's COPY takes.
_DATA_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": _FEW_VALUES,
    "write_statistics": False,
}
# A part lives for minutes: it has to be cheap to write, one per request.
_PART_OPTIONS: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": _FEW_VALUES,
    "write_statistics": False,
}


@dataclass(frozen=True)
class HourFiles:
    """The files of an hour's ledger that exist."""

    hour: Hour
    data: str | None
    parts: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        return [*([self.data] if self.data else []), *self.parts]


@dataclass(frozen=True)
class Combined:
    """The newest row of every event of an hour: `sql` is a relation of them, `own` the rows that one delivery has in
    memory, `files` those that the others are from."""

    sql: str
    own: pa.Table | None
    files: HourFiles

    def relation(self, con: duckdb.DuckDBPyConnection) -> str:
        """What a query reads them from; good for one query."""
        if self.own is not None:
            for name in (_OWN_ROWS, _OWN_KEYS):
                # A stream serves once. Of a table DuckDB would make a dataset of pyarrow's, which imports pandas.
                con.register(name, self.own.__arrow_c_stream__())
        return self.sql

    def tables(self, con: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
        """All rows, in LEDGER_SCHEMA and tables of bounded size."""
        if self.own is not None and not self.files.data:
            yield self.own
            return
        for rows in con.execute(f"SELECT * FROM {self.relation(con)}").to_arrow_reader(_ROW_GROUP):
            yield pa.Table.from_batches([rows]).cast(LEDGER_SCHEMA)


_OWN_ROWS, _OWN_KEYS = "own_rows", "own_keys"


class Ledger:
    """The ledger of one project and destination in a lake."""

    def __init__(self, lake: Lake, project: str, destination: str) -> None:
        self.lake = lake
        self.project = project
        self.destination = destination

    def files(self, hour: Hour) -> HourFiles:
        """What is there now."""
        data = self.lake.ledger_path(self.project, self.destination, hour)
        parts = self.lake.ledger_part_paths(self.project, self.destination, hour)
        return HourFiles(hour, data if self.lake.exists(data) else None, tuple(parts))

    def facts(self, hour: Hour) -> dict[str, str] | None:
        """Counts of the last finished delivery of an hour (`merge` lists them); None when there was none.

        Raises FatalError for an unreadable file.
        """
        path = self.lake.ledger_path(self.project, self.destination, hour)
        try:
            return self.lake.facts(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(path, error) from error

    def unfinished(self, hour: Hour) -> bool:
        """Whether a delivery of the hour is running or ended without a merge."""
        return bool(self.lake.ledger_part_paths(self.project, self.destination, hour))

    def load(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        hours: Sequence[Hour],
        *,
        where: str = "",
        columns: Sequence[str] = COLUMNS,
        repair: bool = False,
        without: str | None = None,
    ) -> list[HourFiles]:
        """Create a temp table with the newest row of every event of the hours; returns the files that it came from.

        The connection must be able to read the lake (`Lake.register`).
        `where` is SQL that narrows the rows; parts whose names begin with `without` are passed over. Parts that a
        crash left broken are left out, and removed with `repair`: their events count as not sent, so they are sent
        again, under the same ids. Raises FatalError for a merged file that cannot be read.
        """
        looks = 1
        while True:
            files = [self._sound(self._others(item, without), repair=repair) for item in self._files_of(hours)]
            try:
                con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {_newest(files, columns, where)}")
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                # Another delivery may have merged a part away since the look: then look again.
                if looks == _LOOKS or not self._moved(files):
                    raise self._unreadable(_named_in(str(error), files), error) from error
                looks += 1
            else:
                return files

    def load_others(self, con: duckdb.DuckDBPyConnection, table: str, hours: Sequence[Hour], *, where: str) -> None:
        """`load` for hours that are not delivered themselves: those whose merged file cannot be read are left out with
        a warning, since what is wrong there is no reason to stop here."""
        try:
            self.load(con, table, hours, where=where)
        except FatalError:
            self.load(con, table, [hour for hour in hours if self._is_readable(hour)], where=where)

    def _is_readable(self, hour: Hour) -> bool:
        try:
            self.facts(hour)
        except FatalError as error:
            logger.warning("the ledger of %s is left out: %s", hour.key, error)
            return False
        return True

    def combine(self, con: duckdb.DuckDBPyConnection, hour: Hour, *, own: str, rows: pa.Table | None) -> Combined:
        """The newest row of every event of an hour, where one delivery has added to its ledger.

        The delivery's rows are newer than all others and each of another event, so they need no comparing. They are
        `rows`, else (None) the parts whose names begin with `own`. With parts of anyone else all are compared, for
        which all rows have to be in parts.
        """
        files = self._sound(self.files(hour), repair=True)
        if self.foreign_parts(files, own):
            return Combined("combined_rows", None, self.load(con, "combined_rows", [hour], repair=True)[0])
        mine = keys = f"({relation([HourFiles(hour, None, files.parts)])})"
        if rows is not None:
            mine, keys = _OWN_ROWS, _OWN_KEYS
        query = f"SELECT * FROM {mine}"
        if files.data:
            before = relation([HourFiles(hour, files.data, ())])
            query += f" UNION ALL SELECT * FROM ({before}) AS b ANTI JOIN {keys} AS p USING (event, event_id)"
        return Combined(f"(SELECT {', '.join(COLUMNS)} FROM ({query}))", rows, files)

    def foreign_parts(self, files: HourFiles, own: str) -> list[str]:
        """Parts that other deliveries have left, those whose names do not begin with `own`."""
        mine = self.part_path(files.hour, own).removesuffix(".parquet")
        return [part for part in files.parts if not part.startswith(mine)]

    def _others(self, files: HourFiles, own: str | None) -> HourFiles:
        return files if own is None else replace(files, parts=tuple(self.foreign_parts(files, own)))

    def part_path(self, hour: Hour, name: str) -> str:
        """Where a part of this name belongs."""
        return self.lake.ledger_part_path(self.project, self.destination, hour, name)

    def write_part(self, workspace: Workspace, hour: Hour, name: str, rows: pa.Table) -> None:
        """Make rows count, atomically and durably. Thread-safe for different names."""
        scratch = f"{hour.date}-{hour.hour}-{name}"
        pq.write_table(rows, workspace.path(scratch), **_PART_OPTIONS)
        workspace.commit(scratch, self.part_path(hour, name))

    def merge(
        self,
        con: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        hour: Hour,
        combined: Combined,
        *,
        facts: dict[str, Any],
    ) -> None:
        """Write what `combine` found as the hour's merged file, with facts as its key-value metadata."""
        name = f"{hour.date}-{hour.hour}-data.parquet"
        metadata = {"project": self.project, "destination": self.destination, "hour": hour.key, **facts}
        schema = LEDGER_SCHEMA.with_metadata({f"{_PREFIX}{key}": str(value) for key, value in metadata.items()})
        with pq.ParquetWriter(workspace.path(name), schema, **_DATA_OPTIONS) as writer:
            for rows in combined.tables(con):
                writer.write_table(rows)
        workspace.commit(name, self.lake.ledger_path(self.project, self.destination, hour))

    def remove_parts(self, parts: Iterable[str]) -> None:
        """Remove parts whose rows stand in a merged file."""
        for path in parts:
            self.lake.remove(path)

    def _files_of(self, hours: Sequence[Hour]) -> list[HourFiles]:
        """The files of many hours; behind a URL one listing per day instead of several looks per hour."""
        if self.lake.is_local:
            return [self.files(hour) for hour in hours]
        days = {self.lake.ledger_folder(self.project, self.destination, hour).rpartition("/")[0] for hour in hours}
        found = [path for day in sorted(days) for path in self.lake.glob(f"{day}/*/*.parquet")]
        by_folder: dict[tuple[str, ...], list[str]] = {}
        for path in found:
            # A filesystem may spell the root differently; date and hour are ours.
            by_folder.setdefault(tuple(path.split("/")[-3:-1]), []).append(path)
        return [_hour_files(hour, by_folder.get((f"date={hour.date}", f"hour={hour.hour}"), [])) for hour in hours]

    def _sound(self, files: HourFiles, *, repair: bool) -> HourFiles:
        sound: list[str] = []
        for path in files.parts:
            try:
                present = self.lake.facts(path) is not None
            except (pa.ArrowInvalid, OSError) as error:
                if not self.lake.exists(path):
                    continue
                logger.warning("%s: a crash left this ledger part broken; its events will be sent again", path)
                logger.debug("%s: %s", path, error)
                if repair:
                    self.lake.remove(path)
                continue
            if present:
                sound.append(path)
        return HourFiles(files.hour, files.data, tuple(sound))

    def _moved(self, files: Sequence[HourFiles]) -> bool:
        return any(not self.lake.exists(path) for item in files for path in item.paths)

    def _unreadable(self, path: str, error: Exception) -> FatalError:
        return FatalError(
            f"the delivery ledger cannot be read: {error}",
            hint=f"Restore {path} from a backup, or move it away: the hour's events are then sent again under the "
            "same ids.",
            project=self.project,
            destination=self.destination,
        )


_KEY = "partition_hour, event, event_id"


def _newest(files: Sequence[HourFiles], columns: Sequence[str], where: str) -> str:
    # Without files there is nothing to narrow, and a condition may be dear.
    condition = f"WHERE {where}" if where and any(item.paths for item in files) else ""
    # Merged files hold every key once: only parts make a choice necessary.
    several = any(item.parts for item in files)
    choice = f"QUALIFY row_number() OVER (PARTITION BY {_KEY} ORDER BY written_at DESC) = 1" if several else ""
    return f"SELECT {', '.join(columns)} FROM ({relation(files)}) {condition} {choice}"


def relation(files: Sequence[HourFiles]) -> str:
    """SQL that reads all rows of the files; without files a relation of the same columns and no rows."""
    paths = [path for item in files for path in item.paths]
    if paths:
        listed = ", ".join(map(file_literal, paths))
        return f"SELECT * FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    columns = ", ".join(f"NULL::{_SQL_TYPES[field.type]} AS {field.name}" for field in LEDGER_SCHEMA)
    return f"SELECT {columns} WHERE false"


def _hour_files(hour: Hour, paths: Sequence[str]) -> HourFiles:
    data = next((path for path in paths if path.endswith("/data.parquet")), None)
    return HourFiles(hour, data, tuple(path for path in paths if path.rpartition("/")[2].startswith("part-")))


def _named_in(text: str, files: Sequence[HourFiles]) -> str:
    paths = [path for item in files for path in item.paths]
    return next((path for path in paths if path in text), paths[0] if paths else "the file")
