"""What `status` says of a project: how far it is settled, what is outstanding, what fails, and when it raises alarm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.cli import report as reports
from lf_dagster.cli.report import Report
from lf_dagster.cli.status import print_report
from lf_dagster.errors import WarehouseLocked
from lf_dagster.simulators.faults import Fault
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.works import Works, works

TEN, ELEVEN, TWELVE = (f"2026-09-07-{hour}:00" for hour in (10, 11, 12))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    """Three hours from 10:00 on, a trace in each; it is 12:50, the first two are due."""
    life = Life().span("root", "07T10:05").span("second", "07T11:05", trace="u").span("third", "07T12:05", trace="v")
    life.trace_deleted("t", "07T13:00")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T12:50") as running:
        yield running


def report(shop: Works) -> Report:
    return Report.of(shop.settings, shop.instance, shop.clock.now)


def document(shop: Works) -> dict[str, Any]:
    return report(shop).document


def text(shop: Works, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    print_report(report(shop))
    return capsys.readouterr().out


def test_where_all_is_well_it_says_how_far_and_nothing_else(shop: Works, capsys, monkeypatch):
    shop.settle()
    found = document(shop)
    assert (found["ok"], found["alarms"], found["outstanding"], found["failures"]) == (True, [], {}, [])
    assert (found["settled_until"], found["lag_minutes"], found["allowed_lag_minutes"]) == (TWELVE, 50.0, 150.0)
    assert found["extracted"]["rows"] == {"observations": 2, "scores": 0}
    for destination in found["destinations"].values():
        assert (destination["settled_until"], destination["delivered"]) == (TWELVE, 2)
    lines = text(shop, capsys, monkeypatch).splitlines()
    assert lines[0] == f"shop: settled up to {TWELVE} (UTC)"
    assert [line.split()[0] for line in lines[1:]] == ["2", "settled", "mixpanel", "posthog"]
    assert max(map(len, lines)) <= 100


def test_no_number_is_cut_where_the_terminal_is_narrow(shop: Works, capsys, monkeypatch):
    shop.settle()
    wide = text(shop, capsys, monkeypatch)
    monkeypatch.setenv("COLUMNS", "30")
    print_report(report(shop))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        line.split() for line in wide.splitlines()
    ]


@pytest.mark.slow
def test_without_dagster_history_it_reports_all_the_same(shop: Works):
    shop.settle()
    with dg.DagsterInstance.ephemeral() as other:
        assert Report.of(shop.settings, other, shop.clock.now).document["ok"]


@pytest.mark.slow
def test_hours_that_are_not_there_are_missing_and_the_lag_grows(shop: Works, capsys, monkeypatch):
    shop.settle()
    shop.at("2026-09-07T15:00")
    found = document(shop)
    assert found["extracted"]["missing"] == [{"from": TWELVE, "to": "2026-09-07-14:00", "hours": 2}]
    assert found["outstanding"]["missing"]["first"] == [TWELVE, "2026-09-07-13:00"]
    assert found["alarms"] == ["the lag is 3 h 00 min, allowed are 2 h 30 min"]
    assert f"missing 2 {TWELVE} It was not extracted yet." in " ".join(text(shop, capsys, monkeypatch).split())


@pytest.mark.slow
def test_an_hour_that_is_read_again_is_outstanding_but_not_late(shop: Works):
    shop.settle()
    shop.at("2026-09-07T13:50").settle()
    shop.at("2026-09-07T14:10")
    found = document(shop)
    assert found["outstanding"]["revisit"]["first"] == [TEN]
    assert (found["settled_until"], found["arrived_until"]) == (None, "2026-09-07-13:00")
    assert (found["lag_minutes"], found["ok"]) == (70.0, True)


def test_what_fails_again_and_again_is_named_with_its_next_try_and_its_error(shop: Works, capsys, monkeypatch):
    shop.mixpanel.state.faults.add(
        Fault(path="/import", times=None, status=401, body='{"error":"Invalid credentials"}')
    )
    shop.tick()
    for wait in (5, 10):
        shop.later(minutes=wait).tick()
    found = document(shop)
    [failure] = found["failures"]
    assert (failure["from"], failure["to"], failure["failures"], failure["failing"]) == (TEN, TWELVE, 3, True)
    assert failure["next_try"] == "2026-09-07T13:25:00.000Z"
    assert found["alarms"][0] == f"2 hours failed again and again, the first is {TEN}"
    assert "Mixpanel refuses the credentials" in found["last_error"]["message"]
    assert found["destinations"]["posthog"]["settled_until"] == TWELVE
    assert found["destinations"]["mixpanel"]["settled_until"] is None
    assert set(found["destinations"]["mixpanel"]["outstanding_hours"]) == {TEN, ELEVEN}
    said = text(shop, capsys, monkeypatch)
    assert f"{TEN} to {ELEVEN}: failures in a row: 3, next try 2026-09-07 13:25 UTC" in said
    assert "last error, 2026-" in said

    shop.mixpanel.state.faults.clear()
    shop.later(minutes=20).settle()
    after = document(shop)
    assert (after["ok"], after["failures"]) == (True, [])
    assert after["last_error"] is not None
    assert "last error" not in text(shop, capsys, monkeypatch)


def test_a_failed_rerun_of_a_settled_hour_is_no_failing_hour(shop: Works):
    shop.settle()
    shop.langfuse.state.faults.add(Fault(path="/api/public/v3/scores", status=403, times=None, body="{}"))
    assert not shop.rerun("2026-09-07T10", only=["raw_scores"]).success
    found = document(shop)
    assert (found["failures"], found["settled_until"]) == ([], TWELVE)
    assert found["last_error"] is not None


def test_deletions_and_the_last_audit_are_told(shop: Works, capsys, monkeypatch):
    shop.settle()
    assert shop.at("2026-09-07T13:10").audit().success
    found = document(shop)
    audit = {"at": "2026-09-07T13:10:00.000Z", "hours": 3, "compared": 2, "differing": 1, "note": None}
    assert found["audit"] == audit
    assert found["outstanding"]["source_changed"]["first"] == [TEN]
    shop.settle()
    found = document(shop)
    assert found["extracted"]["deleted"] == {"observations": 1, "scores": 0}
    assert found["destinations"]["posthog"]["deleted"] == 1
    said = text(shop, capsys, monkeypatch)
    assert "posthog: 1 delivered and since deleted in Langfuse" in said
    assert "last audit 2026-09-07 13:10 UTC, 1 hour with other numbers in Langfuse" in said


def test_why_an_audit_compared_nothing_is_told(shop: Works, capsys, monkeypatch):
    shop.settle()
    busy = '{"message":"Rate limit exceeded"}'
    shop.langfuse.state.faults.add(Fault(path="/api/public/v2/metrics", status=429, times=None, body=busy))
    assert shop.audit().success
    assert "metrics quota" in document(shop)["audit"]["note"]
    assert "the metrics quota of this Langfuse organization is used up" in " ".join(
        text(shop, capsys, monkeypatch).split()
    )


def test_a_busy_warehouse_is_named_after_a_bounded_wait(shop: Works, monkeypatch):
    monkeypatch.setattr(reports, "LOCK_TIMEOUT_SECONDS", 0.1)
    shop.settle()
    with Warehouse.of(shop.settings, shop.lake).connect() as con:
        con.execute("BEGIN")
        with pytest.raises(WarehouseLocked, match="is held by"):
            report(shop)


def test_the_audit_says_how_the_project_stands(shop: Works):
    shop.posthog.state.faults.add(Fault(path="/i/v1", times=None, status=401, body="{}"))
    shop.posthog.state.faults.add(Fault(path="/batch", times=None, status=401, body="{}"))
    shop.tick()
    assert shop.audit().success
    event = shop.instance.get_latest_materialization_event(dg.AssetKey(["shop", "source_audit"]))
    assert event is not None
    assert event.asset_materialization is not None
    facts = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert facts["settled_until"] == {"mixpanel": TWELVE, "posthog": None}
    assert facts["lag_minutes"] == 170.0
    assert "PostHog" in str(facts["last_error"])
