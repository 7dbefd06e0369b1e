"""One leg of the main job, measured in a process of its own: `python -m bench.legs LEG FIRST LAST` (hour keys).

Prints JSON: `rows` (observations, scores or events), `wall_seconds`, `cpu_seconds` of this process, `peak_mb` of its
resident memory, `sent` per destination. The environment names the servers and the data folder. Starting the interpreter
and loading the modules is outside the measurement, as it is with the peers.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from lf_dagster.accounting import SourceIdentity
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.destinations import deliver, open_destination
from lf_dagster.events import run_events
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Lake
from lf_dagster.source import LangfuseClient, extract_hours, streams_of
from lf_dagster.warehouse import Warehouse, run_typed


@dataclass(frozen=True)
class Work:
    """What a leg did: rows, and the events sent per destination."""

    rows: int
    sent: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The project and hours that a leg works on."""

    settings: ProjectSettings
    lake: Lake
    hours: list[Hour]

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse.of(self.settings, self.lake)


def extract(place: Place) -> Work:
    with LangfuseClient(place.settings.langfuse) as client:
        source = client.describe()
        done = extract_hours(
            client,
            source,
            project=place.settings.name,
            streams=streams_of(source.read_path),
            hours=place.hours,
            lake=place.lake,
            run_id="bench",
        )
    return Work(sum(item.rows for item in done))


def model(place: Place) -> Work:
    source = SourceIdentity.of(place.lake, place.settings.name, place.hours)
    common: dict[str, Any] = {
        "project_id": source.project_id,
        "project_name": source.project_name,
        "hours": place.hours,
        "run_id": "bench",
        "now": datetime.now(timezone.utc),
    }
    typed = run_typed(place.warehouse, place.lake, place.settings, **common)
    run_events(place.warehouse, place.settings, host=source.host, **common)
    return Work(sum(sum(typed.rows[table].values()) for table in ("observations", "scores")))


def ship(place: Place, destination: str) -> Work:
    source = SourceIdentity.of(place.lake, place.settings.name, place.hours)
    with open_destination(destination, place.settings) as opened:
        done = deliver(
            opened,
            project=place.settings,
            project_id=source.project_id,
            project_name=source.project_name,
            host=source.host,
            warehouse=place.warehouse,
            lake=place.lake,
            hours=place.hours,
            run_id="bench",
            now=datetime.now(timezone.utc),
            resend=True,
        )
    sent = sum(item.sent for item in done)
    return Work(sent, {destination: sent})


def prepare_whole(place: Place) -> Callable[[], Work]:
    """The whole job as `lf-dagster sync` runs it in its process; DAGSTER_HOME names the instance."""
    from lf_dagster.cli.projects import dagster_instance, load_definitions, projects_of
    from lf_dagster.cli.sync import sync_hours

    definitions = load_definitions("lf_dagster.definitions")
    [settings] = projects_of(definitions)

    def run() -> Work:
        destinations = list(settings.destinations)
        with dagster_instance() as instance:
            result = sync_hours(definitions, instance, settings, place.hours, destinations=destinations)
        if result.failures:
            raise SystemExit("\n".join(result.failures))
        rows = sum(
            result.total(f"raw_{stream}", "dagster/partition_row_count") for stream in ("observations", "scores")
        )
        return Work(rows, {name: result.total(name, "sent") for name in destinations})

    return run


LEGS: dict[str, Callable[[Place], Work]] = {
    "extract": extract,
    "model": model,
    "mixpanel": lambda place: ship(place, "mixpanel"),
    "posthog": lambda place: ship(place, "posthog"),
}


def prepared(leg: str, first: str, last: str) -> Callable[[], Work]:
    """The leg, ready to be called."""
    settings = load_project({}, os.environ)
    place = Place(settings, Lake(settings.data), hour_range(Hour.from_key(first), Hour.from_key(last)))
    return prepare_whole(place) if leg == "whole" else lambda: LEGS[leg](place)


def main(leg: str, first: str, last: str) -> None:
    run = prepared(leg, first, last)
    wall, cpu = time.perf_counter(), time.process_time()
    work = run()
    facts = {
        "rows": work.rows,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "sent": work.sent,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
