"""LG-24, the sync endpoint: `lf-dagster sync --mode ...`, its limit, and its refusal while a run is at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.automation.rows import Life
from tests.automation.works import works
from tests.e2e.dagster_stack import running_dagster, wait_for
from tests.e2e.stack import recorded_store, run_cli, stand_ins
from tests.langguard.syncing import Desk, somebody_runs

NINE, TEN, ELEVEN, TWELVE = (f"2026-09-07-{hour}:00" for hour in ("09", "10", "11", "12"))
INCREMENTAL = ("sync", "--project", "langfuse", "--mode", "incremental")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Three hours since 09:00 with two traces each; it is 12:10."""
    life = Life()
    for hour in (9, 10, 11, 12):
        life.span(f"{hour}-a", f"07T{hour:02d}:01", trace=f"{hour}-a").span(
            f"{hour}-b", f"07T{hour:02d}:05", trace=f"{hour}-b"
        )
    with works(tmp_path, life.store, start="2026-09-07T09:00", now="2026-09-07T12:10") as world:
        yield Desk(world, tmp_path)


def test_lg24_incremental_does_what_is_outstanding_and_the_newest_hour(desk: Desk):
    done = desk.call(*INCREMENTAL)
    assert done.code == 0, done.err
    assert desk.hours_read() == [NINE, TEN, ELEVEN]
    assert "langfuse: 3 hours done" in done.out
    again = desk.call(*INCREMENTAL)
    assert "langfuse: 1 hours done" in again.out
    assert "mixpanel: 0 events sent, 2 delivered in all" in again.out


@pytest.mark.slow
def test_lg24_incremental_reads_the_hour_under_way_where_that_is_wanted(desk: Desk):
    desk.variables["LF_DAGSTER_SYNC_EVERY_MINUTES"] = "5"
    assert desk.call(*INCREMENTAL).code == 0
    assert desk.hours_read()[-1] == TWELVE
    desk.world.at("2026-09-07T12:20")
    assert desk.call("sync", "--from", TWELVE, "--to", "now").code == 0
    assert "has not begun yet" in desk.call("sync", "--from", TWELVE, "--to", "2026-09-07T14").err


@pytest.mark.slow
def test_lg24_to_now_ends_with_the_last_hour_that_is_over(desk: Desk):
    assert desk.call("sync", "--mode", "backfill", "--from", TEN, "--to", "now").code == 0
    assert desk.hours_read() == [TEN, ELEVEN]


@pytest.mark.slow
def test_lg24_the_limit_ends_a_call_after_a_whole_hour_and_the_status_says_so(desk: Desk):
    done = desk.call(*INCREMENTAL, "--limit", "3")
    assert done.code == 0, done.err
    assert f"limited: 4 traces read; {ELEVEN} is the first hour not done" in done.out
    assert desk.hours_read() == [NINE, TEN]
    last = desk.status()["data"]["lastSync"]
    assert (last["limited"], last["nextHour"], last["itemsFetched"]) == (True, ELEVEN, 4)
    assert (last["windowStart"], last["windowEnd"]) == ("2026-09-07T09:00:00Z", "2026-09-07T11:00:00Z")
    assert desk.call(*INCREMENTAL, "--limit", "3").code == 0
    assert desk.hours_read() == [NINE, TEN, ELEVEN]
    last = desk.status()["data"]["lastSync"]
    assert (last["limited"], last["nextHour"]) == (False, None)


@pytest.mark.parametrize("arguments", [INCREMENTAL, ("sync", "--launch", "--from", TEN, "--to", ELEVEN)])
def test_lg24_a_call_for_an_hour_in_flight_is_refused_with_the_id_of_the_run(desk: Desk, arguments: tuple[str, ...]):
    with desk.instance() as instance:
        running = somebody_runs(instance, TEN)
    refused = desk.call(*arguments)
    assert refused.code == 4
    assert f"langfuse: run {running} is working on {TEN}" in refused.err
    assert desk.hours_read() == []
    with desk.instance() as instance:
        run = instance.get_run_by_id(running)
        assert run is not None
        instance.report_run_failed(run)
    assert desk.call(*INCREMENTAL).code == 0


@pytest.mark.slow
def test_lg24_hours_by_hand_without_a_mode_are_done_as_ever(desk: Desk):
    with desk.instance() as instance:
        somebody_runs(instance, TEN)
    assert desk.call("sync", "--from", TEN, "--to", ELEVEN).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which hours?"),
        (("--mode", "backfill"), "which hours?"),
        (("--mode", "incremental", "--from", TEN), "--mode incremental chooses its hours itself"),
        (("--mode", "incremental", "--launch", "--limit", "5"), "--limit counts while it reads"),
        (("--mode", "incremental", "--launch", "--url", "nowhere"), "not a URL"),
        (("--mode", "incremental", "--launch", "--url", "http://127.0.0.1:9"), "did not take the run"),
    ],
)
def test_lg24_a_wrong_call_is_answered_in_one_sentence(desk: Desk, arguments: tuple[str, ...], said: str):
    answer = desk.call("sync", *arguments)
    assert answer.code == 1
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_lg24_launch_returns_the_id_of_a_queued_run_at_once(tmp_path: Path):
    launch = ("sync", "--project", "langfuse", "--mode", "backfill", "--launch", "--from", "2026-11-21T00", "--to")
    with (
        stand_ins(recorded_store()) as recorded,
        running_dagster(environment := recorded.environment(tmp_path), tmp_path) as dagster,
    ):
        done = run_cli([*launch, "2026-11-21T02", "--url", dagster.origin], environment, tmp_path)
        assert done.returncode == 0, done.stderr
        run_id, first, last = done.stdout.split()
        assert (first, last) == ("2026-11-21-00:00", "2026-11-21-01:00")
        again = run_cli([*launch, "2026-11-21T01", "--url", dagster.origin], environment, tmp_path)
        assert (again.returncode, run_id in again.stderr) == (4, True), again.stderr

        def ended() -> str | None:
            answer = dagster.query("query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
            status = answer["runOrError"]["status"]
            return status if status in ("SUCCESS", "FAILURE") else None

        assert wait_for("the end of the run", ended) == "SUCCESS"
        found = run_cli(["status", "--project", "langfuse", "--json"], environment, tmp_path)
        assert json.loads(found.stdout)["data"]["lastSync"]["id"] == run_id
        assert len(recorded.posthog_events()) > 0
