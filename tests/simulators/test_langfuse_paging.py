"""Order, cursors and pages of the new generation; golden values and metadata cases of the contract (section 17)."""

import json
import random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.simulators.langfuse import NEVER, Store, create_app
from lf_dagster.simulators.langfuse.cursors import (
    observation_cursor,
    parse_observation_cursor,
    parse_score_cursor,
    score_cursor,
    trace_hash,
)
from lf_dagster.simulators.langfuse.rows import observation
from lf_dagster.simulators.langfuse.scores import score
from lf_dagster.simulators.langfuse.values import epoch_ms, iso

AUTH = ("pk-lf-local", "sk-lf-local")
T0 = 1_787_386_907_123  # 2026-08-22T08:21:47.123Z


@pytest.fixture
def client_of(origin_of):
    clients = []

    def build(store, **options):
        clients.append(httpx.Client(base_url=origin_of(create_app(store, **options)), auth=AUTH, timeout=10))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def row(number, *, trace="t", start_ms=T0, **columns):
    return observation(id=f"obs-{number}", trace_id=trace, start_time=iso(start_ms), project_id="proj-lf", **columns)


def walk(client, path="v2/observations", **query):
    """All rows over the cursor chain, and the page sizes."""
    rows, sizes, cursor = [], [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        answer = client.get(f"/api/public/{path}", params={**query, **more})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        rows += body["data"]
        sizes.append(len(body["data"]))
        cursor = body["meta"].get("cursor")
        if cursor is None:
            return rows, sizes


def crowded_store(seed=0, count=120):
    """Rows with many equal start times over few traces."""
    chance = random.Random(seed)
    store = Store()
    rows = [
        row(number, trace=f"trace-{chance.randrange(5)}", start_ms=T0 + chance.randrange(3)) for number in range(count)
    ]
    chance.shuffle(rows)
    for entry in rows:
        store.put_observation(entry)
    return store


def test_the_golden_cursors_are_written_and_read():
    written = observation_cursor(T0, "trace-1", "obs-1")
    assert written == (
        "eyJsYXN0U3RhcnRUaW1lVG8iOiIyMDI2LTA4LTIyVDA4OjIxOjQ3LjEyM1oiLCJsYXN0VHJhY2VJZCI6InRyYWNlLTEiLCJsYXN0SWQiOiJvYnMtMSJ9"
    )
    assert parse_observation_cursor(written) == (T0, 2562506356, b"obs-1")
    graded = score_cursor(T0, "score-1")
    assert graded == ("eyJ2IjoxLCJsYXN0VGltZXN0YW1wIjoiMjAyNi0wOC0yMlQwODoyMTo0Ny4xMjNaIiwibGFzdElkIjoic2NvcmUtMSJ9")
    assert parse_score_cursor(graded) == (T0, b"score-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trace-1", 2562506356),
        ("trace-2", 2863612264),
        ("", 46947589),
        ("Hello, world!", 834093149),
        ("0" * 31 + "1", 3935933906),
    ],
)
def test_trace_ids_are_hashed_as_the_engine_does(text, expected):
    assert trace_hash(text) == expected


def test_at_equal_start_times_the_hash_of_the_trace_decides_before_the_id(client_of):
    store = Store()
    for number, trace in ((1, "trace-1"), (2, "trace-1"), (0, "trace-2")):
        store.put_observation(row(number, trace=trace))
    rows, _ = walk(client_of(store), limit=1)
    assert [entry["id"] for entry in rows] == ["obs-0", "obs-2", "obs-1"]


@pytest.mark.parametrize("limit", [1, 2, 50, 119, 120, 1000])
def test_every_page_size_serves_the_same_rows_in_the_same_order(client_of, limit):
    client = client_of(crowded_store())
    expected, _ = walk(client, limit=1000)
    rows, sizes = walk(client, limit=limit)
    assert [entry["id"] for entry in rows] == [entry["id"] for entry in expected]
    assert len(rows) == len({entry["id"] for entry in rows}) == 120
    assert sizes[:-1] == [limit] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= limit


def test_the_order_does_not_depend_on_the_order_of_insertion(client_of):
    forward, backward = Store(), Store()
    rows = [version.data for version in crowded_store().observations.versions]
    for entry in rows:
        forward.put_observation(entry)
    for entry in reversed(rows):
        backward.put_observation(entry)
    first, _ = walk(client_of(forward), limit=7)
    second, _ = walk(client_of(backward), limit=7)
    assert first == second


