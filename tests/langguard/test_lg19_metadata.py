"""LG-19: metadata is merged, not replaced; a setting replaces it instead."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import ModelRun, Warehouse, run_typed
from tests.source.conftest import HOUR, Connect, Standin, World, extract

NOW = datetime(2025, 8, 22, tzinfo=timezone.utc)


class Story:
    """One project over several reads of its hours; `world` is what Langfuse holds."""

    def __init__(self, connect: Connect, folder: Path, **langfuse: Any) -> None:
        self.client = connect(**langfuse)
        self.settings: ProjectSettings = load_project({"name": "p", "data": str(folder)})
        self.lake = Lake(self.settings.data)
        self.warehouse = Warehouse(str(folder / "warehouse.duckdb"), threads=2, memory_limit="1GB")

    def sync(self, *hours: Hour) -> ModelRun:
        extract(self.client, self.lake, *hours)
        return self.model(*hours)

    def model(self, *hours: Hour) -> ModelRun:
        return run_typed(
            self.warehouse,
            self.lake,
            self.settings,
            project_id="proj-lf",
            project_name="LF Project",
            hours=hours or (HOUR,),
            run_id="r",
            now=NOW,
        )

    def extracted_at(self, stream: str = "observations") -> str:
        return (self.lake.extract_facts("p", stream, HOUR) or {})["extracted_at"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.warehouse.connect(read_only=True) as con:
            return con.execute(f"SELECT * FROM warehouse.p.{table} ORDER BY ALL").to_arrow_table().to_pylist()

    def metadata(self, table: str) -> tuple[dict[str, Any], dict[str, str] | None]:
        """Metadata and what is gone of the table's one row."""
        [row] = self.rows(table)
        gone = row["metadata_gone"]
        return json.loads(row["metadata"]), None if gone is None else json.loads(gone)


@pytest.fixture(params=["v2", "legacy"])
def read_path(request: pytest.FixtureRequest) -> str:
    return request.param


def both(world: World, updated: int, **metadata: Any) -> World:
    """The trace and its one observation with this metadata, as it is from `updated` on."""
    world.observation("o", 5, updated=updated, metadata=metadata, isRootObservation=True)
    return world.trace("t", 5, metadata=metadata)


def test_lg19_a_key_that_vanished_stays_with_when_it_was_last_seen(
    standin: Standin, connect: Connect, tmp_path: Path, read_path: str
):
    world = both(World(), 1, plan="gold", region="eu", note='a "quoted", {odd} text')
    standin.use(world)
    story = Story(connect, tmp_path, read_path=read_path)
    story.sync()
    assert story.metadata("traces") == ({"plan": "gold", "region": "eu", "note": 'a "quoted", {odd} text'}, None)
    stream = "traces" if read_path == "legacy" else "observations"
    seen = {"observations": story.extracted_at(), "traces": story.extracted_at(stream)}
    both(world, 2, region="us")
    story.sync()
    for table, last_seen_at in seen.items():
        metadata, gone = story.metadata(table)
        assert metadata == {"region": "us", "plan": "gold", "note": 'a "quoted", {odd} text'}
        assert gone == {"plan": last_seen_at, "note": last_seen_at}


def test_lg19_a_key_that_returns_has_its_new_value(standin: Standin, connect: Connect, tmp_path: Path, read_path: str):
    world = both(World(), 1, plan="gold")
    standin.use(world)
    story = Story(connect, tmp_path, read_path=read_path)
    for updated, metadata in enumerate(({"plan": "gold"}, {}, {"plan": "basic"}), 1):
        both(world, updated, **metadata)
        story.sync()
    assert story.metadata("traces") == story.metadata("observations") == ({"plan": "basic"}, None)


def test_lg19_strict_replaces(standin: Standin, connect: Connect, tmp_path: Path, read_path: str):
    world = both(World(), 1, plan="gold", region="eu")
    standin.use(world)
    story = Story(connect, tmp_path, read_path=read_path, metadata="replace")
    story.sync()
    both(world, 2, region="us")
    story.sync()
    assert story.metadata("traces") == story.metadata("observations") == ({"region": "us"}, None)


def test_lg19_a_rerun_of_an_unchanged_source_gives_equal_rows(
    standin: Standin, connect: Connect, tmp_path: Path, read_path: str
):
    world = both(World(), 1, plan="gold", seats="1234567890123", on="true", none='{"a":[1.5,null]}', tail="null")
    standin.use(world)
    story = Story(connect, tmp_path, read_path=read_path)
    story.sync()
    both(world, 2)
    story.sync()
    stored = pq.read_table(story.lake.extract_path("p", "observations", HOUR))
    before = [{**row, "ingested_at": None} for table in ("observations", "traces") for row in story.rows(table)]
    assert story.sync().touched_hours == frozenset()
    assert pq.read_table(story.lake.extract_path("p", "observations", HOUR)).equals(stored)
    after = [{**row, "ingested_at": None} for table in ("observations", "traces") for row in story.rows(table)]
    assert after == before


def test_lg19_event_properties_come_from_the_newest_metadata(
    standin: Standin, connect: Connect, tmp_path: Path, read_path: str
):
    world = both(World(), 1, **{"$posthog_session_id": "s1", "$mixpanel_session_id": "m1"})
    standin.use(world)
    story = Story(connect, tmp_path, read_path=read_path)
    story.sync()
    assert story.rows("traces")[0]["posthog_session_id"] == "s1"
    both(world, 2, **{"$mixpanel_session_id": "m2"})
    story.sync()
    [trace] = story.rows("traces")
    assert (trace["posthog_session_id"], trace["mixpanel_session_id"]) == (None, "m2")
    metadata, gone = story.metadata("traces")
    assert (metadata["$posthog_session_id"], list(gone or {})) == ("s1", ["$posthog_session_id"])


def test_lg19_a_trace_of_another_hour_becomes_stale_when_its_root_loses_a_key(
    standin: Standin, connect: Connect, tmp_path: Path
):
    # The root of a trace can lie in a later hour than its first observation, which decides the trace's hour.
    world = World().observation("child", 5, parentObservationId="t-t")
    later = 3_600_000 + 5
    standin.use(world.observation("t-t", later, updated=1, metadata={"plan": "gold"}, isRootObservation=True))
    story = Story(connect, tmp_path, read_path="v2")
    story.sync(HOUR, HOUR.shift(1))
    assert story.metadata("traces") == ({"plan": "gold"}, None)
    world.observation("t-t", later, updated=2, metadata={}, isRootObservation=True)
    assert story.sync(HOUR.shift(1)).touched_hours == {HOUR}
    story.model(HOUR)
    metadata, gone = story.metadata("traces")
    assert (metadata, list(gone or {})) == ({"plan": "gold"}, ["plan"])
    assert story.sync(HOUR.shift(1)).touched_hours == frozenset()
