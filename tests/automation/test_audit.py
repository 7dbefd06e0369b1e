"""The source audit: what it compares, what it costs, what it keeps, and what it shows."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from lf_dagster.accounting import last_audit
from lf_dagster.hours import Hour
from lf_dagster.simulators.langfuse.limits import V2_METRICS, Limits, RateLimiter
from lf_dagster.simulators.langfuse.modes import resolve
from tests.automation.rows import Life
from tests.automation.works import Works, works

H = Hour.from_key("2026-09-07-10:00")


@pytest.fixture
def life() -> Life:
    told = Life().span("root", "07T10:05", userId="u1", traceName="chat").generation("call", "07T10:05:10", cost=0.5)
    return told.span("next", "07T11:05", trace="t2").score("s", "07T10:20", 0.25)


def audited(world: Works) -> dict[str, Any]:
    """Metadata of an audit that is made now."""
    before = len(world.langfuse_requests())
    done = world.audit()
    assert done.success
    key = dg.AssetKey(["shop", "source_audit"])
    [made] = [event for event in done.all_events if event.is_step_materialization and event.asset_key == key]
    facts = {name: value.value for name, value in made.step_materialization_data.materialization.metadata.items()}
    return {**facts, "calls": Counter(world.langfuse_requests()[before:])}


@pytest.mark.slow
def test_a_week_that_matches_costs_one_call_per_view_and_is_settled(tmp_path: Path, life: Life):
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        world.settle()
        facts = audited(world)
        assert facts["calls"] == {"/api/public/v2/metrics": 4}
        assert (facts["hours"], facts["compared"], facts["settled"], facts["differing"]) == (2, 2, 2, 0)
        assert facts["not_settled"] == "Every hour is settled."
        picture = facts["picture"].removeprefix("![hours by state](data:image/png;base64,").rstrip(")")
        assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_a_difference_makes_an_hour_stale_until_it_was_read_after_that(tmp_path: Path, life: Life):
    life.span("late", "07T10:30", trace="t3", seen="07T13:10")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        world.settle()
        world.at("2026-09-07T13:20")
        facts = audited(world)
        assert (facts["stale"], facts["differing"]) == (1, 1)
        assert "| 2026-09-07-10:00 | stale | source_changed |" in facts["not_settled"]
        held = {item.hour: item for item in last_audit(world.lake, "shop").hours}[H]
        assert (held.source["observations"], held.held["observations"]) == (3, 2)

        world.later(minutes=1).settle()
        facts = audited(world.later(minutes=1))
        assert (facts["stale"], facts["differing"]) == (0, 0)


@pytest.mark.slow
def test_versions_that_are_not_merged_yet_are_read_for_once_and_no_more(tmp_path: Path, life: Life):
    life.store.merge_delay_ms = 40 * 3_600_000
    life.generation("call", "07T10:05:10", cost=0.5, seen="07T13:10")
    quiet = {"reconcile": {"revisit_hours": []}}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50", **quiet) as world:
        world.settle()
        assert audited(world.at("2026-09-07T13:20"))["stale"] == 1
        world.later(minutes=1).settle()
        facts = audited(world.later(minutes=9))
        assert (facts["differing"], facts["stale"]) == (1, 0)


@pytest.mark.slow
def test_a_used_up_quota_keeps_the_last_comparison_and_is_said(tmp_path: Path, life: Life):
    life.span("late", "07T10:30", trace="t3", seen="07T13:10")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        world.settle()
        assert audited(world.at("2026-09-07T13:20"))["stale"] == 1
        world.langfuse.state.server.limiter = RateLimiter(Limits.of(1, 86400, bucket=V2_METRICS))
        facts = audited(world.later(minutes=1))
        assert (facts["compared"], facts["stale"]) == (0, 1)
        assert "quota" in facts["note"]


@pytest.mark.slow
def test_a_legacy_server_is_asked_for_totals(tmp_path: Path, life: Life):
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        world.langfuse.state.server.mode = resolve("v3-legacy")
        world.settle()
        facts = audited(world)
        assert sum(facts["calls"].values()) == 3
        assert (facts["settled"], facts["differing"]) == (2, 0)


@pytest.mark.slow
def test_every_audit_is_kept_as_history(tmp_path: Path, life: Life):
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        audited(world)
        world.settle()
        audited(world.later(hours=1))
        audited(world.at("2026-09-08T01:00"))
        assert world.lake.audit_dates("shop") == ["2026-09-07", "2026-09-08"]
        rows = pq.read_table(world.lake.audit_path("shop", "2026-09-07")).to_pylist()
        states = [(row["audited_at"].hour, row["hour"].hour, row["state"]) for row in rows]
        assert states[:2] == [(12, 10, "missing"), (12, 11, "missing")]
        assert (13, 10, "settled") in states


def test_nothing_extracted_yet_is_no_error(tmp_path: Path, life: Life):
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        facts = audited(world)
        assert (facts["missing"], facts["note"]) == (2, "nothing is extracted yet")
        assert facts["calls"] == {}


@pytest.mark.slow
def test_an_hour_of_long_ago_that_is_stale_stops_no_audit(tmp_path: Path, life: Life):
    life.span("new", "30T10:05", trace="t4")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as world:
        world.settle()
        world.at("2026-09-30T11:50").rerun("2026-09-30T10:00")
        world.at("2026-10-30T11:50").rerun("2026-10-30T10:00")
        world.rerun(H.key, only=["observations"])
        facts = audited(world)
        assert (facts["compared"], facts["differing"]) == (1, 0)
        assert "| 2026-09-07-10:00 | stale |" in facts["not_settled"]
