"""LG-16, duplicates: whatever is read twice is there once, in its newest version, in files, tables and destinations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.automation.rows import Life
from tests.automation.works import Works, works
from tests.langguard.syncing import extract, metadata, table

TEN, ELEVEN, TWELVE = (f"2026-09-07-{hour}:00" for hour in (10, 11, 12))


def counts(shop: Works) -> tuple[object, ...]:
    keys = {"observations": "observation_id", "scores": "score_id"}
    tables = [table(shop, f"SELECT count(*), count(DISTINCT {key}) FROM shop.{name}") for name, key in keys.items()]
    files = [extract(shop, hour) for hour in (TEN, ELEVEN, TWELVE)]
    return (*tables, files, len(shop.mixpanel_events()), len(shop.posthog_events()))


@pytest.mark.slow
def test_lg16_reading_an_hour_twice_and_hours_that_overlap_changes_no_count(tmp_path: Path):
    life = Life().span("root", "07T10:05").generation("call", "07T10:06").score("grade", "07T10:10", 1.0)
    life.span("long", "07T11:50", minutes=30, trace="u").generation("inner", "07T12:05", trace="u")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T13:30") as shop:
        shop.rerun(TEN, TWELVE)
        first = counts(shop)
        assert first[:2] == ([(4, 4)], [(1, 1)])
        shop.rerun(TEN)
        shop.rerun(TEN, ELEVEN)
        shop.rerun(ELEVEN, TWELVE)
        assert counts(shop) == first


def test_lg16_of_two_versions_the_one_that_was_written_last_counts(tmp_path: Path):
    life = Life().span("root", "07T10:05", name="draft").span("root", "07T10:05", seen="07T10:30", name="final")
    life.store.merge_delay_ms = 2 * 3_600_000  # both versions are served until they are merged
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as shop:
        shop.rerun(TEN)
        assert metadata(shop, "raw_observations", TEN)["duplicates"] == 1
        assert table(shop, "SELECT observation_id, name FROM shop.observations") == [("root", "final")]
