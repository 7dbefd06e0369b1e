"""Order of checks, keys, modes, rate limits and the traps of the legacy generation."""

import base64
import json

import httpx
import pytest

from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.langfuse import PLANS, ApiKey, Limits, Project, Store, create_app
from lf_dagster.simulators.langfuse.rows import observation
from lf_dagster.simulators.langfuse.scores import score
from lf_dagster.simulators.langfuse.traces import trace
from lf_dagster.simulators.langfuse.values import iso

T0 = 1_787_386_907_123
SECRET = ("pk-lf-local", "sk-lf-local")
NEW = ("v2/observations", "v3/scores")
LEGACY = ("traces", "observations", "v2/scores", "scores", "sessions", "metrics", "traces/t1", "observations/o1")
METRICS = json.dumps(
    {
        "view": "observations",
        "metrics": [{"measure": "count", "aggregation": "count"}],
        "fromTimestamp": "2026-08-22T00:00:00Z",
        "toTimestamp": "2026-08-22T23:59:59.999Z",
    }
)


def small_store(**project):
    store = Store(Project(**project))
    store.put_trace(trace(id="t1", timestamp=iso(T0), project_id="p"))
    store.put_observation(observation(id="o1", trace_id="t1", start_time=iso(T0), project_id="p"))
    return store


@pytest.fixture
def client_of(origin_of):
    clients = []

    def build(store, auth=SECRET, **options):
        clients.append(httpx.Client(base_url=origin_of(create_app(store, **options)), auth=auth, timeout=10))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def get(client, path, **query):
    return client.get(f"/api/public/{path}", params=query)


def test_the_secret_alone_opens_a_project(client_of):
    client = client_of(small_store(), auth=("another-public-key", "sk-lf-local"))
    assert get(client, "projects").json()["data"][0]["id"] == "proj-lf"
    assert get(client, "v2/observations").status_code == 200


def test_each_secret_opens_its_own_project(client_of):
    keys = (ApiKey("pk-2", "sk-2"),)
    other = small_store(id="proj-2", name="Zwei", organization_id="org-2", keys=keys, retention_days=30)
    client = client_of([small_store(), other], auth=("pk-2", "sk-2"))
    (found,) = get(client, "projects").json()["data"]
    assert (found["id"], found["retentionDays"]) == ("proj-2", 30)


@pytest.mark.parametrize(
    ("header", "status", "text"),
    [
        (None, 401, "No authorization header"),
        ("Basic bm9jb2xvbg==", 401, "Invalid authorization header"),
        ("Basic !!!", 401, "Invalid authorization header"),
        ("Digest x", 401, "Invalid authorization header"),
        ("Bearer pk-lf-local", 403, "Access denied"),
        ("Basic " + base64.b64encode(b"pk:sk-nobody").decode(), 401, "Invalid credentials"),
        ("Basic " + base64.b64encode(b"pk:sk-org").decode(), 403, "Access denied"),
    ],
)
def test_other_credentials_are_refused(client_of, header, status, text):
    keys = (ApiKey(), ApiKey("pk-org", "sk-org", "organization"))
    client = client_of(small_store(keys=keys), auth=None)
    answer = client.get("/api/public/v2/observations", headers={"authorization": header} if header else {})
    assert answer.status_code == status
    assert answer.json()["message"].startswith(text)


def test_an_organization_key_is_named_where_projects_are_listed(client_of):
    client = client_of(small_store(keys=(ApiKey("pk-org", "sk-org", "organization"),)), auth=("pk-org", "sk-org"))
    answer = get(client, "projects")
    assert answer.status_code == 403
    assert "organization" in answer.json()["message"].lower()


def test_the_method_is_checked_before_authentication(client_of):
    client = client_of(small_store(), auth=None)
    for method in ("POST", "PUT", "HEAD", "DELETE"):
        assert client.request(method, "/api/public/v2/observations").status_code == 405
    assert client.options("/api/public/v2/observations").status_code == 204
    answer = client.post("/api/public/projects")
    assert (answer.status_code, answer.json()) == (405, {"message": "Method not allowed"})


def test_events_only_refuses_legacy_routes_before_authentication_and_rate_limit(client_of):
    client = client_of(small_store(), auth=None, mode="v4-events_only", limits=Limits(PLANS["hobby"]))
    for path in LEGACY * 4:
        answer = get(client, path)
        assert answer.status_code == 404
        assert "events_only mode" in answer.json()["message"]
        assert "error" not in answer.json()


