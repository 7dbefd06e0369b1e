"""Every kind of fault, over a real socket, and the request log."""

import asyncio
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from lf_dagster.simulators.faults import Fault, FaultQueue, admin_routes, install


class Standin:
    """A minimal stand-in that counts what it handled."""

    def __init__(self):
        self.handled = 0
        self.resets = 0
        self.faults = FaultQueue()

    def app(self):
        async def thing(request):
            await request.body()
            self.handled += 1
            return JSONResponse({"handled": self.handled, "pad": "x" * 200})

        def on_reset():
            self.resets += 1

        routes = [Route("/{rest:path}", thing, methods=["GET", "POST"])]
        return install(Starlette(routes=[*admin_routes(self.faults, on_reset=on_reset), *routes]), self.faults)


@pytest.fixture
def standin():
    return Standin()


@pytest.fixture
def client(standin, origin_of):
    with httpx.Client(base_url=origin_of(standin.app()), timeout=5) as client:
        yield client


def statuses(client, count, *, method="GET", path="/a"):
    return [client.request(method, path).status_code for _ in range(count)]


def test_without_faults_requests_pass(client, standin):
    assert client.post("/a", content=b"body").json()["handled"] == 1


def test_a_fault_strikes_as_often_as_asked_and_then_stops(client, standin):
    standin.faults.add(Fault.rate_limited(times=2, retry_after=3))
    first = client.get("/a")
    assert (first.status_code, first.text, first.headers["retry-after"]) == (429, "rate limited", "3")
    assert first.headers["content-type"].startswith("text/plain")
    assert statuses(client, 2) == [429, 200]
    assert standin.handled == 1
    assert standin.faults.pending() == []


def test_a_fault_without_times_strikes_for_ever_until_cleared(client, standin):
    standin.faults.add(Fault.unavailable(times=None))
    assert statuses(client, 3) == [503] * 3
    standin.faults.clear()
    assert statuses(client, 1) == [200]


def test_nth_hits_only_the_nth_matching_request(client, standin):
    standin.faults.add(Fault(nth=2, path="/a", status=500))
    assert statuses(client, 1, path="/b") == [200]
    assert statuses(client, 2) == [200, 500]
    assert standin.faults.pending() == []
    assert statuses(client, 1) == [200]


def test_method_and_path_prefix_select_requests(client, standin):
    standin.faults.add(Fault(method="POST", path="/api/x", status=422, body="too much", times=None))
    assert client.get("/api/x/1").status_code == 200
    assert client.post("/api/y").status_code == 200
    assert client.post("/api/x/1").text == "too much"


def test_probability_is_reproducible_by_seed(client, standin):
    runs = []
    for _ in range(2):
        standin.faults.add(Fault(probability=0.5, seed=7, times=None, status=500))
        runs.append(statuses(client, 20))
        standin.faults.clear()
    assert runs[0] == runs[1]
    assert {200, 500} == set(runs[0])


@pytest.mark.parametrize(("fault", "status"), [(Fault.bad_gateway(), 502), (Fault.proxy_timeout(), 524)])
def test_proxy_pages_are_html(client, standin, fault, status):
    standin.faults.add(fault)
    answer = client.get("/a")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html"
    assert answer.text.lower().lstrip("<!").startswith(("html", "doctype"))


def test_html_page_with_status_200(client, standin):
    standin.faults.add(Fault.html_ok())
    answer = client.get("/a")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


def test_cut_before_leaves_the_request_unhandled(client, standin):
    standin.faults.add(Fault(cut="before"))
    with pytest.raises(httpx.TransportError):
        client.post("/a", content=b"x")
    assert standin.handled == 0
    assert statuses(client, 1) == [200]


def test_cut_after_handles_the_request_but_the_client_cannot_know(client, standin):
    standin.faults.add(Fault(cut="after"))
    with pytest.raises(httpx.TransportError):
        client.post("/a", content=b"x")
    assert standin.handled == 1
    assert [record.status for record in standin.faults.requests()] == [None]


