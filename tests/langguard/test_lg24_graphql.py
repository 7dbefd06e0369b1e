"""LG-24 and LG-25 through GraphQL: every example of docs/graphql.md, as it stands there, against a running Dagster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.dagster_stack import Dagster, running_dagster, wait_for
from tests.e2e.stack import REPOSITORY, StandIns, recorded_store, stand_ins

DOCUMENT = REPOSITORY / "docs" / "graphql.md"
EXAMPLE = re.compile(
    r"^## (?P<title>.+?)$.*?^```graphql\n(?P<query>.*?)^```\n+```json\n(?P<variables>.*?)^```$", re.M | re.S
)
ENDED = {"SUCCESS", "FAILURE", "CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}


@dataclass(frozen=True)
class Example:
    """One example: a query and its variables, ids left open as `<run id>` or `<backfill id>`."""

    query: str
    variables: str

    def ask(self, dagster: Dagster, **ids: str) -> Any:
        """The answer: the one field asked for. Fails for an error among the data, too."""
        text = self.variables
        for name, value in ids.items():
            text = text.replace(f"<{name.replace('_', ' ')}>", value)
        [answer] = dagster.query(self.query, **json.loads(text)).values()
        for each in answer if isinstance(answer, list) else [answer]:
            assert not re.search(r"Error|Failure|Invalid", each["__typename"]), answer
        return answer


def examples() -> dict[str, Example]:
    found = EXAMPLE.finditer(DOCUMENT.read_text())
    return {match["title"]: Example(match["query"], match["variables"]) for match in found}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dagster, StandIns]]:
    folder = tmp_path_factory.mktemp("graphql")
    with stand_ins(recorded_store()) as world, running_dagster(world.environment(folder), folder) as dagster:
        yield dagster, world


def test_lg24_every_query_of_the_document_has_variables_and_is_tested():
    assert DOCUMENT.read_text().count("```graphql") == len(examples()) == 11


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lg24_the_examples_of_the_document_work_as_they_stand(running: tuple[Dagster, StandIns]):
    dagster, world = running
    tried, known = set[str](), examples()

    def ask(title: str, **ids: str) -> Any:
        tried.add(title)
        return known[title].ask(dagster, **ids)

    run = ask("Sync an hour")["run"]["runId"]
    assert run in {each["runId"] for each in ask("Runs under way")["results"]}
    assert ended(lambda: ask("State of a run", run_id=run)) == "SUCCESS"
    [newest] = ask("The last sync")["assetMaterializations"]
    entries = {entry["label"]: entry for entry in newest["metadataEntries"]}
    last = json.loads(entries["sync"]["jsonString"])["data"]["lastSync"]
    assert (newest["partition"], last["id"], last["status"]) == ("2026-11-21-02:00", run, "completed")
    rows = 234 + 38  # observations and scores that were recorded of the hour
    assert (last["itemsFetched"], last["windowStart"]) == (rows, "2026-11-21T02:00:00Z")
    assert entries["high_water_mark"]["text"].startswith("2026-11-2")
    checks = {check["name"]: check for node in ask("What the checks say") for check in _checks(node)}
    assert checks.keys() == {"accounted", "rejections", "on_time", "matches_source"}
    hour = {"startKey": "2026-11-21-02:00", "endKey": "2026-11-21-02:00", "status": "SUCCEEDED"}
    assert checks["accounted"]["partitionStatuses"]["ranges"] == [hour]
    assert checks["accounted"]["executionForLatestMaterialization"]["evaluation"]["success"]
    assert len(world.posthog_events()) > 0

    backfill = ask("Backfill a range of hours")["backfillId"]
    assert ended(lambda: ask("State of a backfill", backfill_id=backfill)) == "COMPLETED_SUCCESS"
    assert ask("State of a backfill", backfill_id=backfill)["numPartitions"] == 5
    again = ask("Backfill a range of hours")["backfillId"]
    ask("Cancel a backfill", backfill_id=again)
    assert ended(lambda: ask("State of a backfill", backfill_id=again)) == "CANCELED"
    rest = ask("Go on with a backfill that failed", backfill_id=again)["backfillId"]
    assert ended(lambda: ask("State of a backfill", backfill_id=rest)) == "COMPLETED_SUCCESS"

    waiting = ask("Sync an hour")["run"]["runId"]
    ask("Cancel a run", run_id=waiting)
    assert ended(lambda: ask("State of a run", run_id=waiting)) == "CANCELED"
    assert ask("Is the schedule on?")["scheduleState"]["status"] == "RUNNING"
    assert tried == known.keys()


def ended(look: Any) -> str:
    def probe() -> str | None:
        status = look()["status"]
        return status if status in ENDED else None

    return wait_for("the end", probe, seconds=110)


def _checks(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    return node["assetChecksOrError"]["checks"]
