"""LG-05: several projects side by side, each with its own keys; one that fails stops no other and says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.cli.check import check_project
from lf_dagster.cli.report import Report
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.works import Works, works
from tests.e2e.dagster_stack import Dagster, running_dagster, wait_for
from tests.e2e.stack import REPOSITORY, StandIns, run_cli, stand_ins

AUTH = "Authentication failed: Invalid API credentials"
REVOKED = "sk-lf-revoked"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Works, Works]]:
    """Two projects in one Dagster instance, one lake and one warehouse; the key of the second is revoked."""
    monkeypatch.setenv("SUPPORT_SECRET_KEY", REVOKED)
    for name in ("shop", "support"):
        (tmp_path / name).mkdir()
    hour: dict[str, Any] = {"start": "2026-09-07T10:00", "now": "2026-09-07T11:50", "data": str(tmp_path / "data")}
    own = {"name": "support", "langfuse": {"secret_key_env": "SUPPORT_SECRET_KEY"}}
    lives = [Life().span("root", "07T10:05").generation("call", "07T10:06") for _ in range(2)]
    with (
        works(tmp_path / "shop", lives[0].store, **hour) as shop,
        works(tmp_path / "support", lives[1].store, **hour, **own) as support,
    ):
        support.instance = shop.instance
        yield shop, support


@pytest.mark.slow
def test_lg05_a_revoked_key_fails_its_own_project_alone(two: tuple[Works, Works], capsys) -> None:
    shop, support = two
    asked = [(works_, request) for works_ in (support, shop) for request in works_.ask()]
    done = {works_.settings.name: works_.run(request) for works_, request in asked}
    assert (done["support"].success, done["shop"].success) == (False, True)
    assert shop.settled_until() == "2026-09-07-11:00"
    assert len(shop.posthog_events()) == 2
    assert support.settled_until() is None
    assert support.posthog_events() == support.mixpanel_events() == {}

    at, why = Report.of(support.settings, support.instance, support.clock.now).last_error or (None, "")
    assert at is not None
    assert why.startswith(AUTH)
    assert Report.of(shop.settings, shop.instance, shop.clock.now).last_error is None
    assert shop.ask() == []

    results = {works_.settings.name: all(check_project(works_.settings)) for works_ in (support, shop)}
    assert results == {"support": False, "shop": True}
    said = capsys.readouterr()
    assert AUTH in said.err
    assert REVOKED not in said.err + said.out


@pytest.mark.slow
def test_lg05_every_row_has_the_project_that_it_came_from(
    two: tuple[Works, Works], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, support = two
    monkeypatch.setenv("SUPPORT_SECRET_KEY", os.environ["LANGFUSE_SECRET_KEY"])
    object.__setattr__(support.store.project, "id", "proj-support")
    object.__setattr__(support.store.project, "name", "Support")
    for works_ in two:
        assert works_.rerun("2026-09-07T10").success
    with Warehouse.of(shop.settings, shop.lake).connect(read_only=True) as con:
        found = {
            schema: con.execute(f"SELECT DISTINCT project_id, project_name FROM warehouse.{schema}.traces").fetchall()
            for schema in ("shop", "support")
        }
    assert found == {"shop": [("proj-lf", "LF Project")], "support": [("proj-support", "Support")]}


DEFINITIONS = """
import dagster as dg

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project

ENV = __import__("os").environ
KEYS = {"support": {"secret_key_env": "SUPPORT_SECRET_KEY"}, "shop": {}}

defs = dg.Definitions.merge(
    *(build_project_definitions(load_project({"name": name, "langfuse": keys}, ENV)) for name, keys in KEYS.items()),
    dg.Definitions(executor=dg.in_process_executor),
)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[StandIns, dict[str, str]]]:
    """The stand-ins, and the environment of a code location with two projects."""
    life = Life().span("root", "07T10:05").generation("call", "07T10:06")
    (tmp_path / "two_projects.py").write_text(DEFINITIONS)
    with stand_ins(life.store) as running:
        yield (
            running,
            running.environment(
                tmp_path,
                LANGFUSE_START="2026-09-07-10:00",
                SUPPORT_SECRET_KEY=REVOKED,
                PYTHONPATH=f"{tmp_path}:{REPOSITORY}",
            ),
        )


@pytest.mark.slow
def test_lg05_check_goes_on_after_a_project_that_fails_and_exits_with_1(
    world: tuple[StandIns, dict[str, str]], tmp_path: Path
) -> None:
    _, environment = world
    done = run_cli(["check", "-m", "two_projects"], environment, tmp_path)
    assert done.returncode == 1
    assert AUTH in done.stderr
    assert "Connection successful: project LF Project (proj-lf)" in done.stdout
    assert done.stdout.index("support") < done.stdout.index("shop"), "the failing one is asked first"
    assert run_cli(["check", "-m", "two_projects", "-p", "shop"], environment, tmp_path).returncode == 0


LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
RUNS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { runs(limit: 5) { id status } } }
}"""
FAILURE = """
query ($id: ID!) {
  logsForRun(runId: $id) { ... on EventConnection { events { __typename
    ... on ExecutionStepFailureEvent { failureMetadata { description } error { message } }
  } } }
}"""
MATERIALIZED = """
query ($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) { ... on Asset { assetMaterializations { partition } } }
}"""
NAMES = (
    *("raw_observations", "raw_scores", "observations", "traces", "generations", "scores"),
    *("trace_events", "generation_events", "score_events", "mixpanel", "posthog"),
)


def launched(dagster: Dagster, project: str) -> str:
    selection = [{"path": [project, name]} for name in NAMES]
    params = {"assetSelection": selection, "partitionNames": ["2026-09-07-10:00"]}
    return dagster.query(LAUNCH, params=params)["launchPartitionBackfill"]["backfillId"]


def ended(dagster: Dagster, backfill: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        runs = dagster.query(RUNS, id=backfill)["partitionBackfillOrError"]["runs"]
        return runs[0] if runs and runs[0]["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return wait_for("the end of the run", probe, seconds=110)


def hours_of(dagster: Dagster, project: str, asset: str) -> set[str]:
    found = dagster.query(MATERIALIZED, key={"path": [project, asset]})["assetOrError"]
    return {item["partition"] for item in found.get("assetMaterializations", ())}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lg05_the_ui_shows_why_one_project_fails_while_the_other_is_done(
    world: tuple[StandIns, dict[str, str]], tmp_path: Path
) -> None:
    stand_in, environment = world
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from:\n  - python_module: two_projects\n")
    with running_dagster(environment, tmp_path, workspace=workspace) as dagster:
        backfills = {project: launched(dagster, project) for project in ("support", "shop")}
        runs = {project: ended(dagster, backfill) for project, backfill in backfills.items()}
        assert {project: run["status"] for project, run in runs.items()} == {"support": "FAILURE", "shop": "SUCCESS"}
        events = dagster.query(FAILURE, id=runs["support"]["id"])["logsForRun"]["events"]
        said = [event for event in events if event["__typename"] == "ExecutionStepFailureEvent"]
        shown = said[0]["failureMetadata"]["description"]
        assert shown.startswith(AUTH)
        assert REVOKED not in str(events)
        for asset in ("raw_observations", "traces", "mixpanel", "posthog"):
            assert hours_of(dagster, "shop", asset) == {"2026-09-07-10:00"}
            assert hours_of(dagster, "support", asset) == set()
    assert len(stand_in.posthog_events()) == 2
    status = run_cli(["status", "-m", "two_projects"], environment, tmp_path)
    assert AUTH in status.stdout
