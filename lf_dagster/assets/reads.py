"""What a run of the raw assets says beyond each extract: the newest change seen, late finds, the sync as a whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from lf_dagster.assets.common import asset_key
from lf_dagster.assets.syncs import Items, last_sync_entry, sync_document
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, iso
from lf_dagster.lake import STREAMS, Lake, UnreadableFile
from lf_dagster.source import HourExtract

log = logging.getLogger(__name__)

HIGH_WATER_MARK = "high_water_mark"
OUTSIDE_WINDOW = "outside_window"
SYNC = "sync"


class Reading:
    """One run over some hours; make it before the first hour is read, since it looks at what was held until then."""

    def __init__(
        self, context: dg.AssetExecutionContext, settings: ProjectSettings, lake: Lake, hours: Sequence[Hour]
    ) -> None:
        self._instance, self._run_id = context.instance, context.run.run_id
        self._settings, self._lake, self._hours = settings, lake, hours
        self._mark = _high_water_mark(context.instance, settings)
        self._held = _rows_outside_window(settings, lake, hours)

    def facts(self, extract: HourExtract) -> dict[str, Any]:
        """Metadata of one extract: `high_water_mark` of the project up to now (observations alone), and for a re-read
        of an hour beyond the horizon `outside_window`, the rows that no earlier read had found."""
        facts: dict[str, Any] = {}
        if extract.stream == "observations":
            self._mark = max(filter(None, (self._mark, extract.max_updated_at)), default=None)
            if self._mark is not None:
                facts[HIGH_WATER_MARK] = iso(self._mark)
        held = self._held.get((extract.stream, extract.hour))
        if held is not None:
            late = extract.rows - (held - extract.newly_deleted)
            facts[OUTSIDE_WINDOW] = late
            self._report(extract, late)
        return facts

    def sync(self, extracts: Sequence[HourExtract]) -> dict[str, Any]:
        """Metadata `sync` of the run: the status document as it stands once this run is over."""
        items = Items.summed(
            Items(extract.rows - extract.kept_expired + extract.duplicates, extract.duplicates, extract.read_path)
            for extract in extracts
        )
        last = last_sync_entry(self._run_id, items, self._hours, status="completed", completed_at=utc_now())
        document = sync_document(self._instance, self._settings, self._lake, last, without=self._run_id)
        return {SYNC: dg.MetadataValue.json(document)}

    def _report(self, extract: HourExtract, late: int) -> None:
        if late:
            log.warning(
                "%s: %s: found %d %s that came after the window of %d hours: only reruns by hand find such rows",
                *(self._settings.name, extract.hour.key, late, extract.stream),
                self._settings.reconcile.horizon_hours,
            )


def _high_water_mark(instance: dg.DagsterInstance, settings: ProjectSettings) -> datetime | None:
    """The newest change that any read before has seen, as the newest materialisation says."""
    event = instance.get_latest_materialization_event(asset_key(settings.name, "raw_observations"))
    materialization = event.asset_materialization if event else None
    known = materialization.metadata.get(HIGH_WATER_MARK) if materialization else None
    return datetime.fromisoformat(str(known.value).replace("Z", "+00:00")) if known else None


def _rows_outside_window(settings: ProjectSettings, lake: Lake, hours: Sequence[Hour]) -> dict[tuple[str, Hour], int]:
    """Rows of the extracts held of hours beyond the horizon."""
    window = utc_now() - timedelta(hours=settings.reconcile.horizon_hours)
    old = [(stream, hour) for hour in hours if hour.end <= window for stream in STREAMS]
    held = {(stream, hour): _known_facts(lake, settings.name, stream, hour) for stream, hour in old}
    return {key: int(facts["rows"]) for key, facts in held.items() if facts is not None}


def _known_facts(lake: Lake, project: str, stream: str, hour: Hour) -> dict[str, str] | None:
    try:
        return lake.extract_facts(project, stream, hour)
    except UnreadableFile:
        return None  # the read puts it aside, and says so
