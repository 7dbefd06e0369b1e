"""Users, times and hours that change after delivery: one event stays one, and later corrections still arrive.

The real event tables against strict stand-ins.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.destinations import HourDelivery, deliver, open_destination
from lf_dagster.events import event_id
from lf_dagster.hours import Hour
from tests.destinations.world import ENV, NOW, World, mixpanel_events, posthog_events
from tests.events.events import HOST, EventProject
from tests.warehouse.extracts import v2_row

HOUR = Hour.from_key("2026-11-21-05:00")
MIDNIGHT = Hour.from_key("2026-11-21-00:00")
BOTH_PROTOCOLS = pytest.mark.parametrize("protocol", ["v1", "batch"])
BOTH_ORDERS = pytest.mark.parametrize("order", [(-1, 0), (0, -1)])


def project_at(folder: Path, world: World, **options: Any) -> EventProject:
    return EventProject(folder / "data", **{world.destination: {"host": world.origin, **options}})


def generation(trace: str = "t1", at: str = "2026-11-21T05:00:00.125Z", **changes: Any) -> dict[str, Any]:
    """One generation, the whole of its trace."""
    common = {"type": "GENERATION", "endTime": at, "model": "gpt-4o", "traceName": "chat"}
    return v2_row(f"g-{trace}-{at}", trace, at, **{**common, **changes})


def model(project: EventProject, rows: Sequence[dict[str, Any]], *hours: Hour) -> None:
    """The hours hold exactly these rows from now on."""
    project.extract_v2(rows, hours)
    project.run_all(hours)


def ship(project: EventProject, world: World, *hours: Hour, resend: bool = False) -> HourDelivery:
    """Deliver; the last hour's result."""
    world.clock.seconds += 60
    with open_destination(world.destination, project.settings, env=ENV) as opened:
        return deliver(
            opened,
            project=project.settings,
            project_id="proj-lf",
            project_name="LF Project",
            host=HOST,
            warehouse=project.warehouse,
            lake=project.lake,
            hours=hours,
            run_id="run",
            now=NOW,
            resend=resend,
        )[-1]


def persons(app: Any) -> dict[str, dict[str, Any]]:
    return app.state.standin.store.persons()


def anonymous_id(kind_id: str) -> str:
    return event_id("posthog", "proj-lf", kind_id)


@BOTH_PROTOCOLS
def test_posthog_replaces_an_event_whose_user_comes_late_and_makes_no_person_of_it(
    posthog: World, posthog_app: Any, tmp_path: Path, protocol: str
) -> None:
    project = project_at(tmp_path, posthog, protocol=protocol)
    model(project, [generation(userId=None)], HOUR)
    ship(project, posthog, HOUR)
    model(project, [generation(userId="u-42")], HOUR)
    result = ship(project, posthog, HOUR)
    assert (result.sent, result.delivered, result.identity_changed) == (2, 2, 2)
    merged = posthog_events(posthog_app)
    assert {event["distinct_id"] for event in merged} == {event["uuid"] for event in merged}
    assert [event["properties"]["langfuse_user_id"] for event in merged] == ["u-42", "u-42"]
    assert not [event for event in merged if "$set" in event["properties"]]
    assert persons(posthog_app) == {}
    assert ship(project, posthog, HOUR).sent == 0


@pytest.mark.slow
@BOTH_PROTOCOLS
def test_a_correction_that_follows_a_late_user_arrives_too(
    posthog: World, posthog_app: Any, tmp_path: Path, protocol: str
) -> None:
    project = project_at(tmp_path, posthog, protocol=protocol)
    for user, name in ((None, "gpt-4o"), ("u-42", "gpt-4o"), ("u-42", "gpt-5")):
        model(project, [generation(userId=user, model=name)], HOUR)
        result = ship(project, posthog, HOUR)
    assert (result.sent, result.unchanged, result.identity_changed) == (1, 1, 2)
    merged = posthog_events(posthog_app)
    assert len(merged) == 2
    assert [event["properties"].get("langfuse_model") for event in merged if "generation" in event["event"]] == [
        "gpt-5"
    ]