def test_a_cursor_is_only_a_position_and_works_with_another_filter(client_of):
    client = client_of(crowded_store())
    page = client.get("/api/public/v2/observations", params={"limit": 60}).json()
    rest, _ = walk(client, limit=1000)
    below = {entry["id"] for entry in rest[60:]}
    cursor = page["meta"]["cursor"]
    body = client.get(
        "/api/public/v2/observations", params={"limit": 1000, "cursor": cursor, "traceId": "trace-3"}
    ).json()
    assert {entry["id"] for entry in body["data"]} == {
        entry["id"] for entry in rest[60:] if entry["traceId"] == "trace-3"
    }
    assert below.issuperset(entry["id"] for entry in body["data"])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(min_value=-(10**12), max_value=4 * 10**12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
def test_any_cursor_survives_the_round_trip(start_ms, trace_id, observation_id):
    start, hashed, stored = parse_observation_cursor(observation_cursor(start_ms, trace_id, observation_id))
    assert (start, hashed, stored.decode()) == (start_ms, trace_hash(trace_id), observation_id)


def test_a_row_that_arrives_while_paging_is_seen_only_below_the_cursor(client_of):
    store = Store()
    for number in range(4):
        store.put_observation(row(number, start_ms=T0 + number * 10))
    client = client_of(store)
    page = client.get("/api/public/v2/observations", params={"limit": 2}).json()
    store.put_observation(row("above", start_ms=T0 + 25))
    store.put_observation(row("below", start_ms=T0 + 5))
    rest = client.get("/api/public/v2/observations", params={"limit": 10, "cursor": page["meta"]["cursor"]}).json()
    assert [entry["id"] for entry in rest["data"]] == ["obs-1", "obs-below", "obs-0"]


def resent_store(**options):
    store = Store(**options)
    for revision in range(3):
        for number in range(6):
            entry = row(number, start_ms=T0 + number, name=f"rev-{revision}", updatedAt=iso(T0 + revision * 1000))
            store.put_observation(entry, at_ms=T0 + revision * 1000)
    return store


def test_unmerged_versions_of_a_row_are_all_served_in_no_particular_order(client_of):
    rows, _ = walk(client_of(resent_store(merge_delay_ms=NEVER), clock=lambda: T0 / 1000 + 60), limit=1000)
    assert len(rows) == 18
    assert len({entry["id"] for entry in rows}) == 6
    orders = {tuple(entry["name"] for entry in rows if entry["id"] == f"obs-{number}") for number in range(6)}
    assert len(orders) > 1


def test_a_page_break_between_two_versions_skips_the_rest_of_them(client_of):
    rows, sizes = walk(client_of(resent_store(merge_delay_ms=NEVER), clock=lambda: T0 / 1000 + 60), limit=1)
    assert len(rows) == 6
    assert sizes == [1, 1, 1, 1, 1, 1, 0]
    assert {entry["name"] for entry in rows} > {"rev-2"}


def test_after_the_merge_only_the_newest_version_is_left(client_of):
    store = resent_store(merge_delay_ms=5000)
    rows, _ = walk(client_of(store, clock=lambda: T0 / 1000 + 6.9), limit=1000)
    assert sorted(entry["name"] for entry in rows) == ["rev-1"] * 6 + ["rev-2"] * 6
    rows, _ = walk(client_of(store, clock=lambda: T0 / 1000 + 7), limit=1000)
    assert {entry["name"] for entry in rows} == {"rev-2"}


def test_a_row_sent_again_with_another_start_time_stays_twice(client_of):
    store = Store()
    store.put_observation(row(1))
    store.put_observation(row(1, start_ms=T0 + 5), at_ms=T0)
    rows, _ = walk(client_of(store), limit=10)
    assert [entry["startTime"] for entry in rows] == [iso(T0 + 5), iso(T0)]


def test_limit_zero_and_an_empty_limit_give_no_rows_and_no_cursor(client_of):
    client = client_of(crowded_store())
    for limit in ("0", ""):
        body = client.get("/api/public/v2/observations", params={"limit": limit}).json()
        assert body == {"data": [], "meta": {}}


def test_a_fractional_limit_passes_the_schema_and_breaks_in_the_database(client_of):
    answer = client_of(crowded_store()).get("/api/public/v2/observations", params={"limit": "10.5"})
    assert answer.status_code == 500
    assert answer.json()["message"] == "Internal Server Error"


@pytest.mark.parametrize(
    ("stored", "served"),
    [
        ("007", "007"),
        ("1e3", 1000),
        ("true", True),
        ("null", None),
        ("9007199254740993", "9007199254740993"),
        ("1e500", "1e500"),
        ('{"a":1}', {"a": 1}),
        ('{"a":9007199254740993,"b":2.50}', {"a": "9007199254740993", "b": 2.5}),
        ("", ""),
        ("plain text", "plain text"),
        ('"quoted"', "quoted"),
        ("NaN", "NaN"),
        ("1e5", 100000),
        ("-0.25", -0.25),
    ],
)
def test_stored_metadata_texts_are_parsed_as_the_server_does(client_of, stored, served):
    store = Store()
    store.put_observation(row(1, metadata={"key": stored}))
    rows, _ = walk(client_of(store), fields="core,metadata")
    assert rows[0]["metadata"] == {"key": served}
    assert type(rows[0]["metadata"]["key"]) is type(served)


def test_metadata_values_are_cut_to_200_code_points_unless_io_or_expansion_is_asked_for(client_of):
    store = Store()
    long = "a" * 199 + "🙂" + "b"
    nested = json.dumps({"text": "n" * 300})
    store.put_observation(row(1, metadata={"long": long, "nested": nested}))
    client = client_of(store)
    cut = walk(client, fields="core,metadata")[0][0]["metadata"]
    assert cut["long"] == "a" * 199 + "🙂"
    assert cut["nested"] == nested[:200]
    for query in ({"fields": "core,metadata,io"}, {"fields": "core,metadata", "expandMetadata": "long"}):
        full = walk(client, **query)[0][0]["metadata"]
        assert full == {"long": long, "nested": {"text": "n" * 300}}


def test_scores_are_ordered_by_time_and_id_and_merged_to_the_newest_version(client_of):
    store = Store()
    for number in range(9):
        entry = score(
            id=f"s{number}", name="n", data_type="NUMERIC", timestamp=iso(T0 + number // 3), project_id="p", value=1
        )
        store.put_score(entry, at_ms=T0)
        store.put_score({**entry, "value": 2, "updatedAt": iso(T0 + 50)}, at_ms=T0 + 50)
    client = client_of(store)
    rows, sizes = walk(client, "v3/scores", limit=2)
    assert [entry["id"] for entry in rows] == [f"s{number}" for number in (8, 7, 6, 5, 4, 3, 2, 1, 0)]
    assert {entry["value"] for entry in rows} == {2}
    assert sizes == [2, 2, 2, 2, 1]


def test_a_score_stored_under_two_timestamps_comes_back_once_per_page_and_again_on_a_later_one(client_of):
    store = Store()
    for offset, value in ((0, 1), (90_000_000, 2)):
        store.put_score(
            score(id="s", name="n", data_type="NUMERIC", timestamp=iso(T0 + offset), project_id="p", value=value)
        )
    client = client_of(store)
    assert [entry["value"] for entry in walk(client, "v3/scores", limit=100)[0]] == [2]
    store.put_score(score(id="z", name="n", data_type="NUMERIC", timestamp=iso(T0), project_id="p"))
    assert [entry["id"] for entry in walk(client, "v3/scores", limit=1)[0]] == ["s", "z", "s"]


def test_an_advanced_filter_replaces_the_simple_parameters_of_its_column(client_of):
    client = client_of(crowded_store())
    filters = [{"type": "stringOptions", "column": "traceId", "operator": "any of", "value": ["trace-1", "trace-2"]}]
    rows, _ = walk(client, limit=1000, traceId="trace-0", filter=json.dumps(filters))
    assert {entry["traceId"] for entry in rows} == {"trace-1", "trace-2"}
    window = [{"type": "datetime", "column": "startTime", "operator": ">=", "value": iso(T0 + 1)}]
    rows, _ = walk(client, limit=1000, toStartTime=iso(T0), filter=json.dumps(window))
    assert {epoch_ms(entry["startTime"]) for entry in rows} == {T0 + 1, T0 + 2}


def test_empty_parent_selects_rows_without_a_physical_parent(client_of):
    store = Store()
    store.put_observation(row(1))
    store.put_observation(row(2, parentObservationId="obs-1", isRootObservation=True))
    client = client_of(store)
    assert [entry["id"] for entry in walk(client, parentObservationId="")[0]] == ["obs-1"]
    assert [entry["id"] for entry in walk(client, isRootObservation="true")[0]] == ["obs-2"]
