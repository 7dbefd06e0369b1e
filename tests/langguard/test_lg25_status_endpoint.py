"""LG-25, the status endpoint: the document of `lf-dagster status --project X --json`, key by key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData

from lf_dagster.simulators.faults import Fault
from tests.automation.rows import Life
from tests.automation.works import works
from tests.langguard.syncing import Desk, somebody_runs

TEN = "2026-09-07-10:00"
SEED = json.loads("""
{"success": true,
 "data": {"isActive": false, "hasSchedule": true,
          "lastSync": {"id": "sync_123", "status": "completed", "itemsFetched": 45, "itemsIngested": 45,
                       "completedAt": "2024-03-15T10:30:00Z"}}}
""")
MORE = {"itemsSkipped": int, "windowStart": str, "windowEnd": str, "readPath": str, "limited": bool}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An hour with a trace of two observations, one of them in two versions, and a score; it is 11:30."""
    life = Life().span("root", "07T10:05").span("root", "07T10:05", seen="07T10:40").generation("call", "07T10:06")
    life.score("grade", "07T10:10", 1.0).store.merge_delay_ms = 2 * 3_600_000
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        yield Desk(world, tmp_path)


def sync(desk: Desk) -> object:
    return desk.call("sync", "--mode", "incremental").code


def test_lg25_the_keys_and_types_are_those_of_the_seed(desk: Desk):
    assert desk.status()["data"]["lastSync"] is None
    assert sync(desk) == 0
    document = desk.status()
    assert document.keys() == {*SEED, "projects"}
    assert document["data"].keys() == SEED["data"].keys()
    last, seed = document["data"]["lastSync"], SEED["data"]["lastSync"]
    assert last.keys() == {*seed, *MORE, "nextHour"}
    assert {name: type(last[name]) for name in seed} == {name: type(value) for name, value in seed.items()}
    assert {name: type(last[name]) for name in MORE} == MORE
    assert (document["success"], document["data"]["isActive"], document["data"]["hasSchedule"]) == (True, False, True)
    assert (last["status"], last["readPath"], last["limited"], last["nextHour"]) == ("completed", "v2", False, None)
    assert (last["itemsFetched"], last["itemsIngested"], last["itemsSkipped"]) == (4, 3, 1)
    assert (last["windowStart"], last["windowEnd"]) == ("2026-09-07T10:00:00Z", "2026-09-07T11:00:00Z")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", last["completedAt"])
    with desk.instance() as instance:
        assert instance.get_run_by_id(last["id"]) is not None
    assert [project["project"] for project in document["projects"]] == ["langfuse"]
    assert desk.call("status", "--json").document.keys() == {"projects"}, "several projects have several answers"


@pytest.mark.slow
def test_lg25_the_materialisation_carries_the_same_document(desk: Desk):
    assert sync(desk) == 0
    with desk.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["langfuse", "raw_observations"]))
        assert event is not None
        assert event.asset_materialization is not None
        carried: Any = event.asset_materialization.metadata["sync"].value
    document = desk.status()
    del document["projects"]
    for each in (carried, document):
        assert each["data"]["lastSync"].pop("completedAt").endswith("Z")
    assert carried == document


def test_lg25_active_is_a_project_only_while_a_run_is_in_progress(desk: Desk):
    def active() -> bool:
        return desk.status()["data"]["isActive"]

    assert not active()
    with desk.instance() as instance:
        somebody_runs(instance, TEN, status=dg.DagsterRunStatus.NOT_STARTED)
        assert not active()
        somebody_runs(instance, TEN, project="another")
        assert not active()
        running = somebody_runs(instance, TEN)
        assert active()
        # The mark of a process that is gone: nobody holds its lock.
        mark = Path(desk.lake.root) / "alive" / running
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(os.uname().nodename)
        assert not active()


@pytest.mark.slow
def test_lg25_a_sync_that_failed_is_called_so(desk: Desk):
    assert sync(desk) == 0
    desk.world.langfuse.state.faults.add(
        Fault(path="/api/public/v2/observations", status=401, body="{}", content_type="application/json", times=None)
    )
    assert sync(desk) == 1
    last = desk.status()["data"]["lastSync"]
    assert (last["status"], last["itemsFetched"], last["readPath"]) == ("failed", 0, None)


@pytest.mark.slow
def test_lg25_there_is_no_schedule_once_it_is_switched_off(desk: Desk):
    with desk.instance() as instance:
        switch_off(instance, "langfuse_hourly_schedule")
        assert not desk.status()["data"]["hasSchedule"]
        desk.variables["LF_DAGSTER_SYNC_EVERY_MINUTES"] = "5"
        assert desk.status()["data"]["hasSchedule"]
        switch_off(instance, "langfuse_sync_schedule")
        assert not desk.status()["data"]["hasSchedule"]


def switch_off(instance: dg.DagsterInstance, name: str) -> None:
    """What the switch in the UI does."""
    location = RegisteredCodeLocationOrigin("lf_dagster")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    facts = ScheduleInstigatorData("* * * * *")
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, facts))
