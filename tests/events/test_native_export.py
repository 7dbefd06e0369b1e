"""Our events in compatibility native against what Langfuse's own export sent for the same rows, property by property.

The server's export was recorded together with its API answers (tests/data/native-export). Score and observation
events must be equal. Trace and generation events may differ where they are listed here, each with its reason.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.events import PAYLOAD_SQL, load_catalogue, prepared_sql
from lf_dagster.hours import Hour
from tests.events.events import EventProject
from tests.warehouse.extracts import DATA, hours_of, moment, recorded

NATIVE = DATA / "native-export"

TOKENS = "Langfuse's export mixes up token properties of generations (total as input, cost as total); ours are right"
LAST_SPAN = "the last span to arrive overwrites name, version and release of the legacy trace row, which v2 rows keep"
OBSERVATION_VERSION = "in v2 rows of legacy traces the trace's version fills a generation's missing version"
COUNTED_USAGE = "usage that the server counted itself: two rows of its legacy table lack it, the v2 rows have it"

DIFFERENCES: dict[tuple[str, str], tuple[str, int]] = {
    ("trace", "langfuse_version"): (LAST_SPAN, 33),
    ("trace", "langfuse_cost_usd"): (COUNTED_USAGE, 2),
    ("generation", "langfuse_version"): (OBSERVATION_VERSION, 10),
    ("generation", "langfuse_cost_usd"): (COUNTED_USAGE, 2),
    ("generation", "langfuse_input_units"): (TOKENS, 153),
    ("generation", "langfuse_output_units"): (COUNTED_USAGE, 2),
    ("generation", "langfuse_total_units"): (TOKENS, 153),
}
"""(kind, property) -> reason and the largest number of events that may differ in it. Nothing else may."""

SENDER = {"$lib", "$lib_version", "$is_server"}
"""Who sent it: the SDK there, lf_dagster here."""


@cache
def native(destination: str) -> dict[str, dict[str, Any]]:
    """The server's events by event name and Langfuse id."""
    with gzip.open(NATIVE / f"{destination}.ndjson.gz", "rt", encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    return {f"{event['event']} {event['properties']['langfuse_id']}": event for event in events}


def rows_after_window() -> Iterator[dict[str, Any]]:
    """v2 rows for what the server's table held after the window: the trace events count them."""
    with gzip.open(NATIVE / "rows-after-window.ndjson.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield {
                "id": row["id"], "traceId": row["trace_id"], "type": row["type"], "name": row["name"],
                "parentObservationId": row["parent"] or None, "environment": row["env"], "level": row["level"],
                "startTime": iso_of(row["start_us"]), "endTime": iso_of(row["end_us"]), "userId": row["user_id"],
                "sessionId": row["session_id"], "traceName": row["trace_name"] or None, "version": row["version"],
                "release": row["release"], "tags": row["tags"], "isRootObservation": False, "metadata": {},
            }  # fmt: skip


def iso_of(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat(timespec="milliseconds")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> EventProject:
    project = EventProject(
        tmp_path_factory.mktemp("native"),
        compatibility="native",
        observation_events=True,
        mixpanel={"filters": {"exclude_environments": []}},
        posthog={"filters": {"exclude_environments": []}},
    )
    rows = [*recorded()["v2_observations"], *rows_after_window()]
    hours = hours_of(rows)
    project.extract_v2(rows, hours, recorded()["v3_scores"])
    project.run(hours)
    project.run_events(hours)
    return project


def sent(project: EventProject, destination: str) -> dict[str, dict[str, Any]]:
    """Our events of the window, by event name and Langfuse id."""
    protocol = {"mixpanel": "import", "posthog": "batch"}[destination]
    rows = project.prepared(destination, protocol)
    end = moment("2026-11-21T06:52:00Z").timestamp() * 1000
    return {
        f"{row['event']} {row['entity_id']}": {**row, "content": json.loads(row["payload"])}
        for row in rows
        if row["skip_reason"] is None and row["time_ms"] < end
    }


def differences(destination: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Names of what differs: top-level keys and properties; times as instants."""
    for key in (ours.keys() | theirs.keys()) - {"properties", "timestamp"}:
        if ours.get(key) != theirs.get(key):
            yield key
    if "timestamp" in theirs and moment(ours["timestamp"]) != moment(theirs["timestamp"]):
        yield "timestamp (of the event)"
    mine, native_ = ours["properties"], theirs["properties"]
    for name in (mine.keys() | native_.keys()) - SENDER:
        if name not in mine or name not in native_ or not same(mine[name], native_[name]):
            yield name


def same(mine: Any, native_: Any) -> bool:
    if isinstance(mine, float) and isinstance(native_, int | float):
        return abs(mine - native_) < 5e-13  # the server adds costs in another order, in floating point
    return mine == native_


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_events_equal_those_of_langfuse_s_own_export(
    project: EventProject, destination: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = sent(project, destination), native(destination)
    assert ours.keys() == theirs.keys()
    compared: Counter[tuple[str, str]] = Counter()
    different: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, event in theirs.items():
        kind = ours[key]["kind"]
        compared.update((kind, name) for name in event["properties"].keys() - SENDER)
        for name in differences(destination, ours[key]["content"], event):
            different[kind, name].append(ours[key]["entity_id"])
    with capsys.disabled():
        sys.stdout.write("\n".join(report(destination, compared, different)) + "\n")
    unexpected = {key: ids for key, ids in different.items() if len(ids) > DIFFERENCES.get(key, ("", 0))[1]}
    assert not unexpected


def report(
    destination: str, compared: Counter[tuple[str, str]], different: dict[tuple[str, str], list[str]]
) -> Iterator[str]:
    yield f"\n{destination}: {len(compared)} properties compared"
    for kind in ("score", "observation", "trace", "generation"):
        values = sum(count for (of, _), count in compared.items() if of == kind)
        unequal = sum(len(ids) for (of, _), ids in different.items() if of == kind)
        yield f"  {kind:12} {values:6} values, {values - unequal:6} equal, {unequal} different"
    for (kind, name), ids in sorted(different.items()):
        reason = DIFFERENCES.get((kind, name), ("NOT EXPECTED", 0))[0]
        yield f"    {kind}.{name}: {len(ids)} of {compared[kind, name]} ({reason}), such as {ids[0]}"


def test_token_properties_of_generations_are_right_where_the_export_mixes_them_up(project: EventProject) -> None:
    ours, rows = sent(project, "mixpanel"), {row["id"]: row for row in recorded()["v2_observations"]}
    mixed_up = 0
    for key, event in native("mixpanel").items():
        if not key.startswith("[Langfuse] Generation"):
            continue
        row, mine = rows[event["properties"]["langfuse_id"]], ours[key]["content"]["properties"]
        assert mine["langfuse_input_units"] == row["usageDetails"].get("input", 0)
        assert mine["langfuse_output_units"] == row["usageDetails"].get("output", 0)
        assert mine["langfuse_total_units"] == row["usageDetails"].get("total", 0)
        theirs = event["properties"]["langfuse_input_units"], event["properties"]["langfuse_total_units"]
        mixed_up += theirs == (row["usageDetails"].get("total", 0), row["costDetails"].get("total", 0))
    assert mixed_up == 153 - 2


def test_score_and_observation_events_have_no_listed_difference() -> None:
    assert {kind for kind, _ in DIFFERENCES} == {"trace", "generation"}


def test_totals_and_ids_are_those_of_the_server_s_tables(project: EventProject) -> None:
    truth: dict[str, list[str]] = json.loads(gzip.decompress((DATA / "langfuse" / "truth.json.gz").read_bytes()))
    before = "partition_hour < TIMESTAMPTZ '2026-11-21 07:00:00+00'"
    for table, key in (("observations", "observation_id"), ("traces", "trace_id"), ("scores", "score_id")):
        rows = project.query(f"SELECT {key} FROM {table} WHERE {before}")
        assert sorted(row[key] for row in rows) == sorted(truth[table])
    [cost] = project.query("SELECT sum(total_cost) AS total FROM observations")
    assert abs(cost["total"] - Decimal("0.802981249991")) < Decimal("1e-12")
    counts = {table: len(project.query(f"SELECT 1 FROM {table}")) for table in ("scores", "score_events")}
    assert counts == {"scores": 235, "score_events": 235}


def test_corrections_are_skipped_as_the_native_export_leaves_them_out(project: EventProject) -> None:
    skipped = [row for row in project.prepared("mixpanel", "import") if row["skip_reason"]]
    assert Counter(row["skip_reason"] for row in skipped) == {"filtered:correction": 8}


# Identity rules, on the inputs and outputs of the server's transformers


@lru_cache(maxsize=1)
def pairs() -> list[dict[str, Any]]:
    with gzip.open(NATIVE / "transform-pairs.ndjson.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def as_event_row(pair: dict[str, Any]) -> dict[str, Any]:
    """A row of the event table with the identity that a transformer was given."""
    given = pair["input"]
    event = next(event for event in load_catalogue() if event.kind == pair["kind"])
    columns = {item.name: item.column("native") for item in event.properties}
    row = {
        "event_kind": pair["kind"],
        "entity_id": given["langfuse_id"],
        "event_time": moment(given["timestamp"].replace(" ", "T").rstrip("Z") + "+00:00"),
        "partition_hour": datetime(2026, 11, 21, tzinfo=timezone.utc),
        "tags": given["langfuse_tags"],
    }
    for name, value in (
        ("user_id", given.get("langfuse_user_id")),
        ("session_id", given.get("langfuse_session_id")),
        ("mixpanel_session_id", given.get("mixpanel_session_id")),
        ("posthog_session_id", given.get("posthog_session_id")),
        ("langfuse_user_url", given.get("langfuse_user_url")),
        ("langfuse_user_id", given.get("langfuse_user_id")),
    ):
        row[columns.get(name) or event.context_column(name, "native")] = value
    return row


IDENTITY = {
    "mixpanel": ("time", "distinct_id", "$insert_id", "$user_id", "session_id", "langfuse_user_url"),
    "posthog": ("$set", "$process_person_profile", "langfuse_user_url"),
}


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_identity_follows_the_server_s_transformers(destination: str, tmp_path: Path) -> None:
    # A user id that is a number cannot be: Langfuse stores user ids as text.
    usable = [pair for pair in pairs() if isinstance(pair["input"].get("langfuse_user_id"), str | None)]
    assert len(usable) == 234
    project = EventProject(tmp_path, compatibility="native", observation_events=True)
    project.run_events([Hour.from_key("2026-11-21-00:00")])
    with project.changing_tables() as con:
        for pair in usable:
            row = as_event_row(pair)
            places = ", ".join("?" for _ in row)
            con.execute(f"INSERT INTO {pair['kind']}_events ({', '.join(row)}) VALUES ({places})", list(row.values()))
    for project_id in {pair["project_id"] for pair in usable}:
        prepared = {(row["kind"], row["entity_id"]): row for row in prepared_for(project, destination, project_id)}
        for pair in usable:
            if pair["project_id"] == project_id:
                ours = prepared[pair["kind"], pair["input"]["langfuse_id"]]
                compare_identity(destination, json.loads(ours["payload"]), pair[destination])


def prepared_for(project: EventProject, destination: Any, project_id: str) -> list[dict[str, Any]]:
    sql = prepared_sql(
        destination,
        project.settings,
        protocol="import" if destination == "mixpanel" else "batch",
        project_id=project_id,
        project_name="",
        host="",
        user_id_salt=None,
    )
    return project.query(f"SELECT *, {PAYLOAD_SQL} AS payload FROM ({sql})")


def compare_identity(destination: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    mine, native_ = ours["properties"], theirs["properties"]
    for name in IDENTITY[destination]:
        assert mine.get(name, "absent") == native_.get(name, "absent"), name
    if destination == "posthog":
        assert ours["uuid"] == theirs["uuid"]
        assert ours["distinct_id"] == theirs["distinctId"]
        # The export reads a missing session as "" from its tables; the transformers alone pass null through.
        assert mine["$session_id"] == (native_["$session_id"] or "")
