"""PostHog's two protocols: every event's fate is known, or known to be unknown."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.errors import (
    AuthenticationError,
    ConfigError,
    ProtocolError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from lf_dagster.hours import Hour
from lf_dagster.simulators import posthog as standin
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.posthog import PlannedResult
from lf_dagster.simulators.server import serve
from tests.destinations.world import (
    HOUR,
    NOW,
    POSTHOG_KEY,
    Clock,
    Event,
    World,
    balanced,
    events,
    only,
    posthog_events,
)

V1 = "/i/v1/analytics/events"
LEGACY = "/batch/"
ALL_PROTOCOLS = pytest.mark.parametrize("protocol", ["v1", "batch"])


def requests(app: Any, path: str) -> list[Any]:
    return app.state.faults.requests(path)


def test_auto_finds_capture_v1_with_a_request_that_holds_no_event(posthog: World, posthog_app: Any) -> None:
    posthog.put(events(3))
    with posthog.open() as destination:
        assert destination.protocol == "v1"
    assert [request.status for request in requests(posthog_app, V1)] == [400]
    assert posthog_events(posthog_app, "raw") == []


def test_auto_falls_back_where_v1_is_not_served_and_remembers(posthog: World, posthog_app: Any) -> None:
    posthog_app.state.standin.behaviour = standin.Behaviour(capture_v1=False)
    hours = [HOUR, HOUR.shift(1)]
    posthog.put([Event(entity=hour.key, hour=hour) for hour in hours])
    results = posthog.deliver(hours)
    assert [result.delivered for result in results] == [1, 1]
    assert (len(requests(posthog_app, V1)), len(requests(posthog_app, LEGACY))) == (1, 2)


def test_v1_that_vanishes_during_a_delivery_is_replaced_by_batch(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"batch_events": 2, "parallel_requests": 1}
    posthog.put(events(6))
    # The probe and the first batch are served; then V1 is gone.
    posthog_app.state.faults.add(Fault(path=V1, nth=3, status=404, body="no route"))
    result = only(posthog.deliver())
    assert (result.delivered, result.unchanged, result.sent) == (6, 2, 4)
    assert len(posthog_events(posthog_app, "raw")) == 6
    assert len(requests(posthog_app, LEGACY)) == 2


def test_v1_that_was_asked_for_is_not_replaced(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "v1"}
    posthog_app.state.standin.behaviour = standin.Behaviour(capture_v1=False)
    posthog.put(events(2))
    with pytest.raises(RequestRejected, match="does not serve Capture V1") as caught:
        posthog.deliver()
    assert "posthog.protocol" in str(caught.value)


def test_each_result_of_v1_is_honoured(posthog: World, posthog_app: Any) -> None:
    items = events(7)
    ids = {item.entity: item.prepared("v1")[4] for item in items}
    posthog.put(items)
    posthog_app.state.standin.plan(
        PlannedResult(result="drop", details="event_too_big", uuid=ids["e1"]),
        PlannedResult(result="drop", details="billing_limit_exceeded", uuid=ids["e2"]),
        PlannedResult(result="retry", details="not_persisted", uuid=ids["e3"], times=2),
        PlannedResult(result="limited", uuid=ids["e4"], times=2),
        PlannedResult(result="absent", uuid=ids["e5"]),
        PlannedResult(result="warning", details="person_processing_disabled", uuid=ids["e6"]),
    )
    result = only(posthog.deliver())
    assert posthog.statuses() == {
        "e0": "delivered",
        "e1": "rejected|refused:event_too_big",
        "e2": "rejected|dropped:billing_limit_exceeded",
        "e3": "delivered",
        "e4": "rejected|unverified:limited",
        "e5": "delivered",
        "e6": "delivered|warning:person_processing_disabled",
    }
    assert balanced(result)
    assert {event["uuid"] for event in posthog_events(posthog_app)} == {ids[name] for name in ("e0", "e3", "e5", "e6")}


def test_only_the_events_that_v1_asks_for_are_sent_again_under_the_same_request_id(
    posthog: World, posthog_app: Any
) -> None:
    items = events(5)
    posthog.put(items)
    posthog_app.state.standin.plan(PlannedResult(result="retry", uuid=items[2].prepared("v1")[4], times=2))
    only(posthog.deliver())
    sent = requests(posthog_app, V1)[1:]
    assert len({request.headers["posthog-request-id"] for request in sent}) == 1
    assert [request.headers["posthog-attempt"] for request in sent] == ["1", "2", "3"]
    assert len(posthog_events(posthog_app, "raw")) == 5
    # Each wait has the answer's Retry-After (1 s) and our own growing wait as its floor.
    assert sum(posthog.slept) >= 1 + 2


def test_a_later_run_tries_again_what_was_dropped_for_a_passing_reason(posthog: World, posthog_app: Any) -> None:
    posthog_app.state.standin.behaviour = standin.Behaviour(over_quota=True)
    posthog.put(events(3))
    assert only(posthog.deliver()).reasons == {"dropped:billing_limit_exceeded": 3}
    posthog_app.state.standin.behaviour = standin.Behaviour()
    result = only(posthog.deliver(run="run-2"))
    assert (result.sent, result.delivered, result.rejected) == (3, 3, 0)


def test_an_unverified_event_is_tried_again_under_the_key_that_it_may_have(posthog: World, posthog_app: Any) -> None:
    event = Event(entity="e0")
    posthog.put([event])
    posthog_app.state.standin.plan(PlannedResult(result="limited", times=2, stored=True))
    assert only(posthog.deliver()).reasons == {"unverified:limited": 1}
    posthog.put([Event(entity="e0", user="user-2")])
    result = only(posthog.deliver(run="run-2"))
    assert (result.sent, result.delivered, result.reasons) == (1, 1, {"identity_changed": 1})
    posthog.put([event])
    assert only(posthog.deliver(run="run-3")).delivered == 1
    assert len(posthog_events(posthog_app)) == 1


def test_events_that_v1_never_persists_fail_the_run_retryably(posthog: World, posthog_app: Any) -> None:
    items = events(3)
    posthog.put(items)
    posthog_app.state.standin.plan(PlannedResult(result="retry", uuid=items[1].prepared("v1")[4], times=None))
    with pytest.raises(ServiceUnavailable, match="still asks for 1 events again"):
        posthog.deliver()
    assert posthog.statuses() == {"e0": "delivered", "e2": "delivered"}


def test_a_retried_v1_request_counts_attempts_and_renews_its_time(posthog: World, posthog_app: Any) -> None:
    posthog.put(events(2))
    posthog_app.state.faults.add(
        Fault.rate_limited(path=V1, nth=2, retry_after=3),
        Fault.bad_gateway(path=V1, nth=2),
        Fault(path=V1, nth=2, cut="before"),
    )
    result = only(posthog.deliver())
    assert (result.delivered, result.retries) == (2, 3)
    sent = requests(posthog_app, V1)[1:]
    assert [request.headers["posthog-attempt"] for request in sent] == ["1", "2", "3", "4"]
    assert len({request.headers["posthog-request-id"] for request in sent}) == 1
    assert sum(posthog.slept) >= 3 + 2 + 4


@ALL_PROTOCOLS
def test_retry_after_is_the_floor_of_a_wait(posthog: World, posthog_app: Any, protocol: str) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(1))
    posthog_app.state.faults.add(Fault.rate_limited(retry_after=40))
    assert only(posthog.deliver()).delivered == 1
    assert 40 <= sum(posthog.slept) <= 42


@ALL_PROTOCOLS
def test_trouble_that_never_ends_fails_retryably(posthog: World, posthog_app: Any, protocol: str) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(1))
    posthog_app.state.faults.add(Fault.rate_limited(times=None))
    with pytest.raises(RateLimited):
        posthog.deliver()
    posthog_app.state.faults.clear()
    posthog_app.state.faults.add(Fault.unavailable(times=None))
    with pytest.raises(ServiceUnavailable):
        posthog.deliver(run="run-2")
    posthog_app.state.faults.clear()
    posthog_app.state.faults.add(Fault(cut="before", times=None))
    with pytest.raises(ServiceUnavailable, match="no answer"):
        posthog.deliver(run="run-3")


@ALL_PROTOCOLS
def test_a_connection_cut_after_storing_leaves_one_event_per_identity(
    posthog: World, posthog_app: Any, protocol: str
) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(4))
    posthog_app.state.faults.add(Fault(cut="after"))
    assert only(posthog.deliver()).delivered == 4
    assert (len(posthog_events(posthog_app, "raw")), len(posthog_events(posthog_app))) == (8, 4)


def test_a_bad_event_on_batch_is_found_by_halving_and_the_others_are_stored(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "batch"}
    posthog.put([*events(63), Event(entity="bad", offset_ms=20, event_id="not-a-uuid")])
    result = only(posthog.deliver())
    assert (result.delivered, result.rejected) == (63, 1)
    assert posthog.statuses()["bad"] == "rejected|refused:failed to parse request: UUID parsing failed"
    assert len(posthog_events(posthog_app, "raw")) == 63
    assert result.requests == 1 + 2 * 6


def test_a_bad_event_that_breaks_a_v1_request_is_found_by_halving(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "v1"}
    posthog.put([*events(15), Event(entity="bad", offset_ms=7, event_id="not-a-uuid")])
    result = only(posthog.deliver())
    assert (result.delivered, result.rejected) == (15, 1)
    assert posthog.statuses()["bad"].startswith("rejected|refused:invalid_event_uuid")
    assert len(posthog_events(posthog_app, "raw")) == 15


def test_an_envelope_that_v1_refuses_is_not_blamed_on_events(posthog: World, posthog_app: Any) -> None:
    posthog.put(events(4))
    body = json.dumps({"error": "missing_required_headers", "error_description": "missing: x"})
    posthog_app.state.faults.add(Fault(path=V1, nth=2, status=400, body=body, content_type="application/json"))
    with pytest.raises(RequestRejected, match="missing_required_headers"):
        posthog.deliver()
    assert posthog.rows() == []


def test_batch_halves_on_413_even_when_earlier_events_were_stored(tmp_path: Path, clock: Clock) -> None:
    app = standin.create_app(tokens={POSTHOG_KEY: 7}, clock=clock, limits=standin.Limits(event_bytes=3_000))
    with serve(app) as server:
        world = World(tmp_path, "posthog", server.origin, {"protocol": "batch"}, clock=clock)
        world.put([*events(20), Event(entity="big", offset_ms=10, properties={"text": "x" * 4_000})])
        result = only(world.deliver())
    assert (result.delivered, result.rejected) == (20, 1)
    assert result.reasons == {"refused:too large for PostHog (413)": 1}
    assert len(posthog_events(app)) == 20


def test_v1_halves_on_413(tmp_path: Path, clock: Clock) -> None:
    app = standin.create_app(tokens={POSTHOG_KEY: 7}, clock=clock, limits=standin.Limits(v1_inflated_bytes=20_000))
    with serve(app) as server:
        world = World(tmp_path, "posthog", server.origin, {"protocol": "v1"}, clock=clock)
        world.put(events(300))
        assert only(world.deliver()).delivered == 300
    assert len(posthog_events(app, "raw")) == 300


def test_quota_that_batch_tells_of_is_no_success(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "batch"}
    posthog_app.state.standin.behaviour = standin.Behaviour(success_body='{"status":1,"quota_limited":["events"]}')
    posthog.put(events(2))
    assert only(posthog.deliver()).reasons == {"dropped:over quota: events": 2}


def test_both_spellings_of_success_are_understood(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "batch"}
    posthog_app.state.standin.behaviour = standin.Behaviour(success_body='"Ok"')
    posthog.put(events(2))
    assert only(posthog.deliver()).delivered == 2


@ALL_PROTOCOLS
@pytest.mark.parametrize("fault", [Fault.html_ok(), Fault(truncate_to=3), Fault(status=200, body="{}")])
def test_something_else_than_posthog_is_no_success(
    posthog: World, posthog_app: Any, protocol: str, fault: Fault
) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(2))
    posthog_app.state.faults.add(fault)
    with pytest.raises(ProtocolError):
        posthog.deliver()
    assert posthog.rows() == []


@ALL_PROTOCOLS
def test_a_refused_key_fails_at_once_and_is_not_in_the_error(posthog: World, posthog_app: Any, protocol: str) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(2))
    body = "API key is not valid: R"
    posthog_app.state.faults.add(Fault(status=401, body=f"{body} {POSTHOG_KEY}", content_type="text/plain"))
    with pytest.raises(AuthenticationError, match="PostHog refuses the credentials: API key is not valid") as caught:
        posthog.deliver()
    assert POSTHOG_KEY not in str(caught.value)
    assert len(posthog_app.state.faults.requests()) == 1


def test_a_billing_limit_on_v1_is_explained(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "v1"}
    posthog.put(events(2))
    posthog_app.state.faults.add(Fault(status=402, body="{}", content_type="application/json"))
    with pytest.raises(RequestRejected, match="billing limit"):
        posthog.deliver()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "POSTHOG_API_KEY is not set"),
        ("phx_0123456789abcdef", "personal API key"),
        ("p" * 65, "does not hold a project API key"),
        ("phc_ümlaut", "does not hold a project API key"),
    ],
)
def test_a_wrong_kind_of_key_is_explained_without_showing_it(posthog: World, key: str, said: str) -> None:
    posthog.env["POSTHOG_API_KEY"] = key
    with pytest.raises(ConfigError, match=said) as caught:
        posthog.open()
    assert not key or key not in str(caught.value)


def test_what_posthog_would_refuse_or_damage_is_rejected_here(posthog: World, posthog_app: Any) -> None:
    ahead = int((NOW + timedelta(hours=23, minutes=1)).timestamp() * 1000)
    posthog.put(
        [
            Event(entity="no_name", event=" "),
            Event(entity="long_name", event="n" * 201, offset_ms=1),
            Event(entity="no_user", user="  ", offset_ms=2),
            Event(entity="long_user", user="u" * 201, offset_ms=3),
            Event(entity="in_23_hours", time_ms=ahead),
            Event(entity="year_10000", time_ms=253_402_300_800_000),
            Event(entity="large", properties={"text": "x" * 900 * 1024}, offset_ms=4),
            Event(entity="nan", raw_payload='{"event":"e","properties":{"p":NaN}}', offset_ms=5),
            Event(entity="longest_user", user="u" * 200, offset_ms=6),
            Event(entity="in_22_hours", time_ms=ahead - 7_200_000),
        ]
    )
    only(posthog.deliver())
    assert posthog.statuses() == {
        "no_name": "rejected|invalid:event_name",
        "long_name": "rejected|invalid:event_name",
        "no_user": "rejected|invalid:distinct_id",
        "long_user": "rejected|invalid:distinct_id",
        "in_23_hours": "rejected|invalid:time_in_future",
        "year_10000": "rejected|invalid:time",
        "large": "rejected|invalid:size",
        "nan": "rejected|invalid:json",
        "longest_user": "delivered",
        "in_22_hours": "delivered",
    }
    assert len(posthog_events(posthog_app)) == 2


@ALL_PROTOCOLS
def test_the_last_millisecond_of_a_day_keeps_its_time(posthog: World, posthog_app: Any, protocol: str) -> None:
    posthog.options = {"protocol": protocol}
    last = Hour(datetime(2026, 11, 20, 23, tzinfo=timezone.utc))
    posthog.put([Event(entity="e0", hour=last, offset_ms=3_599_999), Event(entity="e1", hour=last.shift(1))])
    results = posthog.deliver([last, last.shift(1)])
    assert [result.delivered for result in results] == [1, 1]
    times = sorted(event["timestamp"] for event in posthog_events(posthog_app))
    assert [time[:23] for time in times] == ["2026-11-20T23:59:59.999", "2026-11-21T00:00:00.000"]


@ALL_PROTOCOLS
def test_two_hours_of_different_class_never_share_a_request(posthog: World, posthog_app: Any, protocol: str) -> None:
    posthog.options = {"protocol": protocol}
    old = HOUR.shift(-72)
    posthog.put([*events(3), *(Event(entity=f"old{n}", hour=old, offset_ms=n) for n in range(3))])
    results = posthog.deliver([old, HOUR])
    assert [result.delivered for result in results] == [3, 3]
    flags = {item.uuid: item.historical for item in posthog_app.state.standin.store.stored("raw")}
    assert sorted(flags.values()) == [False] * 3 + [True] * 3


@pytest.mark.parametrize("capture_v1", [True, False])
def test_check_names_the_protocol_and_stores_nothing(posthog: World, posthog_app: Any, capture_v1: bool) -> None:
    posthog_app.state.standin.behaviour = standin.Behaviour(capture_v1=capture_v1)
    with posthog.open() as destination:
        said = destination.check()
    assert ("Capture V1" if capture_v1 else "/batch/") in said
    assert "Connection successful" in said
    assert posthog_events(posthog_app, "raw") == []


def test_check_explains_a_host_that_is_not_posthog(posthog: World, posthog_app: Any) -> None:
    posthog_app.state.faults.add(Fault.html_ok(times=None))
    with posthog.open() as destination, pytest.raises(ProtocolError, match="a web page came") as caught:
        destination.check()
    assert "posthog.host" in str(caught.value)


def test_preview_asks_nobody(posthog: World, posthog_app: Any) -> None:
    posthog.put(events(2))
    shown = posthog.preview()
    assert [item["action"] for item in shown] == ["send", "send"]
    assert shown[0]["payload"]["options"] == {"disable_skew_correction": True}
    assert posthog_app.state.faults.requests() == []
