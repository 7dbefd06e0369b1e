"""LG-27: the project's name stands on every row, event and materialisation, and is no part of any key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.simulators import langfuse
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.works import KEY, Works, works

TABLES = (
    *("observations", "traces", "generations", "scores", "deletions"),
    *("trace_events", "generation_events", "score_events"),
)


def life() -> Life:
    found = Life().span("root", "07T10:05").generation("call", "07T10:06").score("s", "07T10:07", 1.0)
    return found.span("gone", "07T10:08", trace="gone").trace_deleted("gone", "07T11:50")


def names(shop: Works) -> dict[str, set[tuple[str, str]]]:
    """The project's id and name on the rows of each table."""
    with Warehouse.of(shop.settings, shop.lake).connect(read_only=True) as con:
        con.execute("SET search_path = 'warehouse.shop'")
        query = "SELECT DISTINCT project_id, project_name FROM {}"
        return {table: set(con.execute(query.format(table)).fetchall()) for table in TABLES}


def everywhere(name: str) -> dict[str, set[tuple[str, str]]]:
    return {table: {("proj-lf", name)} for table in TABLES}


def metadata(shop: Works) -> dict[str, Any]:
    """`project_name` on the newest materialisation of each asset of the hour."""
    assets = ("raw_observations", "raw_scores", "traces", "trace_events", "mixpanel", "posthog")
    events = {name: shop.instance.get_latest_materialization_event(dg.AssetKey(["shop", name])) for name in assets}
    return {
        name: event.asset_materialization.metadata["project_name"].value
        for name, event in events.items()
        if event and event.asset_materialization
    }


@pytest.mark.slow
def test_lg27_renaming_a_project_changes_labels_and_nothing_else(tmp_path: Path) -> None:
    with works(tmp_path, life().store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        assert shop.rerun("2026-09-07T10").success
        shop.at("2026-09-07T12:00")
        assert shop.rerun("2026-09-07T10").success
        assert names(shop) == everywhere("LF Project")
        assert set(metadata(shop).values()) == {"LF Project"}
        before = {"posthog": shop.posthog_events(), "mixpanel": shop.mixpanel_events()}

        shop.store.project = langfuse.Project(id="proj-lf", name="Shop, new", keys=(KEY,))
        shop.later(hours=1)
        assert shop.rerun("2026-09-07T10").success
        assert names(shop) == everywhere("Shop, new")
        assert set(metadata(shop).values()) == {"Shop, new"}
        after = {"posthog": shop.posthog_events(), "mixpanel": shop.mixpanel_events()}

    for destination, events in after.items():
        held = before[destination]
        assert [ids(event) for event in events.values()] == [ids(event) for event in held.values()]
        for name, event in events.items():
            if name != "trace gone":
                assert event["properties"]["langfuse_project_name"] == "Shop, new"
                assert held[name]["properties"]["langfuse_project_name"] == "LF Project"
            assert event["properties"]["langfuse_project_id"] == "proj-lf"


def ids(event: dict[str, Any]) -> tuple[Any, ...]:
    """What a destination knows an event by."""
    properties = event["properties"]
    return event["event"], event.get("uuid"), properties.get("$insert_id"), properties.get("distinct_id")


@pytest.mark.slow
def test_lg27_a_warehouse_of_before_gets_the_name_and_keeps_its_rows(tmp_path: Path) -> None:
    with works(tmp_path, life().store, start="2026-09-07T10:00", now="2026-09-07T12:40") as shop:
        assert shop.rerun("2026-09-07T10").success
        with Warehouse.of(shop.settings, shop.lake).connect() as con:
            for table in TABLES:
                con.execute(f"ALTER TABLE warehouse.shop.{table} DROP COLUMN project_name")
        assert shop.rerun("2026-09-07T11").success
        assert names(shop)["traces"] == {("proj-lf", None)}, "hours of before are not made again for a label"
        assert shop.rerun("2026-09-07T10").success
        assert names(shop)["traces"] == {("proj-lf", "LF Project")}
