"""LG-07, lookback: what appears within seven days of its time is found within a day, what comes later is told apart."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.automation.rows import Life
from tests.automation.works import tags_of, works
from tests.langguard.syncing import ids, metadata

SIX_DAYS_AGO, EIGHT_DAYS_AGO = "2026-09-09-09:00", "2026-09-07-09:00"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lg07_a_row_of_six_days_ago_is_found_and_one_of_eight_is_named_when_a_rerun_finds_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    life = Life().span("early", "07T09:05").span("known", "09T09:05", trace="u")
    life.span("six", "09T09:20", trace="v", seen="15T10:20").span("eight", "07T09:20", trace="w", seen="15T10:20")
    with works(tmp_path, life.store, start="2026-09-07T08:00", now="2026-09-15T09:50", hours_per_run=168) as shop:
        shop.settle()
        # A day as the daemon lives it: the audit every two hours, the sensor after it.
        asked = []
        for _ in range(12):
            shop.later(hours=2).audit()
            asked += shop.settle()
        assert (SIX_DAYS_AGO, SIX_DAYS_AGO, "source_changed") in [tags_of(request) for request in asked]
        assert (ids(shop, SIX_DAYS_AGO), ids(shop, EIGHT_DAYS_AGO)) == (["known", "six"], ["early"])
        assert "outside_window" not in metadata(shop, "raw_observations", SIX_DAYS_AGO)

        with caplog.at_level(logging.WARNING, "lf_dagster"):
            shop.rerun("2026-09-07T08:00", "2026-09-07T09:00")
        assert ids(shop, EIGHT_DAYS_AGO) == ["early", "eight"]
        found = [metadata(shop, "raw_observations", f"2026-09-07-{hour}:00")["outside_window"] for hour in ("08", "09")]
        assert found == [0, 1]
        [warning] = [record.getMessage() for record in caplog.records if "came after the window" in record.getMessage()]
        assert f"{EIGHT_DAYS_AGO}: found 1 observations" in warning
        shop.rerun(EIGHT_DAYS_AGO)
        assert metadata(shop, "raw_observations", EIGHT_DAYS_AGO)["outside_window"] == 0


@pytest.mark.slow
def test_lg07_history_that_is_read_for_the_first_time_is_not_outside_of_the_window(tmp_path: Path):
    life = Life().span("early", "07T09:05")
    with works(tmp_path, life.store, start="2026-09-07T09:00", now="2026-09-20T10:00") as shop:
        shop.rerun("2026-09-07T09:00")
        assert "outside_window" not in metadata(shop, "raw_observations", EIGHT_DAYS_AGO)
