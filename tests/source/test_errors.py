"""What an answer can be instead of a page: what is tried again, what shrinks, what fails and how it reads."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from lf_dagster.errors import (
    AuthenticationError,
    ConfigError,
    FatalError,
    LfDagsterError,
    ProtocolError,
    RateLimited,
    ReadPathUnavailable,
    RequestRejected,
    RequestTooLarge,
    ServiceUnavailable,
)
from lf_dagster.hours import iso
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import HTML_502, HTML_524, HTML_LOGIN, Fault
from lf_dagster.simulators.langfuse import PLANS, Limits
from tests.source.conftest import HOUR, Connect, FakeTime, Standin, World, extract, rows

OBSERVATIONS = "/api/public/v2/observations"


def world(count: int = 300) -> World:
    made = World()
    for number in range(count):
        made.observation(f"o{number:03}", number * 12_000)
    return made


def on_observations(fault: Fault, **changes: Any) -> Fault:
    # The first request is the detection's.
    return replace(fault, path=OBSERVATIONS, **changes)


def read(connect: Connect, lake: Lake, **settings: Any) -> list[str]:
    extract(connect(read_path="v2", **settings), lake, streams=["observations"])
    return [row["id"] for row in rows(lake, "observations")]


def failure(connect: Connect, lake: Lake, **settings: Any) -> LfDagsterError:
    with pytest.raises(LfDagsterError) as caught:
        read(connect, lake, **settings)
    assert not lake.extract_exists("p", "observations", HOUR)
    assert pickle.loads(pickle.dumps(caught.value)).context == caught.value.context
    assert caught.value.context["project"] == "p"
    assert caught.value.context["stream"] == "observations"
    assert caught.value.context["hour"] == HOUR.key
    assert caught.value.context["endpoint"] == "GET v2/observations"
    assert len(str(caught.value)) < 900
    return caught.value


ALL = [f"o{number:03}" for number in reversed(range(300))]

JSON_422 = json.dumps({"message": "Your query could not be completed. Please narrow your request.", "error": "x"})
JSON_429 = json.dumps({"message": "Rate limit exceeded", "code": "rate_limited", "details": {"retryAfterSeconds": 7}})


@pytest.mark.parametrize(
    "fault",
    [
        Fault.bad_gateway(),
        Fault.unavailable(),
        Fault(status=500, body='{"message":"Internal Server Error","error":"x"}', content_type="application/json"),
        Fault(cut="before"),
        Fault(cut="during"),
        Fault(cut="after"),
        Fault(truncate_to=2000),
        Fault(truncate_to=0),
    ],
    ids=["502 html", "503", "500", "cut before", "cut during", "cut after", "broken JSON", "empty body"],
)
def test_a_passing_fault_costs_a_wait_and_nothing_else(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime, fault: Fault
):
    standin.use(world(), compress=False).faults.add(on_observations(fault, nth=2))
    assert read(connect, lake, page_size=100, parallel_requests=1) == ALL
    assert time.slept != []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, body=JSON_429, content_type="application/json", headers={"retry-after": "7"}),
        Fault(status=429, body=JSON_429, content_type="application/json"),
        Fault.rate_limited(retry_after=7),
    ],
    ids=["JSON and header", "JSON alone", "plain text"],
)
def test_a_429_waits_as_long_as_it_says(standin: Standin, connect: Connect, lake: Lake, time: FakeTime, fault: Fault):
    standin.use(world()).faults.add(on_observations(fault))
    assert len(read(connect, lake)) == 300
    assert 7 <= sum(time.slept) < 7.5
    facts = lake.extract_facts("p", "observations", HOUR)
    assert facts is not None
    assert float(facts["waited_seconds"]) >= 7


def test_a_lasting_429_names_the_limit_and_the_settings_to_change(standin: Standin, connect: Connect, lake: Lake):
    headers = {"retry-after": "2", "x-ratelimit-limit": "30", "x-ratelimit-reset": "Sat Nov 21 2026 07:00:00 GMT"}
    fault = Fault(status=429, body=JSON_429, content_type="application/json", headers=headers, times=None)
    standin.use(world()).faults.add(on_observations(fault))
    error = failure(connect, lake)
    assert isinstance(error, RateLimited)
    assert str(error).startswith("Rate limit exceeded")
    assert "30 requests" in str(error)
    assert "`requests_per_minute`" in str(error)
    assert "`parallel_requests`" in str(error)


@pytest.mark.parametrize("plain_text", [False, True])
def test_a_hobby_plan_is_read_within_its_limit(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime, plain_text: bool
):
    limits = Limits(PLANS["hobby"], clock=time.clock, plain_text=plain_text)
    standin.use(world(), limits=limits)
    assert read(connect, lake, page_size=5, requests_per_minute=30, parallel_requests=1) == ALL
    assert [item.status for item in standin.requests("v2/observations") if item.status == 429] == []
    assert sum(time.slept) > 100


def test_without_a_budget_the_servers_429_paces_the_walk(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime
):
    standin.use(world(), limits=Limits(PLANS["hobby"], clock=time.clock))
    # One worker: the clock of the test is shared, and the sleep of one would wake the others early.
    assert read(connect, lake, page_size=5, parallel_requests=1) == ALL
    answers = [item.status for item in standin.requests("v2/observations")]
    assert answers.count(429) == (len(answers) - answers.count(429) - 1) // 29


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, AuthenticationError, "Authentication failed: Invalid API credentials"),
        (403, AuthenticationError, "may not read the project"),
        (400, RequestRejected, "Langfuse refused the request"),
        (404, ReadPathUnavailable, "does not serve the API"),
        (405, ReadPathUnavailable, "does not serve the API"),
        (410, ReadPathUnavailable, "closed this API for the organization"),
        (501, ReadPathUnavailable, "does not serve the API"),
    ],
)
def test_final_answers_fail_at_once_and_say_what_langfuse_said(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime, status: int, kind: type[FatalError], text: str
):
    body = json.dumps({"message": "what Langfuse said", "error": "x"})
    standin.use(world()).faults.add(on_observations(Fault(status=status, body=body, content_type="application/json")))
    error = failure(connect, lake)
    assert type(error) is kind
    assert text in str(error)
    assert "what Langfuse said" in str(error)
    assert error.context["status"] == status
    assert time.slept == []


@pytest.mark.parametrize(
    ("mode", "read_path", "text"),
    [
        ("v3-legacy", "v2", "does not run in a v4 write mode and has no v2 observations"),
        ("v4-events_only", "legacy", "runs in events_only mode and has no legacy read API"),
        ("cloud-new-org", "legacy", "has closed this API for the organization"),
        ("cloud-sunset", "legacy", "does not serve the API"),
    ],
)
def test_a_missing_generation_is_never_taken_for_an_empty_hour(
    standin: Standin, connect: Connect, lake: Lake, mode: str, read_path: str, text: str
):
    standin.use(world(), mode=mode)
    with pytest.raises(ReadPathUnavailable, match=text) as caught:
        extract(connect(read_path=read_path), lake)
    assert "`read_path: auto`" in str(caught.value)
    assert not any(lake.extract_exists("p", stream, HOUR) for stream in ("observations", "traces"))


@pytest.mark.parametrize("status", [404, 405, 410, 501])
def test_html_on_an_api_path_is_never_taken_for_an_empty_hour(
    standin: Standin, connect: Connect, lake: Lake, status: int
):
    standin.use(world()).faults.add(on_observations(Fault(status=status, body=HTML_502, content_type="text/html")))
    assert isinstance(failure(connect, lake), ReadPathUnavailable)


def test_a_login_page_is_a_protocol_error_with_an_explanation(standin: Standin, connect: Connect, lake: Lake):
    login = Fault(status=200, body=HTML_LOGIN, content_type="text/html; charset=utf-8")
    standin.use(world()).faults.add(on_observations(login))
    error = failure(connect, lake)
    assert isinstance(error, ProtocolError)
    assert "not a JSON answer (text/html)" in str(error)
    assert "login page" in str(error)


def test_json_that_stays_broken_is_a_protocol_error(standin: Standin, connect: Connect, lake: Lake, time: FakeTime):
    standin.use(world(), compress=False).faults.add(on_observations(Fault(truncate_to=2000), times=None))
    error = failure(connect, lake)
    assert isinstance(error, ProtocolError)
    assert "broken JSON" in str(error)
    assert "2000 bytes" in str(error)
    assert len(time.slept) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=422, body=JSON_422, content_type="application/json"),
        Fault.proxy_timeout(),
        Fault(status=504, body=HTML_524, content_type="text/html"),
        Fault(status=413, body="too large", content_type="text/plain"),
    ],
    ids=["422", "524 html", "504 html", "413"],
)
def test_too_much_at_once_asks_for_smaller_pages_and_windows(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime, fault: Fault
):
    standin.use(world()).faults.add(on_observations(fault, times=3))
    assert read(connect, lake, parallel_requests=1) == ALL
    queries = [item.query for item in standin.requests("v2/observations")]
    assert ["limit=1000&" in queries[0], "limit=500&" in queries[1], "limit=250&" in queries[2]] == [True] * 3
    assert "fromStartTime=2025-08-21T06%3A30%3A00.000Z" in queries[1]
    assert time.slept == []


def test_a_late_answer_asks_for_less_instead_of_the_same_again(standin: Standin, connect: Connect, lake: Lake):
    standin.use(world()).faults.add(on_observations(Fault(delay_seconds=1.5)))
    assert read(connect, lake, timeout_seconds=0.7, parallel_requests=1) == ALL
    # The late request is recorded when it is over, which may be after the one that asks for less.
    assert any("limit=500&" in item.query for item in standin.requests("v2/observations"))


def test_an_hour_that_is_too_much_in_any_portion_fails_loudly(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime
):
    fault = Fault(status=422, body=JSON_422, content_type="application/json", times=None)
    standin.use(world()).faults.add(on_observations(fault))
    error = failure(connect, lake, parallel_requests=1)
    assert isinstance(error, RequestTooLarge)
    assert "Even 50 rows of" in str(error)
    assert "narrow your request" in str(error)
    assert len(time.slept) == 3
    assert len(standin.requests("v2/observations")) < 20


def page_of(*rows: dict[str, Any], cursor: str | None = None) -> Fault:
    body = json.dumps({"data": list(rows), "meta": {} if cursor is None else {"cursor": cursor}})
    return on_observations(Fault(status=200, body=body, content_type="application/json"))


def row(name: str, time: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "traceId": "t", "startTime": f"{iso(HOUR.start)[:11]}{time}Z", **more}


CURSOR = "eyJsYXN0U3RhcnRUaW1lVG8iOiIyMDI1In0="


@pytest.mark.parametrize(
    ("pages", "text", "value"),
    [
        ([page_of(row("a", "07:00:00.000"))], "outside of the window", "07:00:00.000Z"),
        ([page_of(row("a", "05:59:59.999"))], "outside of the window", "05:59:59.999Z"),
        (
            [page_of(row("a", "06:10:00.000"), row("b", "06:20:00.000"))],
            "not in descending order",
            "06:10:00.000Z .. 2025-08-21T06:20:00.000Z",
        ),
        (
            [page_of(row("a", "06:30:00.000"), row("b", "06:20:00.000"), cursor=CURSOR)] * 2,
            "above the cursor|does not move",
            "",
        ),
        (
            [page_of(row("a", "06:20:00.000"), row("b", "06:20:00.000"), cursor=CURSOR)] * 2,
            "does not move",
            "",
        ),
        ([page_of(cursor=CURSOR), page_of(cursor=CURSOR)], "does not move", CURSOR),
    ],
    ids=["row above", "row below", "not in order", "same page again", "same tie again", "empty pages"],
)
def test_answers_against_the_contract_are_protocol_errors(
    standin: Standin, connect: Connect, lake: Lake, pages: list[Fault], text: str, value: str
):
    standin.use(world()).faults.add(*pages)
    with pytest.raises(ProtocolError, match=text) as caught:
        read(connect, lake, page_size=2, parallel_requests=1)
    assert value in caught.value.context["value"]
    assert "window" in caught.value.context
    assert not lake.extract_exists("p", "observations", HOUR)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        '{"rows":[]}',
        '{"data":[{"traceId":"t"}]}',
        '{"data":[{"id":"a","startTime":"yesterday"}]}',
        '{"data":[{"id":7,"startTime":"2025-08-21T06:00:00.000Z"}]}',
        '{"data":[{"id":"a","startTime":null}]}',
    ],
)
def test_json_of_another_shape_is_a_protocol_error_at_once(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime, body: str
):
    standin.use(world()).faults.add(on_observations(Fault(status=200, body=body, content_type="application/json")))
    error = failure(connect, lake)
    assert isinstance(error, ProtocolError)
    assert "another shape" in str(error)
    assert time.slept == []


def test_a_repeated_score_cursor_is_a_protocol_error(standin: Standin, connect: Connect, lake: Lake):
    body = json.dumps(
        {"data": [{"id": "s", "timestamp": f"{iso(HOUR.start)[:11]}06:10:00.000Z"}], "meta": {"cursor": "c"}}
    )
    standin.faults.add(
        Fault(path="/api/public/v3/scores", status=200, body=body, content_type="application/json", times=None)
    )
    with pytest.raises(ProtocolError, match="does not move"):
        extract(connect(read_path="v2", parallel_requests=1), lake, streams=["scores"])


def test_a_redirect_to_another_host_is_refused(standin: Standin, connect: Connect, lake: Lake):
    standin.use(world()).faults.add(
        on_observations(Fault(status=302, body="", headers={"location": "https://login.invalid/"}))
    )
    error = failure(connect, lake)
    assert isinstance(error, ConfigError)
    assert "https://login.invalid" in str(error)
    assert "`host`" in str(error)


def test_an_unreachable_host_reads_well(connect: Connect, time: FakeTime):
    with pytest.raises(ServiceUnavailable) as caught:
        connect(host="http://127.0.0.1:9").describe()
    assert "`host`" in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_no_error_shows_the_secret_key(standin: Standin, connect: Connect, lake: Lake):
    for status in (400, 401, 403, 404, 422, 500, 200):
        echo = Fault(status=status, body="leak sk-lf-local and c2stbGYtbG9jYWw=", content_type="text/plain", times=None)
        standin.use(world()).faults.add(on_observations(echo))
        with pytest.raises(LfDagsterError) as caught:
            read(connect, lake)
        assert "sk-lf-local" not in str(caught.value)
        assert "c2stbGYtbG9jYWw" not in str(caught.value)