def test_cut_during_sends_half_of_the_answer(client, standin):
    standin.faults.add(Fault(cut="during"))
    with client.stream("GET", "/a") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
            answer.read()
    assert [record.status for record in standin.faults.requests()] == [None]


def test_truncated_json_is_well_formed_http(client, standin):
    standin.faults.add(Fault(truncate_to=10))
    answer = client.get("/a")
    assert (answer.status_code, len(answer.content), answer.headers["content-length"]) == (200, 10, "10")
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        answer.json()


def test_wrong_content_type_and_header_over_a_real_answer(client, standin):
    standin.faults.add(Fault(content_type="text/html", headers={"X-Extra": "1"}))
    answer = client.get("/a")
    assert (answer.headers["content-type"], answer.headers["x-extra"]) == ("text/html", "1")
    assert answer.json()["handled"] == 1


def test_error_after_handling(client, standin):
    standin.faults.add(Fault.bad_gateway(handle=True))
    assert client.post("/a").status_code == 502
    assert standin.handled == 1


def test_delay_alone_only_delays(client, standin):
    standin.faults.add(Fault(delay_seconds=0.05))
    started = time.monotonic()
    assert client.get("/a").status_code == 200
    assert time.monotonic() - started >= 0.05


def test_a_slow_answer_times_out_at_the_client_but_is_handled(client, standin):
    standin.faults.add(Fault(delay_seconds=0.1))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/a", timeout=0.02)
    deadline = time.monotonic() + 2
    while standin.handled == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert standin.handled == 1


def test_first_fault_in_the_queue_wins_and_the_next_waits(client, standin):
    standin.faults.add(Fault(status=500), Fault(status=503))
    assert statuses(client, 3) == [500, 503, 200]


def test_request_log_has_sizes_and_statuses_but_no_secrets(client, standin):
    client.post("/a?token=hidden&project_id=7", content=b"12345", headers={"authorization": "Basic c2VjcmV0"})
    standin.faults.add(Fault.rate_limited())
    client.get("/b")
    log = client.get("/_standin/requests").json()
    assert [(r["method"], r["path"], r["status"], r["request_bytes"], r["fault"]) for r in log] == [
        ("POST", "/a", 200, 5, False),
        ("GET", "/b", 429, 0, True),
    ]
    assert log[0]["headers"]["authorization"] == "***"
    assert "hidden" not in log[0]["query"]
    assert "project_id=7" in log[0]["query"]
    assert [r["path"] for r in client.get("/_standin/requests", params={"path": "/b"}).json()] == ["/b"]


def test_admin_adds_lists_and_forgets_faults(client, standin):
    posted = client.post("/_standin/faults", json=[{"status": 500}, {"status": 503, "path": "/a", "times": 2}])
    assert posted.json() == {"pending": 2}
    assert statuses(client, 2) == [500, 503]
    assert [fault["status"] for fault in client.get("/_standin/faults").json()] == [503]
    client.delete("/_standin/faults")
    assert statuses(client, 1) == [200]


@pytest.mark.parametrize("body", [{"statuss": 500}, {"cut": "maybe"}, [{"status": "x"}], 3])
def test_admin_refuses_what_is_no_fault(client, standin, body):
    assert client.post("/_standin/faults", json=body).status_code == 400
    assert standin.faults.pending() == []


def test_reset_empties_queue_log_and_standin(client, standin):
    client.get("/a")
    standin.faults.add(Fault(status=500))
    assert client.post("/_standin/reset").status_code == 200
    assert (standin.faults.requests(), standin.faults.pending(), standin.resets) == ([], [], 1)


def test_a_cut_through_an_in_process_client_is_a_connection_error(standin):
    standin.faults.add(Fault(cut="before"))

    async def call():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(standin.app()), base_url="http://x") as client:
            await client.get("/a")

    with pytest.raises(ConnectionResetError):
        asyncio.run(call())