def test_unknown_paths_answer_with_a_page(client_of):
    client = client_of(small_store(), auth=None)
    for path in ("/api/public/v9/nope", "/api/public/v2/nothing", "/login", "/"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("mode", "v2", "metrics", "legacy", "version"),
    [
        ("v3-legacy", 404, 404, 200, "3.225.0"),
        ("v4-dual", 200, 200, 200, "4.16.0"),
        ("v4-events_only", 200, 200, 404, "4.16.0"),
        ("v4-legacy-with-opt-in", 200, 404, 200, "4.16.0"),
        ("cloud-old-org", 200, 200, 200, "4.16.0"),
        ("cloud-new-org", 200, 200, 410, "4.39.0"),
        ("cloud-sunset", 200, 200, 404, "4.39.0"),
    ],
)
def test_each_mode_offers_its_endpoints(client_of, mode, v2, metrics, legacy, version):
    client = client_of(small_store(), mode=mode)
    assert get(client, "health").json() == {"status": "OK", "version": version}
    assert get(client, "v2/observations").status_code == v2
    assert get(client, "v2/metrics", query=METRICS).status_code == metrics
    assert get(client, "v3/scores").status_code == 200
    for path in ("traces", "observations", "v2/scores", "sessions"):
        assert get(client, path).status_code == legacy


def test_the_trap_of_write_mode_legacy_is_an_empty_success(client_of):
    client = client_of(small_store(), mode="v4-legacy-with-opt-in")
    assert get(client, "v2/observations").json() == {"data": [], "meta": {}}
    assert get(client, "traces").json()["meta"]["totalItems"] == 1


def test_a_cloud_organization_of_old_is_told_of_the_end(client_of):
    client = client_of(small_store(), mode="cloud-old-org")
    for path in ("traces", "observations", "v2/scores", "sessions", "traces/t1", "observations/o1"):
        assert get(client, path).json()["_deprecation"]["sunsetAt"] == "2026-11-16"
    assert "_deprecation" not in get(client, "v2/observations").json()


