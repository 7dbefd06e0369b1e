"""A file that cannot be read is a problem of its hour alone: the others go on, and everybody is told which and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lf_dagster.cli.report import Report
from lf_dagster.cli.status import print_report
from lf_dagster.hours import Hour
from tests.automation.rows import Life
from tests.automation.works import Works, assets_of, hours_of, tags_of, works

TEN, ELEVEN, TWELVE, THIRTEEN = (f"2026-09-07-{hour}:00" for hour in (10, 11, 12, 13))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    """A trace in each of four hours from 10:00 on, of which the first is deleted at 13:00. It is 12:50, and the two
    hours that are due are settled."""
    life = Life().span("first", "07T10:05").span("second", "07T11:05", trace="u").span("third", "07T12:05", trace="v")
    life.span("fourth", "07T13:05", trace="w").trace_deleted("t", "07T13:00")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as running:
        running.settle()
        yield running


def damaged(path: str) -> Path:
    """Cuts a file short."""
    file = Path(path)
    left = file.read_bytes()[:-20]
    file.unlink()
    file.write_bytes(left)
    return file


def extract(shop: Works, key: str, stream: str = "observations") -> str:
    return shop.lake.extract_path("shop", stream, Hour.from_key(key))


def ledger(shop: Works, key: str, destination: str = "mixpanel") -> str:
    return shop.lake.ledger_path("shop", destination, Hour.from_key(key))


def report(shop: Works) -> Report:
    return Report.of(shop.settings, shop.instance, shop.clock.now)


def test_an_hour_with_a_broken_extract_is_read_again_and_nothing_is_sent_twice(shop: Works, capfd):
    broken, before = damaged(extract(shop, TEN)), shop.mixpanel_events()
    [request] = shop.ask()
    assert tags_of(request) == (TEN, TEN, "unreadable")
    logged = capfd.readouterr().err
    assert f"the extract of observations of {TEN} cannot be read: {broken}: Parquet magic bytes" in logged
    [told] = report(shop).document["unreadable"]
    assert (told["hour"], told["what"], told["file"]) == (TEN, "the extract of observations", str(broken))
    assert told["reason"].startswith("Parquet magic bytes not found")
    assert "read again from Langfuse" in told["do"]
    assert json.loads(shop.cursor or "")["unreadable"] == {str(broken): TEN}
    assert shop.run(request).success
    assert shop.settle() == []
    assert shop.skipped == "every hour is settled"
    assert (report(shop).document["unreadable"], report(shop).alarms) == ([], [])
    assert shop.mixpanel_events() == before
    assert len(list(broken.parent.glob("data.parquet.unreadable-*"))) == 1


@pytest.mark.slow
def test_other_hours_go_on_beside_a_broken_extract_that_langfuse_cannot_replace(shop: Works):
    damaged(extract(shop, TEN))
    shop.at("2026-09-07T13:50")
    asked = {tags_of(request) for request in shop.tick()}
    assert asked == {(TEN, TEN, "unreadable"), (TWELVE, TWELVE, "missing")}
    assert [item.state for item in shop.account().hours] == ["stale", "settled", "settled"]
    assert "this read returned no rows" in report(shop).document["last_error"]["message"]
    assert report(shop).document["unreadable"][0]["hour"] == TEN


def test_an_hour_with_a_broken_ledger_is_left_to_somebody_and_the_others_go_on(shop: Works, capsys, monkeypatch):
    broken, before = damaged(ledger(shop, TEN)), shop.mixpanel_events()
    assert shop.ask() == []
    said = f"the ledger of mixpanel of {TEN} cannot be read: {broken}: Parquet magic bytes not found in footer."
    assert said in (shop.skipped or "")
    assert "Restore the file from a backup, or move it away" in (shop.skipped or "")
    assert json.loads(shop.cursor or "")["unreadable"] == {str(broken): TEN}

    shop.at("2026-09-07T13:50")
    assert [tags_of(request) for request in shop.settle()] == [(TWELVE, TWELVE, "missing")]
    found = report(shop)
    assert found.alarms[0] == f"a ledger cannot be read, the first is of {TEN}"
    assert found.document["outstanding"]["unreadable_ledger"]["first"] == [TEN]
    destinations = found.document["destinations"]
    assert destinations["posthog"]["settled_until"] == THIRTEEN
    assert (destinations["mixpanel"]["settled_until"], destinations["mixpanel"]["delivered"]) == (None, 2)
    monkeypatch.setenv("COLUMNS", "100")
    print_report(found)
    text = capsys.readouterr().out
    assert f"{TEN}: the ledger of mixpanel cannot be read: {broken}: Parquet magic bytes" in text
    assert "move it away: the hour's events are then sent again under the same ids." in text
    assert shop.mixpanel_events().keys() >= before.keys()


def test_a_delivery_over_a_broken_ledger_fails_clearly_and_sends_nothing(shop: Works):
    damaged(ledger(shop, TEN))
    requests = len(shop.mixpanel.state.faults.requests("/import"))
    assert not shop.rerun("2026-09-07T10", only=["mixpanel"]).success
    assert len(shop.mixpanel.state.faults.requests("/import")) == requests
    assert "the delivery ledger cannot be read" in report(shop).document["last_error"]["message"]
    assert shop.rerun("2026-09-07T10", only=["posthog"]).success
    # It is nobody's to try again and again.
    assert shop.later(minutes=30).ask() == []


def test_once_the_ledger_is_moved_away_its_hour_is_sent_again_under_the_same_ids(shop: Works):
    broken, before = damaged(ledger(shop, TEN)), shop.mixpanel_events()
    assert shop.ask() == []
    broken.rename(broken.with_name("data.parquet.broken"))
    [request] = shop.tick()
    assert tags_of(request) == (TEN, TEN, "undelivered")
    assert shop.mixpanel_events() == before
    assert (shop.ask(), shop.skipped) == ([], "every hour is settled")


@pytest.mark.slow
def test_a_broken_file_of_an_hour_before_the_horizon_is_remembered(tmp_path: Path):
    life = Life().span("first", "07T10:05")
    short_sighted = {"horizon_hours": 2, "revisit_hours": [4]}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50", reconcile=short_sighted) as shop:
        shop.settle()
        broken = damaged(ledger(shop, TEN))
        asked = shop.at("2026-09-07T17:50").settle()
        # It is read again in time, in a run that leaves the destination out.
        [alone] = [request for request in asked if hours_of(request) == (TEN, TEN)]
        assert assets_of(alone) >= {"raw_observations", "trace_events", "posthog"}
        assert "mixpanel" not in assets_of(alone)
        assert all(assets_of(request) >= {"posthog", "mixpanel"} for request in asked if request is not alone)
        assert shop.ask() == []
        assert str(broken) in (shop.skipped or "")
        assert json.loads(shop.cursor or "")["settled"] == TEN


@pytest.mark.slow
def test_audits_that_cannot_be_read_are_none(shop: Works, caplog):
    assert shop.audit().success
    damaged(shop.lake.audit_path("shop", "2026-09-07"))
    assert shop.ask() == []
    assert "these audits cannot be read and are left out" in caplog.text
    assert shop.audit().success
    assert report(shop).document["audit"]["hours"] == 2


@pytest.mark.slow
def test_a_trace_file_of_a_legacy_past_may_be_broken(shop: Works):
    path = Path(extract(shop, TEN, "traces"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no parquet")
    assert shop.ask() == []
    assert shop.skipped == "every hour is settled"
    assert shop.rerun("2026-09-07T10").success
    assert shop.settle() == []


@pytest.mark.slow
def test_models_name_the_extract_that_they_cannot_read(shop: Works):
    path = damaged(extract(shop, TEN, "scores"))
    assert not shop.rerun("2026-09-07T10", only=["observations"]).success
    message = report(shop).document["last_error"]["message"]
    assert "the extract cannot be read" in message
    assert str(path) in message
