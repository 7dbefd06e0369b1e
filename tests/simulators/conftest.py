"""Stand-ins over real sockets, on a clock that tests move."""

import httpx
import pytest
from isal import igzip
from starlette.applications import Starlette
from starlette.types import ASGIApp

from lf_dagster.simulators import mixpanel, posthog
from lf_dagster.simulators.server import serve

NOW = 1_795_245_000.0  # 2026-11-21T07:10:00Z


class Clock:
    """Epoch seconds that only move when told."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


class _Switch:
    """An ASGI application that can be exchanged: starting a server costs more than most tests."""

    def __init__(self):
        self.app: ASGIApp = Starlette()

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class ServerPool:
    """Running servers that tests lease for one application."""

    def __init__(self):
        self.servers = []
        self.free = []

    def lease(self, app):
        if not self.free:
            switch = _Switch()
            self.servers.append(serve(switch))
            self.free.append((switch, self.servers[-1]))
        switch, server = self.free.pop()
        switch.app = app
        return switch, server

    def stop(self):
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="session")
def server_pool():
    pool = ServerPool()
    yield pool
    pool.stop()


@pytest.fixture
def origin_of(server_pool):
    """Serves an application for the time of one test and gives its origin."""
    leased = []

    def run(app):
        leased.append(server_pool.lease(app))
        return leased[-1][1].origin

    yield run
    server_pool.free.extend(leased)


class MixpanelClient:
    """A client of one stand-in, with the request shapes of the contract."""

    ACCOUNT = mixpanel.ServiceAccount(username="sa", secret="pw", project_ids=frozenset({7}))
    VIEWER = mixpanel.ServiceAccount(username="viewer", secret="pw", project_ids=frozenset({7}), role="analyst")

    def __init__(self, origin, app, clock):
        self.http = httpx.Client(base_url=origin, timeout=5)
        self.standin = app.state.standin
        self.store = self.standin.store
        self.faults = app.state.faults
        self.clock = clock

    def event(self, number=0, *, event="[LF] Trace", **properties):
        base = {
            "time": int(self.clock.now * 1000) - 60_000 - number,
            "distinct_id": f"user-{number}",
            "$insert_id": f"0b7d3c1e-7f6a-5c1b-9a55-{number:012x}",
            "ip": "0",
        }
        merged = {**base, **properties}
        return {"event": event, "properties": {name: value for name, value in merged.items() if value is not ...}}

    def post(self, content, *, params=None, auth=("tok", ""), **headers):
        headers = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.http.post("/import", params={"strict": "1"} if params is None else params, auth=auth,
                              content=content, headers=headers)  # fmt: skip

    def send(self, events, **kw):
        return self.post(httpx.Request("POST", "http://x", json=events).content, **kw)

    def send_gzip(self, events):
        content = httpx.Request("POST", "http://x", json=events).content
        return self.post(igzip.compress(content), content_encoding="gzip")

    def export(self, auth=("sa", "pw"), **params):
        params = {"project_id": "7", "from_date": "2026-11-20", "to_date": "2026-11-21", **params}
        return self.http.get("/api/2.0/export", params=params, auth=auth)


@pytest.fixture
def mixpanel_with(clock, origin_of):
    """Builds a Mixpanel stand-in with the given settings and serves it."""
    running = []

    def build(**kw):
        accounts = [MixpanelClient.ACCOUNT, MixpanelClient.VIEWER]
        app = mixpanel.create_app(tokens={"tok": 7, "other": 8}, service_accounts=accounts, clock=clock, **kw)
        client = MixpanelClient(origin_of(app), app, clock)
        running.append(client)
        return client

    yield build
    for client in running:
        client.http.close()


@pytest.fixture
def mp(mixpanel_with):
    return mixpanel_with()


class PosthogClient:
    """A client of one stand-in, with the request shapes of the contract."""

    def __init__(self, origin, app, clock):
        self.http = httpx.Client(base_url=origin, timeout=5)
        self.standin = app.state.standin
        self.store = self.standin.store
        self.faults = app.state.faults
        self.clock = clock

    def event(self, number=0, *, event="langfuse trace", properties=None, **fields):
        base = {
            "event": event,
            "distinct_id": f"person-{number}",
            "uuid": f"0b7d3c1e-7f6a-5c1b-9a55-{number:012x}",
            "timestamp": "2026-11-21T05:00:00.123Z",
            "properties": {"$geoip_disable": True, **(properties or {})},
        }
        return {name: value for name, value in {**base, **fields}.items() if value is not ...}

    def post(self, content, *, path="/batch/", params=None, **headers):
        headers = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.http.post(path, content=content, params=params, headers=headers)

    def send(self, events, *, path="/batch/", params=None, **body):
        body = {"api_key": "phc_x", "batch": events, **body}
        body = {name: value for name, value in body.items() if value is not ...}
        return self.http.post(path, json=body, params=params)

    def headers(self, **changed):
        base = {
            "authorization": "Bearer phc_x",
            "content-type": "application/json",
            "posthog-sdk-info": "lf_dagster/0.1.0",
            "posthog-attempt": "1",
            "posthog-request-id": "11111111-2222-4333-8444-555555555555",
            "posthog-request-timestamp": "2026-11-21T07:10:00Z",
            "user-agent": "test",
        }
        merged = {**base, **{k.replace("_", "-"): v for k, v in changed.items()}}
        return {name: value for name, value in merged.items() if value is not None}

    def v1_raw(self, content, **changed):
        request = self.http.build_request(
            "POST", "/i/v1/analytics/events", content=content, headers=self.headers(**changed)
        )
        if changed.get("user_agent", "") is None:
            del request.headers["user-agent"]
        return self.http.send(request)

    def v1(self, events, *, headers=None, **body):
        body = {"created_at": "2026-11-21T07:10:00Z", "batch": events, **body}
        body = {name: value for name, value in body.items() if value is not ...}
        return self.v1_raw(httpx.Request("POST", "http://x", json=body).content, **(headers or {}))


@pytest.fixture
def posthog_with(clock, origin_of):
    """Builds a PostHog stand-in with the given settings and serves it."""
    running = []

    def build(**kw):
        app = posthog.create_app(tokens={"phc_x": 7}, clock=clock, **kw)
        client = PosthogClient(origin_of(app), app, clock)
        running.append(client)
        return client

    yield build
    for client in running:
        client.http.close()


@pytest.fixture
def ph(posthog_with):
    return posthog_with()
