"""Writes the events of some hours as JSON lines, for the peers: `python -m bench.dump FIRST LAST FOLDER MOST`.

`FOLDER/mixpanel.jsonl` and `FOLDER/posthog.jsonl` hold at most MOST events each, with the very properties that we send.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from lf_dagster.accounting import SourceIdentity
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.destinations import open_destination
from lf_dagster.destinations.preview import preview
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse


def write_events(settings: ProjectSettings, hours: list[Hour], destination: str, file: Path, most: int) -> int:
    """Returns how many events were written."""
    lake, written = Lake(settings.data), 0
    source = SourceIdentity.of(lake, settings.name, hours)
    encode = msgspec.json.Encoder().encode
    with file.open("wb") as out, open_destination(destination, settings) as opened:
        for hour in hours:
            if written >= most:
                break
            found: list[dict[str, Any]] = preview(
                opened,
                project=settings,
                project_id=source.project_id,
                project_name=source.project_name,
                host=source.host,
                warehouse=Warehouse.of(settings, lake),
                lake=lake,
                hour=hour,
                now=datetime.now(timezone.utc),
                resend=True,
                limit=most - written,
            )
            for item in found:
                if item["action"] == "send":
                    out.write(encode(item["payload"]) + b"\n")
                    written += 1
    return written


def main(first: str, last: str, folder: str, most: str) -> None:
    settings = load_project({}, os.environ)
    hours = hour_range(Hour.from_key(first), Hour.from_key(last))
    for destination in settings.destinations:
        write_events(settings, hours, destination, Path(folder) / f"{destination}.jsonl", int(most))


if __name__ == "__main__":
    main(*sys.argv[1:])
