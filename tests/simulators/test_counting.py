"""Counting sinks answer as the destinations do and count exactly."""

import json

import httpx
import pytest
from isal import igzip

from lf_dagster.simulators.counting import create_mixpanel_sink, create_posthog_sink

UUIDS = [f"0b7d3c1e-7f6a-5c1b-9a55-{number:012x}" for number in range(3)]
EVENTS = [{"event": "e\n", "uuid": uuid, "properties": {"a": ["x", {"event": 1}]}} for uuid in UUIDS]


@pytest.fixture
def client_of(origin_of):
    clients = []

    def build(app):
        clients.append(httpx.Client(base_url=origin_of(app)))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("ending", ["", "\n"])
def test_mixpanel_sink_counts_arrays_and_lines(client_of, zipped, ending):
    app = create_mixpanel_sink()
    client = client_of(app)
    array = json.dumps(EVENTS).encode()
    lines = ("\n".join(map(json.dumps, EVENTS)) + ending).encode()
    for body, kind in ((array, "application/json"), (lines, "application/x-ndjson")):
        wire = igzip.compress(body) if zipped else body
        answer = client.post("/import", content=wire, headers={"content-type": kind})
        assert answer.json() == {"code": 200, "num_records_imported": 3, "status": "OK"}
    counted = client.get("/_standin/counts").json()
    assert (counted["requests"], counted["events"], counted["json_bytes"]) == (2, 6, len(array) + len(lines))


def test_posthog_sink_counts_both_protocols_and_answers_per_event(client_of):
    app = create_posthog_sink()
    client = client_of(app)
    assert client.post("/batch/", json={"api_key": "phc_x", "batch": EVENTS}).json() == {"status": 1}
    answer = client.post("/i/v1/analytics/events", json={"created_at": "x", "batch": EVENTS})
    assert answer.json() == {"results": {uuid: {"result": "ok"} for uuid in UUIDS}}
    assert app.state.counts.events == 6
    client.post("/_standin/reset")
    assert app.state.counts.as_dict() == {"requests": 0, "events": 0, "wire_bytes": 0, "json_bytes": 0}


def test_posthog_sink_can_be_without_v1(client_of):
    client = client_of(create_posthog_sink(capture_v1=False))
    assert client.post("/i/v1/analytics/events", json={"batch": []}).status_code == 404
