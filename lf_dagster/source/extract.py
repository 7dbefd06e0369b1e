"""Whole hours of a project's streams, out of Langfuse and into the lake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from lf_dagster.clock import utc_now
from lf_dagster.config import ReadPath, SourceApp
from lf_dagster.errors import LfDagsterError
from lf_dagster.hours import Hour
from lf_dagster.http import HttpStats
from lf_dagster.lake import DeletionRule, ExtractWriter, Lake
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.describe import SourceInfo
from lf_dagster.source.feeds import Feed, feed_of, streams_of
from lf_dagster.source.first_rows import first_rows
from lf_dagster.source.legacy import TimeWalker
from lf_dagster.source.v2 import CursorWalker
from lf_dagster.source.work import Crew, Segment, Walker

__all__ = ["HourExtract", "extract_hours", "streams_of"]

_BUFFER_BYTES = 128 * 1024 * 1024
"""Arrow data held in memory by all hours under way together; beyond its share an hour uses scratch files."""
_LARGEST_BUFFER = 16 * 1024 * 1024
"""The C library keeps what each thread once held, so an hour read by several takes a multiple of its buffer."""
_SMALLEST_BUFFER = 8 * 1024 * 1024
_WITH_METADATA = ("observations", "traces")
"""Streams whose metadata is merged over reads."""
_RETENTION_MARGIN = timedelta(days=1)
"""Langfuse removes expired rows in jobs of its own, by a clock of its own."""


@dataclass(frozen=True)
class HourExtract:
    """One hour of one stream as it was written. `rows` are the live ones.

    `duplicates`: older versions left out. `deleted`: rows marked as no longer returned, `newly_deleted` those marked
    by this read. `kept_expired`: live rows that were not returned but are past the source's retention. `bytes`:
    received over the network. `waited_seconds`: for the rate limit and between retries. `max_lateness_seconds`:
    largest createdAt - event time. `max_updated_at`: newest change seen. `first_rows`: a glance at rows as
    they came in (`first_rows.COLUMNS`).
    """

    stream: str
    hour: Hour
    path: str
    rows: int
    distinct_ids: int
    duplicates: int
    deleted: int
    newly_deleted: int
    kept_expired: int
    requests: int
    bytes: int
    waited_seconds: float
    duration_seconds: float
    max_updated_at: datetime | None
    max_lateness_seconds: float | None
    read_path: ReadPath
    first_rows: tuple[tuple[str | None, ...], ...] = ()


def extract_hours(
    client: LangfuseClient,
    source: SourceInfo,
    *,
    project: str,
    streams: Sequence[str],
    hours: Sequence[Hour],
    lake: Lake,
    run_id: str,
    source_apps: Sequence[SourceApp] = (),
    accept_deletions: bool = False,
    on_hour: Callable[[HourExtract], None] | None = None,
) -> list[HourExtract]:
    """Read hours x streams side by side, within `parallel_requests`, each into its own extract file.

    `on_hour` is called in the caller's thread as soon as an hour of a stream is in place. The first error stops the
    rest and is raised with project, stream and hour; what is finished stays, unfinished hours keep their old file.
    `accept_deletions` lets a read lose any share of the rows held before, else more than `max_lost_share` of them is
    a FatalError. `source_apps`: apps whose rows are read with what their tables need. Returns the extracts in the order
    of the hours and streams.
    """
    workers = client.settings.parallel_requests
    buffer_bytes = min(_LARGEST_BUFFER, max(_SMALLEST_BUFFER, _BUFFER_BYTES // workers))
    wanted = dict.fromkeys(streams)
    feeds = [feed_of(stream, source.read_path, client.settings, source_apps=source_apps) for stream in wanted]
    max_lost_share = 1.0 if accept_deletions else client.settings.max_lost_share
    common: dict[str, Any] = {
        "project": project,
        "lake": lake,
        "run_id": run_id,
        "buffer_bytes": buffer_bytes,
        "max_lost_share": max_lost_share,
    }
    jobs = [_HourJob(client, source, feed, hour=hour, **common) for hour in dict.fromkeys(hours) for feed in feeds]
    done: dict[tuple[Hour, str], HourExtract] = {}
    with Crew(jobs, workers=workers) as crew:
        for extract in crew.results():
            done[extract.hour, extract.stream] = extract
            if on_hour is not None:
                on_hour(extract)
    return [done[hour, stream] for hour in dict.fromkeys(hours) for stream in wanted]


class _HourJob:
    """One hour of one stream: owns its writer and its counters."""

    def __init__(
        self,
        client: LangfuseClient,
        source: SourceInfo,
        feed: Feed,
        *,
        project: str,
        hour: Hour,
        lake: Lake,
        run_id: str,
        buffer_bytes: int,
        max_lost_share: float,
    ) -> None:
        self.stats = HttpStats()
        self._client = client
        self._source = source
        self._feed = feed
        self._project = project
        self._hour = hour
        self._lake = lake
        self._run_id = run_id
        self._buffer_bytes = buffer_bytes
        self._max_lost_share = max_lost_share
        self._walker: Walker = (CursorWalker if source.read_path == "v2" else TimeWalker)(client, feed)
        self._lock = threading.Lock()
        self._lateness: timedelta | None = None
        self._first_rows: tuple[tuple[str | None, ...], ...] = ()
        self._stack = ExitStack()
        self._writer: ExtractWriter
        self._crew: Crew[HourExtract]

    def begin(self, crew: Crew[HourExtract]) -> Segment:
        self._crew = crew
        self._begun = self._client.clock()
        self._extracted_at = utc_now()
        rule = DeletionRule(
            seen_at=self._extracted_at,
            expired=_is_expired(self._hour, self._source.project.retention_days, self._extracted_at),
            max_lost_share=self._max_lost_share,
        )
        opened = self._lake.open_extract(
            self._project,
            self._feed.stream,
            self._hour,
            rule=rule,
            merge_metadata=self._feed.stream in _WITH_METADATA and self._client.settings.metadata == "merge",
            buffer_bytes=self._buffer_bytes,
        )
        self._writer = self._stack.enter_context(opened)
        return self._walker.whole(self._hour.start, self._hour.end)

    def walk(self, segment: Segment) -> None:
        try:
            self._walker.walk(segment, self)
        except LfDagsterError as error:
            error.with_context(project=self._project, stream=self._feed.stream, hour=self._hour.key)
            raise

    def finish(self) -> HourExtract:
        lateness = self._lateness.total_seconds() if self._lateness is not None else None
        counted = self.stats.snapshot()
        self._writer.set_facts(
            project_id=self._source.project.id,
            project_name=self._source.project.name,
            read_path=self._source.read_path,
            host=self._client.host,
            server_version=self._source.server_version,
            requests=counted["requests"],
            bytes=counted["bytes_received"],
            waited_seconds=round(counted["waited_seconds"], 3),
            max_lateness_seconds=lateness,
            extracted_at=self._extracted_at.isoformat(),
            run_id=self._run_id,
        )
        self._stack.close()
        file = self._writer.file
        if file is None:
            raise RuntimeError("the writer closed without a file")
        return HourExtract(
            stream=self._feed.stream,
            hour=self._hour,
            path=file.path,
            rows=file.rows,
            distinct_ids=file.rows,
            duplicates=file.duplicates,
            deleted=file.deleted,
            newly_deleted=file.newly_deleted,
            kept_expired=file.kept_expired,
            requests=counted["requests"],
            bytes=counted["bytes_received"],
            waited_seconds=counted["waited_seconds"],
            duration_seconds=self._client.clock() - self._begun,
            max_updated_at=file.max_updated_at,
            max_lateness_seconds=lateness,
            read_path=self._source.read_path,
            first_rows=self._first_rows,
        )

    def abandon(self) -> None:
        """Close the writer as if its block had failed: the old extract stays, scratch files go."""
        error = _Abandoned()
        self._stack.__exit__(type(error), error, None)

    # What a walker may do

    def add(self, rows: pa.RecordBatch) -> None:
        if not self._first_rows:
            self._first_rows = first_rows(rows)
        self._writer.add(rows)

    def saw_lateness(self, lateness: timedelta | None) -> None:
        if lateness is None:
            return
        with self._lock:
            self._lateness = max(lateness, self._lateness or lateness)

    def offer(self, segment: Segment) -> None:
        self._crew.offer(self, segment)

    def idle_workers(self) -> int:
        return self._crew.idle_workers()

    def pace(self) -> None:
        self._crew.pace()

    def cancelled(self) -> bool:
        return self._crew.cancelled()


def _is_expired(hour: Hour, retention_days: int | None, now: datetime) -> bool:
    """Whether the source may have removed rows of the hour by age; in doubt it has."""
    if retention_days is None:
        return False
    return hour.start < now - timedelta(days=retention_days) + _RETENTION_MARGIN


class _Abandoned(Exception):
    """Ends the writer's block of an hour that is not finished."""