@BOTH_PROTOCOLS
def test_another_user_at_posthog_leaves_the_event_with_the_first_and_tells_nothing_of_the_second(
    posthog: World, posthog_app: Any, tmp_path: Path, protocol: str
) -> None:
    project = project_at(tmp_path, posthog, protocol=protocol)
    model(project, [generation(userId="u-1")], HOUR)
    ship(project, posthog, HOUR)
    before = persons(posthog_app)
    model(project, [generation(userId="u-2")], HOUR)
    assert ship(project, posthog, HOUR).identity_changed == 2
    merged = posthog_events(posthog_app)
    assert [(event["distinct_id"], event["properties"]["langfuse_user_id"]) for event in merged] == [
        ("u-1", "u-2"),
        ("u-1", "u-2"),
    ]
    assert persons(posthog_app) == before
    assert before["u-1"]["langfuse_user_url"].endswith("u-1")
    assert all(item.person_processing for item in posthog_app.state.standin.store.stored("raw"))
    assert ship(project, posthog, HOUR, resend=True).sent == 2
    assert len(posthog_events(posthog_app)) == 2


def test_mixpanel_gets_a_late_user_under_the_key_without_one(
    mixpanel: World, mixpanel_app: Any, tmp_path: Path
) -> None:
    project = project_at(tmp_path, mixpanel)
    for user, name in ((None, "gpt-4o"), ("u-42", "gpt-4o"), ("u-42", "gpt-5")):
        model(project, [generation(userId=user, model=name)], HOUR)
        result = ship(project, mixpanel, HOUR)
    assert (result.sent, result.identity_changed) == (1, 2)
    found = [event["properties"] for event in mixpanel_events(mixpanel_app)]
    assert [item["distinct_id"] for item in found] == ["", ""]
    assert not [item for item in found if "$user_id" in item]
    assert {item["langfuse_user_id"] for item in found} == {"u-42"}
    assert [item["langfuse_model"] for item in found if "langfuse_model" in item] == ["gpt-5"]
    assert ship(project, mixpanel, HOUR).sent == 0


def test_mixpanel_keeps_the_first_of_two_users(mixpanel: World, mixpanel_app: Any, tmp_path: Path) -> None:
    project = project_at(tmp_path, mixpanel)
    for user in ("u-1|with a bar", "u-2"):
        model(project, [generation(userId=user)], HOUR)
        result = ship(project, mixpanel, HOUR)
    assert (result.sent, result.reasons) == (2, {"identity_changed": 2})
    found = [event["properties"] for event in mixpanel_events(mixpanel_app)]
    assert {(item["distinct_id"], item["$user_id"], item["langfuse_user_id"]) for item in found} == {
        ("u-1|with a bar", "u-1|with a bar", "u-2")
    }
    assert len(found) == 2


@pytest.mark.slow
@BOTH_ORDERS
@BOTH_PROTOCOLS
def test_a_trace_that_moves_over_midnight_replaces_its_event_at_posthog(
    posthog: World, posthog_app: Any, tmp_path: Path, protocol: str, order: tuple[int, int]
) -> None:
    project = project_at(tmp_path, posthog, protocol=protocol)
    late, early = generation(at="2026-11-21T00:00:05.123Z"), generation(at="2026-11-20T23:59:58.000Z")
    model(project, [late], MIDNIGHT)
    ship(project, posthog, MIDNIGHT)
    model(project, [early, late], MIDNIGHT.shift(-1), MIDNIGHT)
    results = {step: ship(project, posthog, MIDNIGHT.shift(step)) for step in order}
    assert (results[-1].sent, results[-1].delivered, results[-1].reasons) == (2, 2, {"identity_changed": 1})
    assert (results[0].events, results[0].gone, results[0].deleted) == (1, 1, 0)
    (trace,) = [event for event in posthog_events(posthog_app) if event["event"] == "langfuse trace"]
    assert trace["timestamp"].startswith("2026-11-21T00:00:05.123")
    assert trace["properties"]["langfuse_timestamp"] == "2026-11-20T23:59:58.000Z"
    assert trace["properties"]["langfuse_count_observations"] == 2
    assert ship(project, posthog, MIDNIGHT.shift(-1), MIDNIGHT).sent == 0
    assert ship(project, posthog, MIDNIGHT.shift(-1)).sent == 0


