"""Writing extracts and running the models over rows as a server would send them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.hours import Hour
from lf_dagster.lake import EXTRACT_SCHEMA, Lake
from lf_dagster.warehouse import ModelRun, Warehouse, run_typed

DATA = Path(__file__).parent.parent / "data"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
TIME_KEY = {"observations": "startTime", "scores": "timestamp", "traces": "timestamp"}


@lru_cache(maxsize=1)
def recorded() -> dict[str, list[dict[str, Any]]]:
    """Rows that a real server answered; never change them in place."""
    with gzip.open(DATA / "langfuse" / "recorded.json.gz") as file:
        return json.load(file)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def hours_of(rows: Iterable[Mapping[str, Any]], stream: str = "observations") -> list[Hour]:
    return sorted({Hour.containing(moment(row[TIME_KEY[stream]])) for row in rows})


class Project:
    """A lake and a warehouse of one project in a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings: ProjectSettings = load_project({"name": "demo", "data": str(folder), **settings})
        self.lake = Lake(self.settings.data)
        self.warehouse = Warehouse(str(folder / "warehouse.duckdb"), threads=2, memory_limit="1GB")

    def extract(
        self, stream: str, rows: Iterable[Mapping[str, Any] | str], hours: Sequence[Hour], *, read_path: str = "v2"
    ) -> None:
        """One extract per hour; a row given as text goes in as it is, in the first hour, under the id `raw-<n>`."""
        by_hour: dict[Hour, list[dict[str, Any]]] = {hour: [] for hour in hours}
        for number, row in enumerate(rows):
            line = _line(number, row, stream, read_path, hours[0])
            by_hour.setdefault(Hour.containing(line["event_time"]), []).append(line)
        for hour, lines in by_hour.items():
            with self.lake.open_extract(self.settings.name, stream, hour) as writer:
                writer.set_facts(project_id="proj-lf", project_name="LF Project", read_path=read_path)
                writer.add(pa.RecordBatch.from_pylist(lines, EXTRACT_SCHEMA))

    def extract_v2(
        self, observations: Iterable[Mapping[str, Any] | str], hours: Sequence[Hour], scores: Iterable[Any] = ()
    ) -> None:
        self.extract("observations", observations, hours)
        self.extract("scores", scores, hours)

    def extract_legacy(
        self, traces: Iterable[Any], observations: Iterable[Any], hours: Sequence[Hour], scores: Iterable[Any] = ()
    ) -> None:
        self.extract("traces", traces, hours, read_path="legacy")
        self.extract("observations", observations, hours, read_path="legacy")
        self.extract("scores", scores, hours, read_path="legacy")

    def run(self, hours: Sequence[Hour], *, run_id: str = "run", now: datetime = NOW) -> ModelRun:
        return run_typed(
            self.warehouse,
            self.lake,
            self.settings,
            project_id="proj-lf",
            project_name="LF Project",
            hours=hours,
            run_id=run_id,
            now=now,
        )

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query over the project's tables."""
        with self.warehouse.connect(read_only=True) as con:
            con.execute(f"SET search_path = 'warehouse.{self.settings.name}'")
            return con.execute(sql).to_arrow_table().to_pylist()

    def table(self, name: str, *, without: Sequence[str] = ("ingested_at", "run_id")) -> list[dict[str, Any]]:
        """All rows of a table, in a fixed order, without the columns that tell runs apart."""
        rows = self.query(f"SELECT * EXCLUDE ({', '.join(without)}) FROM {name}")
        return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))


def _line(number: int, row: Mapping[str, Any] | str, stream: str, read_path: str, first: Hour) -> dict[str, Any]:
    if isinstance(row, str):
        return {"id": f"raw-{number}", "event_time": first.start, "read_path": read_path, "json": row}
    subject = row.get("subject") or {}
    return {
        "id": row["id"],
        "trace_id": row.get("traceId") or subject.get("id" if subject.get("kind") == "trace" else "traceId"),
        "event_time": moment(row[TIME_KEY[stream]]),
        "updated_at": moment(row["updatedAt"]) if row.get("updatedAt") else None,
        "read_path": read_path,
        "json": json.dumps(row, ensure_ascii=False),
    }


def v2_row(id_: str, trace_id: str, at: str, **changes: Any) -> dict[str, Any]:
    """A v2 observation as the server sends it, with empty strings for what is unset."""
    row = {
        "id": id_, "traceId": trace_id, "startTime": at, "endTime": None, "projectId": "proj-lf",
        "parentObservationId": None, "type": "SPAN", "name": id_, "level": "DEFAULT", "statusMessage": "",
        "version": "", "environment": "default", "bookmarked": False, "public": False, "userId": "", "sessionId": "",
        "isRootObservation": False, "completionStartTime": None, "createdAt": at, "updatedAt": at, "metadata": {},
        "model": "", "internalModelId": "", "modelParameters": None, "usageDetails": {}, "costDetails": {},
        "inputUsage": 0, "outputUsage": 0, "totalUsage": 0, "inputCost": None, "outputCost": None, "totalCost": 0,
        "promptId": "", "promptName": "", "promptVersion": None, "latency": None, "timeToFirstToken": None,
        "tags": [], "release": "", "traceName": None,
    }  # fmt: skip
    return {**row, **changes}


def synthetic_row(trace_id: str, at: str, **changes: Any) -> dict[str, Any]:
    """The row that stands for a legacy trace on the v2 path."""
    return v2_row(f"t-{trace_id}", trace_id, at, isRootObservation=True, **changes)


def v3_score(id_: str, at: str, *, trace_id: str | None = "t1", **changes: Any) -> dict[str, Any]:
    """A v3 score of a trace."""
    row = {
        "id": id_, "projectId": "proj-lf", "name": "quality", "source": "API", "timestamp": at,
        "environment": "default", "createdAt": at, "updatedAt": at, "comment": None, "configId": None, "metadata": {},
        "authorUserId": None, "queueId": None, "subject": {"kind": "trace", "id": trace_id}, "dataType": "NUMERIC",
        "value": 0.5,
    }  # fmt: skip
    return {**row, **changes}
