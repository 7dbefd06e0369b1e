"""Rows per second of the typed models, the event tables and the payloads, over synthetic observations.

    python bench/models.py [observations] [hours]
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from lf_dagster.config import load_project
from lf_dagster.events import prepared_sql, run_events
from lf_dagster.hours import Hour
from lf_dagster.lake import EXTRACT_SCHEMA, Lake
from lf_dagster.warehouse import Warehouse, run_typed

FIRST = Hour.from_key("2026-11-20-00:00")
OBSERVATIONS_PER_TRACE = 8
NOW = datetime(2026, 11, 22, tzinfo=timezone.utc)


def observation(number: int, hour: Hour, count: int) -> dict[str, object]:
    trace, place = divmod(number, OBSERVATIONS_PER_TRACE)
    at = int(hour.start.timestamp() * 1000) + number * 3_599_000 // count
    stamp = datetime.fromtimestamp(at / 1000, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    end = datetime.fromtimestamp(at / 1000 + 1.5, timezone.utc).isoformat(timespec="milliseconds")
    is_generation = place % 2 == 1
    trace_id = f"{hour.key}-{trace:026x}"
    return {
        "id": f"{hour.hour}{number:014x}", "traceId": trace_id, "startTime": stamp, "endTime": end,
        "projectId": "p", "parentObservationId": f"{hour.hour}{trace * OBSERVATIONS_PER_TRACE:014x}" if place else None,
        "type": "GENERATION" if is_generation else "SPAN", "name": f"step-{place}", "level": "DEFAULT",
        "statusMessage": "", "version": "v1.2", "environment": "production", "bookmarked": False, "public": False,
        "userId": f"user-{trace % 5000}", "sessionId": f"session-{trace % 9000}", "isRootObservation": place == 0,
        "completionStartTime": stamp if is_generation else None, "createdAt": stamp, "updatedAt": stamp,
        "metadata": {"tenant": "acme", "scope.name": "langfuse-sdk", "scope.version": "4.18.0",
                     "resourceAttributes.service.name": "chat-backend",
                     "resourceAttributes.telemetry.sdk.language": "python", "$posthog_session_id": f"s{trace}"},
        "model": "gpt-4o" if is_generation else "", "internalModelId": "", "modelParameters": {"temperature": 0.7},
        "usageDetails": {"input": 812, "output": 120, "total": 932} if is_generation else {},
        "costDetails": {"input": 0.00203, "output": 0.0012, "total": 0.00323} if is_generation else {},
        "inputUsage": 812, "outputUsage": 120, "totalUsage": 932, "inputCost": 0.00203, "outputCost": 0.0012,
        "totalCost": 0.00323, "promptId": "", "promptName": "", "promptVersion": None, "usagePricingTierId": None,
        "usagePricingTierName": None, "latency": 1.5, "timeToFirstToken": 0.2, "tags": ["beta", "chat"],
        "release": "2026.11", "traceName": "chat", "modelId": None, "inputPrice": None, "outputPrice": None,
        "totalPrice": None,
    }  # fmt: skip


def score(number: int, hour: Hour) -> dict[str, object]:
    return {
        "id": f"score-{hour.key}-{number}", "projectId": "p", "name": "helpful", "dataType": "BOOLEAN", "value": True,
        "source": "API", "timestamp": hour.start.isoformat(), "environment": "production", "comment": None,
        "metadata": {}, "subject": {"kind": "trace", "id": f"{hour.key}-{number:026x}"},
    }  # fmt: skip


def write(lake: Lake, stream: str, hour: Hour, rows: list[dict[str, object]], key: str) -> None:
    lines = [
        {"id": row["id"], "trace_id": row.get("traceId"), "read_path": "v2", "json": json.dumps(row),
         "event_time": datetime.fromisoformat(str(row[key]).replace("Z", "+00:00"))}
        for row in rows
    ]  # fmt: skip
    with lake.open_extract("bench", stream, hour) as writer:
        writer.set_facts(read_path="v2")
        writer.add(pa.RecordBatch.from_pylist(lines, EXTRACT_SCHEMA))


def timed(name: str, rows: int, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:42} {wall:6.2f} s wall {cpu:6.2f} s CPU  {rows / wall:9,.0f} rows/s {rows / cpu:9,.0f} rows/CPU-s  peak {peak:,.0f} MB")


def main(total: int, hours_count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_project({"name": "bench", "data": folder, "observation_events": True})
        lake, warehouse = Lake(folder), Warehouse(str(Path(folder) / "warehouse.duckdb"), threads=2)
        hours = [FIRST.shift(step) for step in range(hours_count)]
        per_hour = total // hours_count
        for hour in hours:
            write(lake, "observations", hour, [observation(n, hour, per_hour) for n in range(per_hour)], "startTime")
            write(lake, "scores", hour, [score(n, hour) for n in range(per_hour // 20)], "timestamp")
        named = {"project_id": "p", "project_name": "P", "run_id": "r", "now": NOW}
        print(f"{total} observations in {hours_count} hours; after writing extracts the process holds "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB at most")
        timed("typed models, all hours in one run", total,
              lambda: run_typed(warehouse, lake, settings, hours=hours, **named))
        timed("typed models, again", total, lambda: run_typed(warehouse, lake, settings, hours=hours, **named))
        timed("typed models, last hour again", per_hour,
              lambda: run_typed(warehouse, lake, settings, hours=hours[-1:], **named))
        events = total + total // 2 + total // OBSERVATIONS_PER_TRACE + total // 20
        timed("event tables", events,
              lambda: run_events(warehouse, settings, host="https://langfuse.example", hours=hours, **named))
        for destination, protocol in (("mixpanel", "import"), ("posthog", "v1")):
            sql = prepared_sql(destination, settings, protocol=protocol, project_id="p", project_name="P", host="",
                               user_id_salt=None)
            with warehouse.connect(read_only=True) as con:
                timed(f"payloads, {destination} ({protocol})", events,
                      lambda: con.execute(f"CREATE OR REPLACE TEMP TABLE prepared AS {sql}"))
                con.execute("SET threads = 1")
                timed(f"payloads, {destination}, one thread", events,
                      lambda: con.execute(f"CREATE OR REPLACE TEMP TABLE prepared AS {sql}"))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers or [200_000, 2])[:2])