@pytest.mark.slow
@BOTH_ORDERS
def test_a_trace_that_starts_earlier_than_it_seemed_keeps_its_time_at_mixpanel(
    mixpanel: World, mixpanel_app: Any, tmp_path: Path, order: tuple[int, int]
) -> None:
    project = project_at(tmp_path, mixpanel)
    late, early = generation(at="2026-11-21T05:00:05.123Z"), generation(at="2026-11-21T04:59:58.000Z")
    model(project, [late], HOUR)
    ship(project, mixpanel, HOUR)
    model(project, [early, late], HOUR.shift(-1), HOUR)
    results = {step: ship(project, mixpanel, HOUR.shift(step)) for step in order}
    assert (results[-1].identity_changed, results[0].gone, results[0].deleted) == (1, 1, 0)
    (trace,) = [event["properties"] for event in mixpanel_events(mixpanel_app) if event["event"].endswith("Trace")]
    assert trace["time"] == int(HOUR.start.timestamp() * 1000) + 5123
    assert trace["langfuse_timestamp"] == "2026-11-21T04:59:58.000Z"
    assert ship(project, mixpanel, HOUR.shift(-1), HOUR).sent == 0


def test_a_move_within_the_day_is_followed_at_posthog(posthog: World, posthog_app: Any, tmp_path: Path) -> None:
    project = project_at(tmp_path, posthog)
    late, early = generation(at="2026-11-21T05:00:05.123Z"), generation(at="2026-11-21T04:59:58.000Z")
    model(project, [late], HOUR)
    ship(project, posthog, HOUR)
    model(project, [early, late], HOUR.shift(-1), HOUR)
    ship(project, posthog, HOUR.shift(-1), HOUR)
    (trace,) = [event for event in posthog_events(posthog_app) if event["event"] == "langfuse trace"]
    assert trace["timestamp"].startswith("2026-11-21T04:59:58.000")
    assert "langfuse_timestamp" not in trace["properties"]


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_a_user_id_that_was_delivered_in_clear_is_not_sent_again_once_ids_are_hashed(
    destination: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_USER_SALT", "pepper")
    world: World = request.getfixturevalue(destination)
    rows = [generation("t1", userId="u-1"), generation("t2", at="2026-11-21T05:10:00.000Z", userId=None)]
    project = project_at(tmp_path, world)
    model(project, rows, HOUR)
    ship(project, world, HOUR)
    hashing = project_at(tmp_path, world, hash_user_ids_env="SHOP_USER_SALT")
    model(hashing, [rows[0], {**rows[1], "userId": "u-2"}], HOUR)
    result = ship(hashing, world, HOUR)
    # The events without user are free to take the hash of one into their properties.
    assert (result.sent, result.delivered, result.skipped) == (2, 2, 2)
    assert (result.reasons, result.identity_changed) == ({"identity_changed": 4}, 4)


def test_a_day_that_a_ledger_of_an_earlier_version_only_names_is_kept(
    posthog: World, posthog_app: Any, tmp_path: Path
) -> None:
    """Such a ledger has the time of an event that was not sent next to the key of the one that was."""
    project = project_at(tmp_path, posthog)
    late, early = generation(at="2026-11-21T00:00:05.123Z"), generation(at="2026-11-20T23:59:58.000Z")
    model(project, [late], MIDNIGHT)
    ship(project, posthog, MIDNIGHT)
    path = project.lake.ledger_path("demo", "posthog", MIDNIGHT)
    with project.warehouse.connect(read_only=True) as con:
        con.execute(
            f"CREATE TABLE old AS SELECT * REPLACE (time_ms - 6000 AS time_ms, 'skipped' AS status) "
            f"FROM read_parquet('{path}', hive_partitioning = false)"
        )
        con.execute(f"COPY old TO '{path}' (FORMAT parquet)")
    model(project, [early, late], MIDNIGHT.shift(-1), MIDNIGHT)
    ship(project, posthog, MIDNIGHT.shift(-1), MIDNIGHT)
    (trace,) = [event for event in posthog_events(posthog_app) if event["event"] == "langfuse trace"]
    assert trace["timestamp"].startswith("2026-11-21T00:00:00.000")
