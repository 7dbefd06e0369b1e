"""What is tried again, how long it waits, and what is raised in the end."""

from __future__ import annotations

import logging
import pickle
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest

from lf_dagster.errors import RateLimited, RequestTooLarge, ServiceUnavailable
from lf_dagster.http import (
    Budget,
    Cancelled,
    HttpClient,
    HttpStats,
    Redactor,
    Response,
    RetryPolicy,
    retry_after_seconds,
)
from lf_dagster.simulators.faults import Fault
from tests.http.conftest import Echo, FakeTime


def test_a_plain_answer_takes_one_request_and_no_wait(echo: Echo, client: HttpClient, time: FakeTime):
    response = client.request("GET", "/echo", params={"cursor": "a+b/c==", "q": "x y&z"}, endpoint="echo")
    assert response.status == 200
    assert response.json()["query"] == {"cursor": "a+b/c==", "q": "x y&z"}
    assert response.json()["agent"].startswith("lf-dagster/")
    assert time.slept == []
    assert client.stats.snapshot()["by_status"] == {200: 1}


def test_client_errors_are_returned_at_once_because_their_meaning_is_the_callers(echo: Echo, client: HttpClient):
    for status in (400, 401, 403, 404, 410, 413, 422):
        echo.faults.add(Fault(status=status, body="no", content_type="text/plain"))
        assert client.request("GET", "/echo", endpoint="echo").status == status
    assert client.stats.retries == 0


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520, 524])
def test_server_faults_are_retried_with_growing_waits(status: int, echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault(status=status, body="<html>bad</html>", content_type="text/html", times=3))
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert [pytest.approx(wait, rel=0.26) for wait in time.slept] == [0.5, 1.0, 2.0]
    assert client.stats.snapshot() | {"bytes_received": 0} == {
        "requests": 4,
        "retries": 3,
        "waited_seconds": sum(time.slept),
        "bytes_received": 0,
        "bytes_sent": 0,
        "by_status": {status: 3, 200: 1},
    }


@pytest.mark.parametrize("cut", ["before", "during", "after"])
def test_cut_connections_are_retried(cut: str, echo: Echo, client: HttpClient):
    echo.faults.add(Fault(cut=cut, times=2))  # type: ignore[arg-type]
    response = client.request("POST", "/echo", content=b"data", endpoint="echo")
    assert response.json()["body"] == "data"
    assert client.stats.requests == 3
    assert client.stats.bytes_sent == 12


def test_faults_to_the_end_raise_service_unavailable_with_a_short_text(echo: Echo, client: HttpClient):
    echo.faults.add(Fault.bad_gateway(times=None))
    with pytest.raises(ServiceUnavailable) as caught:
        client.request("GET", "/echo", endpoint="echo")
    assert caught.value.context["status"] == 502
    assert caught.value.context["attempts"] == 6
    assert "502 Bad Gateway" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert pickle.loads(pickle.dumps(caught.value)).context == caught.value.context


def test_an_unreachable_host_raises_service_unavailable_that_names_the_setting(time: FakeTime):
    with (
        HttpClient("http://127.0.0.1:9", clock=time.clock, sleep=time.sleep, setting="posthog.host") as client,
        pytest.raises(ServiceUnavailable, match=r"posthog\.host") as caught,
    ):
        client.request("GET", "/", endpoint="root")
    assert client.stats.by_status == {0: 6}
    assert caught.value.__context__ is None


def test_retry_after_is_the_floor_of_the_wait(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after=7))
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert 7 <= sum(time.slept) < 7.2


@pytest.mark.parametrize("server_clock", [timedelta(0), timedelta(days=-365)])
def test_retry_after_as_a_date_is_measured_by_the_servers_own_clock(server_clock: timedelta):
    now = datetime.now(timezone.utc) + server_clock
    due = format_datetime(now + timedelta(seconds=20), usegmt=True)
    headers = httpx.Headers({"date": format_datetime(now, usegmt=True), "retry-after": due})
    response = Response(503, headers, b"", "echo", 0, 0.0, Redactor([]))
    assert retry_after_seconds(response) == 20


def test_retry_after_as_a_date_without_a_server_clock_uses_the_local_one():
    due = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    response = Response(503, httpx.Headers({"retry-after": due}), b"", "echo", 0, 0.0, Redactor([]))
    assert retry_after_seconds(response) == pytest.approx(100, abs=5)


def test_retry_after_is_also_read_from_the_json_body_of_a_429(echo: Echo, client: HttpClient, time: FakeTime):
    body = '{"message":"Rate limit exceeded","details":{"retryAfterSeconds":9}}'
    echo.faults.add(Fault(status=429, body=body, content_type="application/json"))
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert 9 <= sum(time.slept) < 9.2


def test_unreadable_retry_after_falls_back_to_the_usual_wait(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after="soon"), Fault.rate_limited(retry_after="nan"))
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert [pytest.approx(wait, rel=0.26) for wait in time.slept] == [0.5, 1.0]


