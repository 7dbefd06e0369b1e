"""LG-15, incremental sync: a mark of the newest change seen, one request per endpoint when nothing is new, and no row
lost or doubled by whatever cuts a read short."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lf_dagster.hours import parse_hour
from lf_dagster.simulators.faults import Fault
from tests.automation.rows import Life
from tests.automation.works import works
from tests.langguard.syncing import extract, ids, metadata

TEN, ELEVEN = "2026-09-07-10:00", "2026-09-07-11:00"
LISTS = ("/api/public/v2/observations", "/api/public/v3/scores")


@pytest.mark.slow
def test_lg15_the_high_water_mark_is_the_newest_change_that_any_read_has_seen(tmp_path: Path):
    life = Life().span("early", "07T10:05", seen="07T12:40").span("late", "07T11:05", trace="u")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as shop:
        shop.rerun(TEN)
        assert "high_water_mark" not in metadata(shop, "raw_observations", TEN), "nothing is there yet"
        shop.at("2026-09-07T12:30").rerun(ELEVEN)
        assert metadata(shop, "raw_observations", ELEVEN)["high_water_mark"] == "2026-09-07T11:06:00.000Z"
        shop.at("2026-09-07T13:30").rerun(TEN)
        assert metadata(shop, "raw_observations", TEN)["high_water_mark"] == "2026-09-07T12:40:00.000Z"
        shop.rerun(ELEVEN)
        assert metadata(shop, "raw_observations", ELEVEN)["high_water_mark"] == "2026-09-07T12:40:00.000Z"


@pytest.mark.slow
def test_lg15_a_tick_that_finds_nothing_new_makes_one_request_per_endpoint(tmp_path: Path):
    life = Life().span("root", "07T12:05").score("grade", "07T12:06", 1.0)
    settings = {"sync_every_minutes": 5, "langfuse": {"read_path": "v2"}}
    with works(tmp_path, life.store, start="2026-09-07T12:00", now="2026-09-07T12:35", **settings) as shop:
        shop.scheduled("sync")
        sent, before = len(shop.mixpanel_events()), len(shop.langfuse_requests())
        shop.at("2026-09-07T12:40").scheduled("sync")
        requests = Counter(path.partition("?")[0] for path in shop.langfuse_requests()[before:])
        assert requests == {**dict.fromkeys(LISTS, 1), "/api/public/projects": 1, "/api/public/health": 1}
        assert metadata(shop, "mixpanel", "2026-09-07T12:00")["sent"] == 0
        assert len(shop.mixpanel_events()) == sent > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 2, 3])
def test_lg15_a_read_that_is_cut_between_pages_loses_and_doubles_nothing(tmp_path: Path, page: int):
    life = Life()
    for number in range(25):
        life.span(f"span-{number:02d}", f"07T10:{number:02d}", trace=f"t{number}")
    settings = {"langfuse": {"page_size": 10, "parallel_requests": 1, "read_path": "v2"}}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30", **settings) as shop:
        shop.langfuse.state.faults.add(
            Fault(path=LISTS[0], nth=page, status=401, body="{}", content_type="application/json")
        )
        assert not shop.rerun(TEN).success
        assert not shop.lake.extract_exists("shop", "observations", parse_hour(TEN)), "no half hours"
        assert shop.rerun(TEN).success
        assert ids(shop, TEN) == [f"span-{number:02d}" for number in range(25)]
        before = extract(shop, TEN)
        assert shop.rerun(TEN).success
        assert extract(shop, TEN) == before
        assert len(shop.mixpanel_events()) == len(shop.posthog_events()) == 25