def test_a_new_cloud_organization_spends_a_token_and_gets_410_before_its_query_is_read(client_of):
    client = client_of(small_store(), mode="cloud-new-org", limits=Limits.of(3, bucket="public-api-legacy"))
    answers = [get(client, "traces", page="0") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [410, 410, 429]
    assert answers[0].json()["error"] == "LEGACY_API_UNAVAILABLE_FOR_NEW_ORGANIZATION"
    assert answers[0].json()["replacementEndpoint"] == "/api/public/v2/observations"


def test_a_limit_of_n_serves_n_minus_one_requests_and_refused_queries_count(client_of):
    now = [1_000_000.0]
    client = client_of(small_store(), limits=Limits.of(5, 20, clock=lambda: now[0]))
    statuses = [get(client, "v2/observations", limit="-1").status_code]
    statuses += [get(client, path).status_code for path in ("v3/scores", "v2/observations", "v2/scores")]
    now[0] += 0.3
    refused = get(client, "v2/observations")
    assert statuses == [400, 200, 200, 200]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "20"
    assert refused.headers["x-ratelimit-limit"] == "5"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["x-ratelimit-reset"] == "Mon Jan 12 1970 13:47:00 GMT+0000 (Coordinated Universal Time)"
    assert refused.json() == {
        "message": "Rate limit exceeded",
        "code": "rate_limited",
        "details": {
            "retryAfterSeconds": 20,
            "limit": 5,
            "remaining": 0,
            "resetAt": "1970-01-12T13:47:00.000Z",
        },
    }
    assert get(client, "projects").status_code == 200
    now[0] += 19.7
    assert get(client, "v2/observations").status_code == 200


def test_all_projects_of_an_organization_share_a_window(client_of):
    second = small_store(id="proj-2", keys=(ApiKey("pk-2", "sk-2"),))
    foreign = small_store(id="proj-3", organization_id="org-3", keys=(ApiKey("pk-3", "sk-3"),))
    client = client_of([small_store(), second, foreign], limits=Limits.of(2))

    def status(secret):
        return client.get("/api/public/v3/scores", auth=("x", secret)).status_code

    assert [status("sk-lf-local"), status("sk-2"), status("sk-3")] == [200, 429, 200]


def test_old_servers_refuse_in_plain_text(client_of):
    client = client_of(small_store(), limits=Limits({"public-api": (1, 60)}, plain_text=True))
    answer = get(client, "v2/observations")
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("text/plain")
    assert int(answer.headers["retry-after"]) == 60


def tied_store(count=60):
    store = Store()
    for number in range(count):
        store.put_trace(trace(id=f"t{number:02d}", timestamp=iso(T0), project_id="p"))
    return store


def walk_pages(client, path, **query):
    first = get(client, path, **query).json()
    rows = [
        row
        for page in range(1, first["meta"]["totalPages"] + 1)
        for row in get(client, path, page=page, **query).json()["data"]
    ]
    return [row["id"] for row in rows], first["meta"]["totalItems"]


def test_the_default_order_of_traces_loses_rows_of_a_tie_while_the_total_stays_right(client_of):
    client = client_of(tied_store())
    ids, total = walk_pages(client, "traces", limit=25)
    assert total == len(ids) == 60
    assert len(set(ids)) < 60
    ids, _ = walk_pages(client, "traces", limit=25, orderBy="id.asc")
    assert ids == sorted(set(ids))
    assert len(ids) == 60


def test_groups_left_out_of_a_trace_show_as_sentinels(client_of):
    client = client_of(small_store())
    (row,) = get(client, "traces", fields="core").json()["data"]
    assert (row["totalCost"], row["latency"]) == (-1, -1)
    assert (row["observations"], row["scores"], row["metadata"], row["input"]) == ([], [], {}, None)
    (row,) = get(client, "traces").json()["data"]
    assert (row["totalCost"], row["latency"], row["observations"]) == (0, 0, ["o1"])


def test_the_legacy_total_counts_unmerged_versions_but_rows_are_merged(client_of):
    store = Store(merge_delay_ms=10**15)
    for revision in range(3):
        entry = observation(id="o1", trace_id="t1", start_time=iso(T0), project_id="p", name=f"rev-{revision}")
        store.put_observation(entry, at_ms=T0 + revision)
    body = get(client_of(store), "observations").json()
    assert [row["name"] for row in body["data"]] == ["rev-2"]
    assert body["meta"]["totalItems"] == 3


def test_synthetic_roots_exist_in_the_new_generation_only(client_of):
    store = Store()
    store.put_trace(trace(id="t1", timestamp=iso(T0), project_id="p"))
    store.put_observation(observation(id="t-t1", trace_id="t1", start_time=iso(T0), project_id="p"))
    child = observation(id="o1", trace_id="t1", start_time=iso(T0), project_id="p", parentObservationId="t-t1")
    store.put_observation(child)
    client = client_of(store)
    assert {row["id"] for row in get(client, "v2/observations").json()["data"]} == {"o1", "t-t1"}
    (row,) = get(client, "observations").json()["data"]
    assert (row["id"], row["parentObservationId"]) == ("o1", None)


def test_scores_of_missing_traces_are_left_out_where_the_trace_is_embedded(client_of):
    store = small_store()
    for name, trace_id in (("kept", "t1"), ("lost", "nowhere")):
        entry = score(id=name, name="n", data_type="NUMERIC", timestamp=iso(T0), project_id="p", traceId=trace_id)
        store.put_score(entry)
    client = client_of(store)
    assert {row["id"] for row in get(client, "v3/scores").json()["data"]} == {"kept", "lost"}
    assert {row["id"] for row in get(client, "v2/scores").json()["data"]} == {"kept"}
    assert {row["id"] for row in get(client, "v2/scores", fields="score").json()["data"]} == {"kept", "lost"}


def test_ids_with_slashes_are_found_when_they_are_encoded(client_of):
    store = Store()
    store.put_trace(trace(id="légacy/tråce 000", timestamp=iso(T0), project_id="p"))
    answer = client_of(store).get("/api/public/traces/l%C3%A9gacy%2Ftr%C3%A5ce%20000")
    assert answer.json()["id"] == "légacy/tråce 000"


def test_a_repeated_scalar_parameter_is_refused(client_of):
    answer = client_of(small_store()).get("/api/public/v2/observations?name=a&name=b")
    assert answer.status_code == 400
    assert answer.json()["error"][0]["path"] == ["name"]


def test_a_plus_that_was_not_encoded_breaks_the_offset(client_of):
    answer = client_of(small_store()).get("/api/public/v2/observations?fromStartTime=2026-08-22T02:00:00+01:00")
    assert answer.status_code == 400


def test_metrics_end_inclusive_and_fill_empty_hours(client_of):
    store = Store()
    for number, start in enumerate((T0, T0 + 1)):
        store.put_observation(observation(id=f"o{number}", trace_id="t", start_time=iso(start), project_id="p"))
    asked = json.loads(METRICS) | {"toTimestamp": iso(T0), "timeDimension": {"granularity": "hour"}}
    rows = get(client_of(store), "v2/metrics", query=json.dumps(asked)).json()["data"]
    assert [row["count_count"] for row in rows] == [0] * 8 + [1]
    assert rows[-1]["time_dimension"] == "2026-08-22T08:00:00Z"


def test_high_cardinality_dimensions_are_refused(client_of):
    asked = json.loads(METRICS) | {"dimensions": [{"field": "traceId"}]}
    assert get(client_of(small_store()), "v2/metrics", query=json.dumps(asked)).status_code == 400


def test_injected_faults_strike_before_the_server_answers(client_of):
    app_client = client_of(small_store())
    app_client.post("/_standin/faults", json={"path": "/api/public/v2/observations", "status": 524, "body": "<html>"})
    assert get(app_client, "v2/observations").status_code == 524
    assert get(app_client, "v2/observations").status_code == 200
    assert Fault(status=524).status == 524


def test_large_answers_are_compressed_for_those_who_accept_it(client_of):
    client = client_of(tied_store(30))
    assert get(client, "traces").headers["content-encoding"] == "gzip"
    plain = client.get("/api/public/traces", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(plain.json()["data"]) == 30
