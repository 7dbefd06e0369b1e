"""One leg of the main job, measured in a process of its own: wall clock, CPU of this process, peak memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from datetime import datetime, timezone
from typing import Any

from lf_dagster.accounting import SourceIdentity
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.destinations import deliver, open_destination
from lf_dagster.events import run_events
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.source import LangfuseClient, extract_hours, streams_of
from lf_dagster.warehouse import Warehouse, run_typed


def extract(settings: ProjectSettings, lake: Lake, hour: Hour) -> int:
    with LangfuseClient(settings.langfuse) as client:
        source = client.describe()
        done = extract_hours(
            client,
            source,
            project=settings.name,
            streams=streams_of(source.read_path),
            hours=[hour],
            lake=lake,
            run_id="bench",
        )
    return sum(item.rows for item in done)


def model(settings: ProjectSettings, lake: Lake, hour: Hour) -> int:
    source = SourceIdentity.of(lake, settings.name, [hour])
    warehouse, now = Warehouse.of(settings, lake), datetime.now(timezone.utc)
    common: dict[str, Any] = {
        "project_id": source.project_id,
        "project_name": source.project_name,
        "hours": [hour],
        "run_id": "bench",
        "now": now,
    }
    typed = run_typed(warehouse, lake, settings, **common)
    run_events(warehouse, settings, host=source.host, **common)
    return sum(typed.rows["observations"].values())


def ship(settings: ProjectSettings, lake: Lake, hour: Hour, destination: str) -> int:
    source = SourceIdentity.of(lake, settings.name, [hour])
    with open_destination(destination, settings) as opened:
        done = deliver(
            opened,
            project=settings,
            project_id=source.project_id,
            project_name=source.project_name,
            host=source.host,
            warehouse=Warehouse.of(settings, lake),
            lake=lake,
            hours=[hour],
            run_id="bench",
            now=datetime.now(timezone.utc),
            resend=True,
        )
    return sum(item.sent for item in done)


def main(leg: str, hour_key: str) -> None:
    settings = load_project({"observation_events": True}, os.environ)
    lake, hour = Lake(settings.data), Hour.from_key(hour_key)
    wall, cpu = time.perf_counter(), time.process_time()
    legs = {"extract": extract, "model": model}
    rows = legs[leg](settings, lake, hour) if leg in legs else ship(settings, lake, hour, leg)
    facts = {
        "rows": rows,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