def test_a_429_to_the_end_raises_rate_limited_with_the_servers_limit(echo: Echo, client: HttpClient):
    limit = {"retry-after": "3", "x-ratelimit-limit": "30"}
    echo.faults.add(Fault(status=429, body="slow down", headers=limit, times=None))
    with pytest.raises(RateLimited, match="Rate limit exceeded") as caught:
        client.request("GET", "/echo", endpoint="echo")
    assert caught.value.retry_after == 3
    assert caught.value.context["limit"] == "30"


def test_a_wait_longer_than_the_cap_gives_up_at_once(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after=400, times=None))
    with pytest.raises(RateLimited) as caught:
        client.request("GET", "/echo", endpoint="echo")
    assert time.slept == []
    assert caught.value.retry_after == 400


def test_the_total_wait_is_bounded(echo: Echo, time: FakeTime):
    policy = RetryPolicy(attempts=1000, total_wait=100)
    echo.faults.add(Fault.rate_limited(retry_after=30, times=None))
    with (
        HttpClient(echo.origin, clock=time.clock, sleep=time.sleep, retry=policy) as client,
        pytest.raises(RateLimited),
    ):
        client.request("GET", "/echo", endpoint="echo")
    assert 60 <= sum(time.slept) <= 100


def test_one_request_that_is_told_to_wait_holds_back_the_others(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after=50))
    with pytest.raises(RateLimited):
        client.request("GET", "/echo", endpoint="echo", retry=RetryPolicy(attempts=1))
    assert time.slept == []
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert time.slept == [pytest.approx(50, abs=0.1)]


def test_a_daily_quota_does_not_hold_back_the_others(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after=86_400))
    with pytest.raises(RateLimited):
        client.request("GET", "/echo", endpoint="echo")
    assert client.request("GET", "/echo", endpoint="echo").status == 200
    assert time.slept == []


def test_a_late_answer_is_retried_or_called_too_large_as_the_policy_says(echo: Echo, time: FakeTime):
    echo.faults.add(Fault(delay_seconds=0.3))
    with HttpClient(echo.origin, timeout=0.1, sleep=time.sleep) as client:
        assert client.request("GET", "/echo", endpoint="echo").status == 200
        assert client.stats.by_status == {0: 1, 200: 1}
    echo.faults.add(Fault(delay_seconds=0.3))
    policy = RetryPolicy(retry_timeouts=False)
    with (
        HttpClient(echo.origin, timeout=0.1, sleep=time.sleep, retry=policy) as client,
        pytest.raises(RequestTooLarge, match=r"0\.1 s"),
    ):
        client.request("GET", "/echo", endpoint="echo")


def test_cancelling_ends_a_long_wait_within_one_slice(echo: Echo, client: HttpClient, time: FakeTime):
    echo.faults.add(Fault.rate_limited(retry_after=200, times=None))
    with pytest.raises(Cancelled):
        client.request("GET", "/echo", endpoint="echo", cancelled=lambda: sum(time.slept) >= 5)
    assert 5 <= sum(time.slept) <= 6


def test_cancelled_before_the_first_attempt_sends_nothing(echo: Echo, client: HttpClient):
    with pytest.raises(Cancelled):
        client.request("GET", "/echo", endpoint="echo", cancelled=lambda: True)
    assert client.stats.requests == 0


def test_extra_counters_count_one_callers_share(echo: Echo, client: HttpClient):
    mine = HttpStats()
    echo.faults.add(Fault.unavailable())
    client.request("GET", "/echo", endpoint="echo", stats=mine)
    client.request("GET", "/echo", endpoint="echo")
    assert (mine.requests, mine.retries) == (2, 1)
    assert (client.stats.requests, client.stats.retries) == (3, 1)
    assert mine.waited_seconds > 0


def test_retries_are_logged_with_their_reason(echo: Echo, client: HttpClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "lf_dagster")
    echo.faults.add(Fault.unavailable())
    client.request("GET", "/echo", endpoint="echo")
    assert "GET echo: attempt 1 failed, status 503: upstream connect error" in caplog.text


def test_a_budget_spreads_requests_over_its_window(echo: Echo, time: FakeTime):
    budget = Budget(3, clock=time.clock)
    starts = []
    with HttpClient(echo.origin, clock=time.clock, sleep=time.sleep, budget=budget) as client:
        for _ in range(8):
            client.request("GET", "/echo", endpoint="echo")
            starts.append(time.now - 1000)
    assert starts == [0, 0, 0, 60, 60, 60, 120, 120]
    assert client.stats.waited_seconds == 120


def test_two_clients_draw_from_one_budget(echo: Echo, time: FakeTime):
    budget = Budget(3, clock=time.clock)

    def run() -> None:
        with HttpClient(echo.origin, clock=time.clock, sleep=time.sleep, budget=budget) as client:
            for _ in range(3):
                client.request("GET", "/echo", endpoint="echo")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(time.slept) >= 60
