"""Lakes on disk and in memory, and pages of rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from lf_dagster.hours import Hour
from lf_dagster.lake import EXTRACT_SCHEMA, Lake

HOUR = Hour.from_key("2026-11-21-06:00")

Row = tuple[str, int, int | None, str]
"""id, event time in ms after the hour's start, updated at in s after it, JSON text."""


def page(rows: Sequence[Row], hour: Hour = HOUR) -> pa.RecordBatch:
    def at(**offset: float) -> datetime:
        return hour.start + timedelta(**offset)

    return pa.RecordBatch.from_pylist(
        [
            {
                "id": id_,
                "trace_id": f"t-{id_}",
                "event_time": at(milliseconds=event),
                "updated_at": None if updated is None else at(seconds=updated),
                "read_path": "v2",
                "json": text,
            }
            for id_, event, updated, text in rows
        ],
        schema=EXTRACT_SCHEMA,
    )


@pytest.fixture(params=["folder", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "folder":
        yield Lake(str(tmp_path / "lake"))
        return
    root = f"memory://lake-{uuid.uuid4().hex}"
    yield Lake(root)
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(root):
        filesystem.rm(root, recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))
