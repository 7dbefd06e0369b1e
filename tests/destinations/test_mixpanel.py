"""Mixpanel's answers and what becomes of each: nothing lost, nothing doubled, nothing silently damaged."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.config import MixpanelSettings
from lf_dagster.destinations import open_destination
from lf_dagster.destinations.mixpanel import ORIGINS, Mixpanel
from lf_dagster.errors import (
    AuthenticationError,
    ConfigError,
    LfDagsterError,
    ProtocolError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from lf_dagster.hours import Hour
from lf_dagster.http import RetryPolicy
from lf_dagster.simulators import mixpanel as standin
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.server import serve
from tests.destinations.world import (
    HOUR,
    MIXPANEL_TOKEN,
    NOW,
    Clock,
    Event,
    World,
    balanced,
    events,
    mixpanel_events,
    only,
)


def poisoned(entity: str, offset_ms: int) -> Event:
    """An event that local rules let pass and the server refuses: the time in its payload is text."""
    return Event(entity=entity, offset_ms=offset_ms, properties={"time": "soon"})


def json_answer(status: int, body: Any, **options: Any) -> Fault:
    return Fault(status=status, body=json.dumps(body), content_type="application/json", **options)


def test_a_refused_event_becomes_a_dead_letter_and_the_others_are_stored(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put([*events(9), poisoned("bad", 100)])
    result = only(mixpanel.deliver())
    assert (result.delivered, result.rejected, result.requests) == (9, 1, 1)
    assert len(mixpanel_events(mixpanel_app)) == 9
    (row,) = mixpanel.rows(where="status = 'rejected'")
    assert row["reason"].startswith("refused:properties.time: 'properties.time' is invalid")
    assert json.loads(row["payload"])["properties"]["time"] == "soon"
    assert row["delivered_identity"] is None
    (first,) = result.first_rejections
    assert (first["entity_id"], first["distinct_id"]) == ("bad", "use...(6 characters)")


def test_a_refused_event_is_not_sent_again_until_it_changes(mixpanel: World) -> None:
    mixpanel.put([poisoned("bad", 0)])
    mixpanel.deliver()
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.rejected) == (0, 1)
    mixpanel.put([Event(entity="bad")])
    result = only(mixpanel.deliver(run="run-3"))
    assert (result.sent, result.delivered, result.rejected) == (1, 1, 0)


def test_a_changed_event_that_is_refused_still_says_what_mixpanel_holds(mixpanel: World) -> None:
    mixpanel.put([Event(entity="e0")])
    mixpanel.deliver()
    mixpanel.put([poisoned("e0", 0)])
    assert only(mixpanel.deliver(run="run-2")).rejected == 1
    (row,) = mixpanel.rows()
    assert row["delivered_identity"] == row["identity"]
    assert row["delivered_hash"] != row["payload_hash"]


@pytest.mark.parametrize(("status", "key"), [(400, "$insert_id"), (200, "insert_id")])
def test_refused_events_are_read_at_any_status_and_under_either_key(
    tmp_path: Path, clock: Clock, status: Any, key: Any
) -> None:
    behaviour = standin.Behaviour(partial_status=status, insert_id_key=key)
    app = standin.create_app(tokens={MIXPANEL_TOKEN: 7}, clock=clock, behaviour=behaviour)
    with serve(app) as server:
        world = World(tmp_path, "mixpanel", server.origin, clock=clock)
        world.put([*events(3), poisoned("bad", 50)])
        result = only(world.deliver())
    assert (result.delivered, result.rejected) == (3, 1)


def test_a_refused_event_without_index_is_found_by_its_id(mixpanel: World, mixpanel_app: Any) -> None:
    bad = events(3)[1]
    mixpanel.put(events(3))
    answer = {
        "code": 400,
        "num_records_imported": 2,
        "failed_records": [{"$insert_id": bad.prepared("import")[4], "message": "no"}],
    }
    mixpanel_app.state.faults.add(json_answer(400, answer))
    only(mixpanel.deliver())
    assert mixpanel.statuses() == {"e0": "delivered", "e1": "rejected|refused:no", "e2": "delivered"}


def test_events_that_a_partial_answer_leaves_open_are_sent_again_alone(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(4))
    answer = {
        "code": 400,
        "num_records_imported": 1,
        "failed_records": [{"index": 0, "field": "f", "message": "m"}],
    }
    mixpanel_app.state.faults.add(json_answer(400, answer))
    result = only(mixpanel.deliver())
    assert (result.delivered, result.rejected, result.requests) == (3, 1, 2)
    assert len(mixpanel_events(mixpanel_app)) == 3


def test_a_poisoned_batch_is_halved_down_to_the_event(mixpanel: World, mixpanel_app: Any) -> None:
    # A trailing comma passes DuckDB's JSON and makes Mixpanel refuse the whole body.
    mixpanel.put([*events(63), Event(entity="bad", offset_ms=20, raw_payload='{"event":"e","properties":{"p":1,}}')])
    result = only(mixpanel.deliver())
    assert (result.delivered, result.rejected) == (63, 1)
    assert mixpanel.statuses()["bad"].startswith("rejected|refused:standin: the body cannot be parsed")
    assert len(mixpanel_events(mixpanel_app, "raw")) == 63
    assert result.requests == 1 + 2 * 6


def test_a_single_event_that_is_refused_whole_becomes_a_dead_letter(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(1))
    mixpanel_app.state.faults.add(json_answer(400, {"code": 400, "error": "unparsable"}))
    result = only(mixpanel.deliver())
    assert result.reasons == {"refused:unparsable": 1}


def test_when_every_event_is_refused_the_run_fails_and_none_is_buried(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(64))
    mixpanel_app.state.faults.add(json_answer(400, {"code": 400, "error": "no such dialect"}, times=None))
    with pytest.raises(RequestRejected, match=r"every event is refused, one by one: refused:no such dialect"):
        mixpanel.deliver()
    assert mixpanel.rows() == []
    mixpanel_app.state.faults.clear()
    assert only(mixpanel.deliver(run="run-2")).delivered == 64


def test_a_request_that_is_too_large_is_halved(tmp_path: Path, clock: Clock) -> None:
    app = standin.create_app(tokens={MIXPANEL_TOKEN: 7}, clock=clock, limits=standin.Limits(body_bytes=20_000))
    with serve(app) as server:
        world = World(tmp_path, "mixpanel", server.origin, clock=clock)
        world.put(events(400))
        result = only(world.deliver())
    assert (result.delivered, len(mixpanel_events(app, "raw"))) == (400, 400)
    assert result.requests > 1


def test_an_event_that_is_too_large_by_itself_becomes_a_dead_letter(tmp_path: Path, clock: Clock) -> None:
    app = standin.create_app(tokens={MIXPANEL_TOKEN: 7}, clock=clock, limits=standin.Limits(body_bytes=5_000))
    with serve(app) as server:
        world = World(tmp_path, "mixpanel", server.origin, clock=clock)
        world.put([*events(3), Event(entity="big", offset_ms=9, properties={"text": "x" * 6_000})])
        only(world.deliver())
    assert world.statuses()["big"] == "rejected|refused:too large for Mixpanel (413)"
    assert len(mixpanel_events(app, "raw")) == 3


def test_batches_stay_below_the_configured_bytes(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.options = {"batch_bytes": 10_000}
    mixpanel.put(events(100, properties={"text": "x" * 900}))
    result = only(mixpanel.deliver())
    assert result.requests >= 11
    assert len(mixpanel_events(mixpanel_app, "raw")) == 100


def test_rate_limits_are_waited_out_with_growing_waits(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(3))
    mixpanel_app.state.faults.add(Fault.rate_limited(times=3))
    result = only(mixpanel.deliver())
    assert (result.delivered, result.retries, result.requests) == (3, 3, 4)
    # 2, 4 and 8 s, each with 1 to 5 s of jitter.
    assert 14 + 3 <= sum(mixpanel.slept) <= 14 + 15
    assert result.waited_seconds == pytest.approx(sum(mixpanel.slept))


def test_retry_after_is_the_floor_of_a_wait(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(1))
    mixpanel_app.state.faults.add(Fault.rate_limited(retry_after=17))
    only(mixpanel.deliver())
    assert sum(mixpanel.slept) >= 17


def test_a_rate_limit_that_never_ends_fails_retryably(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(1))
    mixpanel_app.state.faults.add(Fault.rate_limited(times=None))
    with pytest.raises(RateLimited) as caught:
        mixpanel.deliver()
    assert caught.value.context["destination"] == "mixpanel"


def test_bad_credentials_fail_at_once_and_are_not_in_the_error(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.env["MIXPANEL_PROJECT_TOKEN"] = "0000wrongtoken0000"
    mixpanel.put(events(3))
    with pytest.raises(AuthenticationError, match="Mixpanel refuses the credentials") as caught:
        mixpanel.deliver()
    assert "0000wrongtoken0000" not in str(caught.value)
    assert "mixpanel.project_token_env" in str(caught.value)
    assert [request.status for request in mixpanel_app.state.faults.requests("/import")] == [401]
    assert mixpanel.slept == []


def test_a_gateway_error_in_html_is_retried(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(3))
    mixpanel_app.state.faults.add(Fault.bad_gateway())
    assert only(mixpanel.deliver()).delivered == 3


@pytest.mark.parametrize("fault", [Fault.html_ok(), Fault.html_ok(status=400), Fault.html_ok(status=404)])
def test_a_web_page_in_place_of_an_answer_is_named_as_such(mixpanel: World, mixpanel_app: Any, fault: Fault) -> None:
    mixpanel.put(events(3))
    mixpanel_app.state.faults.add(fault)
    with pytest.raises(ProtocolError, match="a web page came") as caught:
        mixpanel.deliver()
    assert "mixpanel.host" in str(caught.value)
    assert mixpanel.rows() == []


@pytest.mark.parametrize("truncate_to", [0, 10])
def test_a_broken_answer_is_no_success(mixpanel: World, mixpanel_app: Any, truncate_to: int) -> None:
    mixpanel.put(events(3))
    mixpanel_app.state.faults.add(Fault(truncate_to=truncate_to))
    with pytest.raises(ProtocolError, match="not what /import answers"):
        mixpanel.deliver()
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.delivered) == (3, 3)
    assert len(mixpanel_events(mixpanel_app)) == 3


def test_fewer_stored_than_sent_fails_the_run(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(3))
    mixpanel_app.state.faults.add(json_answer(200, {"code": 200, "num_records_imported": 2, "status": "OK"}))
    with pytest.raises(ProtocolError, match="stored 2 of 3 events"):
        mixpanel.deliver()
    assert mixpanel.rows() == []


def test_a_connection_cut_after_storing_leaves_one_event_per_identity(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(5))
    mixpanel_app.state.faults.add(Fault(cut="after"))
    result = only(mixpanel.deliver())
    assert (result.delivered, result.retries) == (5, 1)
    assert len(mixpanel_events(mixpanel_app, "raw")) == 10
    assert len(mixpanel_events(mixpanel_app, "query")) == 5


def test_a_failing_hour_keeps_what_was_acknowledged_and_says_what_is_outstanding(
    mixpanel: World, mixpanel_app: Any
) -> None:
    mixpanel.options = {"batch_events": 10, "parallel_requests": 1}
    mixpanel.put(events(30))
    mixpanel_app.state.faults.add(Fault.unavailable(nth=2))
    with pytest.raises(ServiceUnavailable) as caught:
        mixpanel.deliver(opened=mixpanel.open(retry=RetryPolicy(attempts=1)))
    assert caught.value.context["project"] == "shop"
    facts = mixpanel.ledger.facts(HOUR)
    assert facts is not None
    assert (facts["events"], facts["delivered"], facts["outstanding"]) == ("30", "10", "20")
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.unchanged, result.delivered) == (20, 10, 30)
    assert len(mixpanel_events(mixpanel_app, "raw")) == 30


def test_hours_before_the_failing_one_are_reported(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.options = {"parallel_requests": 1}
    hours = [HOUR, HOUR.shift(1), HOUR.shift(2)]
    mixpanel.put([Event(entity=hour.key, hour=hour) for hour in hours])
    mixpanel_app.state.faults.add(Fault(status=401, body="{}", content_type="application/json", nth=2))
    seen: list[Hour] = []
    with pytest.raises(AuthenticationError):
        mixpanel.deliver(hours, on_hour=lambda result: seen.append(result.hour))
    assert seen == [HOUR]


def _bad_events() -> list[Event]:
    now_ms = int(NOW.timestamp() * 1000)
    nested: dict[str, Any] = {"a": {"b": {"c": {"d": 1}}}}
    return [
        Event(entity="no_name", event=""),
        Event(entity="year_1969", time_ms=-1),
        Event(entity="in_2_hours", time_ms=now_ms + 7_200_000),
        Event(entity="in_30_minutes", time_ms=now_ms + 1_800_000),
        Event(entity="denied", user=" N/A "),
        Event(entity="charset", event_id="a_b"),
        Event(entity="long_id", event_id="a" * 37),
        Event(entity="too_many", properties={f"p{n}": n for n in range(300)}),
        Event(entity="long_array", properties={"list": list(range(255))}),
        Event(entity="deep", properties={"x": nested}),
        Event(entity="deep_arrays", properties={"x": [[[["a"]]]]}),
        Event(entity="megabyte", properties={"text": "x" * 1_000_000}),
        Event(entity="surrogate", raw_payload='{"event":"e","properties":{"p":"\\ud800"}}'),
        Event(entity="nan", raw_payload='{"event":"e","properties":{"p":NaN}}'),
        Event(entity="minus_infinity", raw_payload='{"event":"e","properties":{"p":[-Infinity]}}'),
        Event(entity="broken", raw_payload='{"event":"e",'),
    ]


def test_what_mixpanel_would_refuse_is_rejected_here_with_its_reason(mixpanel: World, mixpanel_app: Any) -> None:
    bad = [replace(event, event_id=event.event_id, offset_ms=n) for n, event in enumerate(_bad_events())]
    mixpanel.put([*bad, Event(entity="good", offset_ms=500)])
    result = only(mixpanel.deliver())
    assert (result.rejected, result.delivered, result.sent) == (len(bad), 1, 1)
    reasons = {entity: status.partition("|")[2] for entity, status in mixpanel.statuses().items()}
    assert reasons == {
        "no_name": "invalid:event_name",
        "year_1969": "invalid:time_before_1971",
        "in_2_hours": "invalid:time_in_future",
        "in_30_minutes": "invalid:time_in_future",
        "denied": "invalid:distinct_id",
        "charset": "invalid:insert_id",
        "long_id": "invalid:insert_id",
        "too_many": "invalid:members",
        "long_array": "invalid:members",
        "deep": "invalid:depth",
        "deep_arrays": "invalid:depth",
        "megabyte": "invalid:size",
        "surrogate": "invalid:json",
        "nan": "invalid:json",
        "minus_infinity": "invalid:json",
        "broken": "invalid:json",
        "good": "",
    }
    assert len(mixpanel_events(mixpanel_app)) == 1
    assert all(row["payload"] for row in mixpanel.rows(where="status = 'rejected'"))


def test_what_mixpanel_takes_is_not_rejected_here(mixpanel: World, mixpanel_app: Any) -> None:
    good: list[dict[str, Any]] = [
        {"list": list(range(254))},
        {f"p{n}": n for n in range(250)},
        {"x": {"a": {"b": [1, 2]}}, "y": [[["a"]]]},
        {"text": "NaN, Infinity: [[[[{{{{ " + "," * 400},
        {"emoji": "\U0001f600", "quote": '\\"', "slash": "\\", "tail": "\\\\"},
    ]
    mixpanel.put([Event(entity=f"g{n}", offset_ms=n, properties=item) for n, item in enumerate(good)])
    result = only(mixpanel.deliver())
    assert (result.delivered, result.rejected) == (len(good), 0)
    stored = mixpanel_events(mixpanel_app)
    assert next(event for event in stored if "emoji" in event["properties"])["properties"]["quote"] == '\\"'


def test_an_event_ahead_of_the_clock_is_sent_by_a_later_run(mixpanel: World) -> None:
    mixpanel.put([Event(entity="e0", time_ms=int(NOW.timestamp() * 1000) + 60_000)])
    assert only(mixpanel.deliver()).rejected == 1
    later = datetime(2026, 11, 21, 10, 30, tzinfo=timezone.utc)
    mixpanel.clock.seconds = later.timestamp()
    assert only(mixpanel.deliver(run="run-2", now=later)).delivered == 1


def test_many_events_of_one_distinct_id_and_day_are_warned_of(
    mixpanel: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lf_dagster.destinations.mixpanel.Mixpanel.hot_key_limit", 5)
    mixpanel.put([*events(3), *(Event(entity=f"n{n}", hour=HOUR.shift(1), offset_ms=n) for n in range(2))])
    with caplog.at_level(logging.WARNING):
        (first,) = mixpanel.deliver([HOUR])
        (second,) = mixpanel.deliver([HOUR.shift(1)])
    assert first.warnings == ()
    assert second.warnings[0].startswith("5 events of distinct_id use...(6 characters) on 2026-11-21")
    assert "5 events of distinct_id" in caplog.text


def test_a_service_account_goes_with_its_project_id(tmp_path: Path, clock: Clock) -> None:
    account = standin.ServiceAccount(username="bot.1a2b", secret="s3cr3t-of-bot", project_ids=frozenset({7}))
    app = standin.create_app(tokens={}, service_accounts=[account], clock=clock)
    with serve(app) as server:
        world = World(tmp_path, "mixpanel", server.origin, clock=clock)
        world.options = {"service_account_env": "MP_ACCOUNT", "project_id": "7"}
        world.env = {"MP_ACCOUNT": "bot.1a2b:s3cr3t-of-bot"}
        world.put(events(2))
        assert only(world.deliver()).delivered == 2
        with world.open() as destination:
            assert "Connection successful" in destination.check()


@pytest.mark.parametrize(
    ("options", "env", "said"),
    [
        ({}, {}, "MIXPANEL_PROJECT_TOKEN is not set"),
        ({"service_account_env": "SA"}, {"SA": "u:s3cr3t"}, "project_id is not set"),
        ({"service_account_env": "SA", "project_id": "7"}, {"SA": "s3cr3tonly"}, "does not hold a service account"),
    ],
)
def test_missing_credentials_are_explained(mixpanel: World, options: Any, env: Any, said: str) -> None:
    mixpanel.options, mixpanel.env = options, env
    with pytest.raises(ConfigError, match=said) as caught:
        mixpanel.open()
    assert "s3cr3t" not in str(caught.value)


def test_a_destination_that_is_not_set_up_is_explained(mixpanel: World) -> None:
    with pytest.raises(ConfigError, match="has no destination 'posthog'"):
        open_destination("posthog", mixpanel.project, env={})


def test_check_proves_the_credentials_and_stores_nothing(mixpanel: World, mixpanel_app: Any) -> None:
    with mixpanel.open() as destination:
        assert destination.check().startswith("Connection successful: 127.0.0.1")
    assert mixpanel_events(mixpanel_app, "raw") == []
    mixpanel.env["MIXPANEL_PROJECT_TOKEN"] = "0000wrongtoken0000"
    with mixpanel.open() as destination, pytest.raises(AuthenticationError):
        destination.check()


@pytest.mark.parametrize(
    "fault",
    [json_answer(200, {"code": 200, "num_records_imported": 1}), json_answer(200, {}), Fault.html_ok()],
)
def test_check_does_not_take_anything_for_mixpanel(mixpanel: World, mixpanel_app: Any, fault: Fault) -> None:
    mixpanel_app.state.faults.add(fault)
    with mixpanel.open() as destination, pytest.raises(LfDagsterError):
        destination.check()


@pytest.mark.parametrize("region", ["us", "eu", "in"])
def test_each_region_has_its_origin(mixpanel: World, region: str) -> None:
    settings = MixpanelSettings.model_validate({"region": region})
    with Mixpanel(settings, env=mixpanel.env) as destination:
        assert destination.origin == ORIGINS[region]


def test_every_result_balances(mixpanel: World) -> None:
    mixpanel.put([*events(5), poisoned("bad", 50), Event(entity="f", skip_reason="filtered:tag", offset_ms=60)])
    result = only(mixpanel.deliver())
    assert balanced(result)
    assert result.reasons["filtered:tag"] == 1
