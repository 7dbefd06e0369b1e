"""LG-17, backfill: past hours by hand end in the files of live runs; what was cut short goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.assets.runs import REQUESTED_TAG
from lf_dagster.hours import hour_range, parse_hour
from lf_dagster.simulators.faults import Fault
from tests.automation.rows import Life
from tests.automation.works import RANGE_END, RANGE_START, Works, hours_of, works
from tests.langguard.syncing import extract

START = "2026-09-05T00:00"
RAW = ["raw_observations", "raw_scores"]


def life_of(days: int) -> Life:
    """Ten spans an hour."""
    life = Life()
    for hour in range(24 * days):
        for number in range(10):
            at = f"{5 + hour // 24:02d}T{hour % 24:02d}:{number * 2:02d}"
            life.span(f"span-{hour:02d}-{number}", at, trace=f"t{hour}")
    return life


def files(shop: Works, hours: list[str]) -> dict[str, Any]:
    return {hour: extract(shop, hour) for hour in hours}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lg17_a_backfill_of_48_hours_gives_the_files_of_48_live_runs(tmp_path: Path):
    hours = [hour.key for hour in hour_range(parse_hour(START), parse_hour("2026-09-06T23:00"))]
    (tmp_path / "live").mkdir()
    (tmp_path / "backfill").mkdir()
    ten_pages = {"langfuse": {"page_size": 1, "read_path": "v2"}}
    with works(tmp_path / "live", life_of(2).store, start=START, now="2026-09-05T01:30", **ten_pages) as live:
        for hour in hours:
            live.clock.move(parse_hour(hour).end)
            live.later(minutes=30).rerun(hour, only=RAW)
        expected = files(live, hours)
    with works(tmp_path / "backfill", life_of(2).store, start=START, now="2026-09-10T00:00", **ten_pages) as shop:
        shop.rerun(hours[0], hours[-1], only=RAW)
        assert files(shop, hours) == expected
        assert sum(path.startswith("/api/public/v2/observations") for path in shop.langfuse_requests()) >= 480
    assert {len(rows) for rows in expected.values()} == {10}


@pytest.mark.slow
def test_lg17_an_interrupted_backfill_goes_on_with_what_is_missing(tmp_path: Path):
    settings = {"langfuse": {"read_path": "v2", "parallel_requests": 1}}
    with works(tmp_path, life_of(1).store, start=START, now="2026-09-05T06:50", **settings) as shop:
        shop.langfuse.state.faults.add(
            Fault(path="/api/public/v2/observations", nth=4, status=401, body="{}", content_type="application/json")
        )
        launched = {RANGE_START: "2026-09-05-00:00", RANGE_END: "2026-09-05-05:00"}
        assert not shop.run(dg.RunRequest(tags={**launched, REQUESTED_TAG: shop.clock.now.isoformat()})).success
        missing = [hour.key for hour in shop.account().missing]
        assert missing == ["2026-09-05-03:00", "2026-09-05-04:00", "2026-09-05-05:00"]
        kept = files(shop, ["2026-09-05-00:00", "2026-09-05-01:00", "2026-09-05-02:00"])
        asked = [hours_of(request) for request in shop.later(minutes=5).settle()]
        assert (missing[0], missing[-1]) in asked
        assert shop.settled_until() == "2026-09-05-06:00"
        assert files(shop, list(kept)) == kept
        assert len(shop.posthog_events()) == 6
