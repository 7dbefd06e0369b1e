"""Payloads are valid JSON that says what the typed rows say, whatever the rows hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_dagster.events import event_id, load_catalogue
from lf_dagster.events.nobody import MIXPANEL_DENIED_IDS, POSTHOG_ILLEGAL_IDS
from lf_dagster.hours import Hour
from tests.events.events import HOST, EventProject
from tests.warehouse.extracts import v2_row, v3_score

HOUR = Hour.from_key("2026-11-21-05:00")
MakeProject = Callable[..., EventProject]


def strict_json(text: str) -> Any:
    """Parse as a strict reader: no NaN or Infinity, no key twice."""

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    def no_double(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"a key twice: {sorted(keys)}"
        return dict(pairs)

    return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_double)


def one_event(project: EventProject, kind: str, destination: str = "mixpanel", protocol: str = "import") -> Any:
    [row] = project.prepared(destination, protocol, where=f"kind = '{kind}'")
    return {**row, "content": strict_json(row["payload"])}


GENERATION = v2_row(
    "g1", "t1", "2026-11-21T05:00:00.125Z", type="GENERATION", endTime="2026-11-21T05:00:01.625Z", name="answer",
    completionStartTime="2026-11-21T05:00:00.325Z", userId="u-42", sessionId="s-1", traceName="chat", tags=["b", "a"],
    model="gpt-4o", usageDetails={"input": 10, "input_cached_tokens": 4, "output": 5, "total": 19},
    costDetails={"input": 0.001, "output": 0.002, "total": 0.003}, version="v1", release="r1",
    metadata={"$posthog_session_id": "ph-1"},
)  # fmt: skip


def test_a_documented_mixpanel_event_in_full(make_project: MakeProject) -> None:
    project = make_project()
    project.extract_v2([GENERATION], [HOUR])
    project.run_all([HOUR])
    event = one_event(project, "generation")
    url = f"{HOST}/project/proj-lf"
    assert event["content"] == {
        "event": "[Langfuse] Generation",
        "properties": {
            "time": 1795237200125, "distinct_id": "u-42", "$insert_id": event_id("mixpanel", "proj-lf", "g1"),
            "$user_id": "u-42", "session_id": "s-1", "ip": "0", "langfuse_generation_name": "answer",
            "langfuse_trace_name": "chat", "langfuse_trace_id": "t1",
            "langfuse_url": f"{url}/traces/t1?observation=g1", "langfuse_user_url": f"{url}/users/u-42",
            "langfuse_id": "g1", "langfuse_cost_usd": 0.003, "langfuse_input_units": 14, "langfuse_output_units": 5,
            "langfuse_total_units": 19, "langfuse_session_id": "s-1", "langfuse_project_id": "proj-lf",
            "langfuse_project_name": "LF Project", "langfuse_user_id": "u-42", "langfuse_latency": 1500,
            "langfuse_time_to_first_token": 200, "langfuse_release": "r1", "langfuse_version": "v1",
            "langfuse_model": "gpt-4o", "langfuse_level": "DEFAULT", "langfuse_tags": ["a", "b"],
            "langfuse_environment": "default", "langfuse_event_version": "1.0.0",
            "lf_partition": "2026-11-21-05:00",
        },
    }  # fmt: skip
    assert (event["time_ms"], event["identity"]) == (1795237200125, "u-42|1795237200125")
    assert (event["hour"], event["entity_id"], event["truncated"]) == (HOUR.start, "g1", [])


def test_a_documented_posthog_event_in_both_protocols(make_project: MakeProject) -> None:
    project = make_project()
    project.extract_v2([GENERATION], [HOUR])
    project.run_all([HOUR])
    batch, v1 = (one_event(project, "trace", "posthog", protocol) for protocol in ("batch", "v1"))
    envelope = {
        "event": "langfuse trace", "uuid": event_id("posthog", "proj-lf", "t1"), "distinct_id": "u-42",
        "timestamp": "2026-11-21T05:00:00.125Z",
    }  # fmt: skip
    properties = {**batch["content"]["properties"]}
    own = {key: properties.pop(key) for key in ("$session_id", "$lib", "$lib_version", "$geoip_disable")}
    assert {**batch["content"], "properties": None} == {**envelope, "properties": None}
    assert (own["$session_id"], own["$lib"], own["$geoip_disable"]) == ("ph-1", "lf_dagster", True)
    assert properties["$set"] == {"langfuse_user_url": f"{HOST}/project/proj-lf/users/u-42"}
    assert v1["content"] == {
        **envelope,
        "session_id": "ph-1",
        "options": {"disable_skew_correction": True},
        "properties": {**properties, "$geoip_disable": True},
    }
    assert batch["payload_hash"] == v1["payload_hash"]
    assert batch["identity"] == "u-42|2026-11-21"


@pytest.mark.parametrize("compatibility", ["documented", "native"])
def test_an_event_without_user(make_project: MakeProject, compatibility: str) -> None:
    project = make_project(compatibility=compatibility)
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z")], [HOUR])
    project.run_all([HOUR])
    mixpanel = one_event(project, "trace")["content"]["properties"]
    documented = compatibility == "documented"
    assert (mixpanel["distinct_id"], "$user_id" in mixpanel, "langfuse_user_url" in mixpanel) == ("", False, False)
    assert mixpanel["langfuse_user_id"] == ("langfuse_unknown_user" if documented else None)
    assert "session_id" not in mixpanel
    batch = one_event(project, "trace", "posthog", "batch")["content"]
    assert batch["distinct_id"] == batch["uuid"]
    assert batch["properties"]["$process_person_profile"] is False
    assert "$set" not in batch["properties"]
    assert batch["properties"].get("$session_id", "absent") == ("absent" if documented else "")
    v1 = one_event(project, "trace", "posthog", "v1")["content"]
    assert v1["options"] == {"disable_skew_correction": True, "process_person_profile": False}
    assert "session_id" not in v1


@pytest.mark.slow
@pytest.mark.parametrize("user", [*MIXPANEL_DENIED_IDS, " Anonymous ", "NULL", "   ", "\t", "anonymous\r\n"])
def test_ids_that_mixpanel_refuses_are_no_user(make_project: MakeProject, user: str) -> None:
    project = make_project()
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z", userId=user)], [HOUR])
    project.run_all([HOUR])
    properties = one_event(project, "trace")["content"]["properties"]
    assert (properties["distinct_id"], "$user_id" in properties) == ("", False)
    assert properties["langfuse_user_id"] == user


def test_ids_that_posthog_calls_illegal_are_no_user_unless_native(make_project: MakeProject) -> None:
    users = [*POSTHOG_ILLEGAL_IDS, " Guest ", "NaN", "   ", "\t", "guest\n"]
    rows = [v2_row(f"a{n}", f"t{n}", "2026-11-21T05:00:00Z", userId=user) for n, user in enumerate(users)]
    project = make_project()
    project.extract_v2(rows, [HOUR])
    project.run_all([HOUR])
    for row in project.prepared("posthog", "batch", where="kind = 'trace'"):
        assert row["distinct_id"] == row["event_id"]
        content = strict_json(row["payload"])
        assert content["properties"]["$process_person_profile"] is False
        assert content["properties"]["langfuse_user_id"] == users[int(row["entity_id"][1:])]
    native = make_project(compatibility="native").prepared("posthog", "batch", where="kind = 'trace'")
    assert sorted(row["distinct_id"] for row in native) == sorted(users)


@pytest.mark.parametrize(
    ("id_", "encoded"),
    [
        ("plain-id_1.2~3", "plain-id_1.2~3"),
        ("a/b?c=d&e#f", "a%2Fb%3Fc%3Dd%26e%23f"),
        ("it's (a) *star*!", "it's%20(a)%20*star*!"),
        ("测试 ü 🚀", quote("测试 ü 🚀", safe="")),
        ("100%25", "100%2525"),
    ],
)
def test_links_encode_ids_as_a_browser_does(make_project: MakeProject, id_: str, encoded: str) -> None:
    project = make_project()
    project.extract_v2([v2_row("a", id_, "2026-11-21T05:00:00Z", userId=id_)], [HOUR])
    project.run_all([HOUR])
    properties = one_event(project, "trace")["content"]["properties"]
    assert properties["langfuse_url"] == f"{HOST}/project/proj-lf/traces/{encoded}"
    assert properties["langfuse_user_url"] == f"{HOST}/project/proj-lf/users/{encoded}"
    assert properties["$insert_id"] == event_id("mixpanel", "proj-lf", id_)


def test_what_mixpanel_would_cut_is_cut_and_named(make_project: MakeProject) -> None:
    long = "ü🚀" * 200
    rows = [v2_row("a", "t1", "2026-11-21T05:00:00Z", traceName=long, tags=["!" * 300, *map(str, range(300))])]
    metadata = {"long": "m" * 256, "k" * 300: "gone", "short": "kept", "nested": {"a": [1]}}
    score = v3_score("s", "2026-11-21T05:00:00Z", comment="c" * 255, metadata=metadata)
    project = make_project()
    project.extract_v2(rows, [HOUR], [score])
    project.run_all([HOUR])
    trace = one_event(project, "trace")
    properties = trace["content"]["properties"]
    assert properties["langfuse_trace_name"] == long[:255]
    assert len(properties["langfuse_tags"]) == 254
    assert max(map(len, properties["langfuse_tags"])) == 255
    names = ["langfuse_trace_name", "langfuse_tags"]
    assert trace["truncated"] == names
    assert properties["langfuse_truncated_properties"] == names
    event = one_event(project, "score")
    properties = event["content"]["properties"]
    assert properties["langfuse_score_comment"] == "c" * 255
    assert properties["langfuse_score_metadata"] == {"long": "m" * 255, "short": "kept", "nested": '{"a":[1]}'}
    assert set(event["truncated"]) == {"langfuse_score_metadata", "langfuse_trace_name", "langfuse_tags"}
    posthog = one_event(project, "trace", "posthog", "batch")
    assert posthog["content"]["properties"]["langfuse_trace_name"] == long
    native = one_event(make_project(compatibility="native"), "trace")
    assert native["content"]["properties"]["langfuse_trace_name"] == long
    assert native["truncated"] == names


def test_an_object_is_no_larger_than_mixpanel_can_use(make_project: MakeProject) -> None:
    metadata = {f"key {number}": "ü" * 200 for number in range(50)}
    score = v3_score("s", "2026-11-21T05:00:00Z", metadata=metadata)
    project = make_project()
    project.extract_v2([], [HOUR], [score])
    project.run_all([HOUR])
    event = one_event(project, "score")
    sent = event["content"]["properties"]["langfuse_score_metadata"]
    assert len(json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode()) in range(7_500, 8_193)
    assert list(sent.items()) == list(metadata.items())[: len(sent)]
    assert event["content"]["properties"]["langfuse_truncated_properties"] == ["langfuse_score_metadata"]
    posthog = one_event(project, "score", "posthog", "batch")
    assert posthog["content"]["properties"]["langfuse_score_metadata"] == metadata


@pytest.mark.parametrize(("destination", "protocol", "limit"), [("mixpanel", "import", 255), ("posthog", "v1", 200)])
def test_a_user_id_that_is_too_long_is_cut(
    make_project: MakeProject, destination: str, protocol: str, limit: int
) -> None:
    project = make_project()
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z", userId="ü" * 300)], [HOUR])
    project.run_all([HOUR])
    event = one_event(project, "trace", destination, protocol)
    assert event["distinct_id"] == "ü" * limit
    assert "distinct_id" in event["truncated"]


def test_a_number_beyond_all_floats_is_null(make_project: MakeProject) -> None:
    text = json.dumps(v3_score("raw-0", "2026-11-21T05:00:00Z", value=0)).replace('"value": 0', '"value": 1e999')
    project = make_project()
    project.extract_v2([], [HOUR], [text])
    project.run_all([HOUR])
    assert [row["value_num"] for row in project.query("SELECT value_num FROM scores")] == [None]
    assert one_event(project, "score")["content"]["properties"]["langfuse_score_value"] is None


def test_an_unchanged_event_keeps_its_hash_and_a_changed_one_does_not(make_project: MakeProject) -> None:
    project = make_project()
    hashes = []
    for level in ("DEFAULT", "DEFAULT", "ERROR"):
        project.extract_v2([{**GENERATION, "level": level}], [HOUR])
        project.run_all([HOUR])
        hashes.append({row["kind"]: row["payload_hash"] for row in project.prepared("posthog", "v1")})
    assert hashes[0] == hashes[1]
    assert hashes[1]["generation"] != hashes[2]["generation"]
    assert hashes[1]["trace"] == hashes[2]["trace"]


def test_hours_that_are_asked_for_alone_are_read(make_project: MakeProject) -> None:
    project = make_project()
    hours = [HOUR, HOUR.shift(1)]
    rows = [v2_row(hour.hour, hour.hour, hour.start.isoformat()) for hour in hours]
    project.extract_v2(rows, hours)
    project.run_all(hours)
    found = project.prepared(where=f"hour IN (TIMESTAMPTZ '{hours[1].start.isoformat()}')")
    assert [row["entity_id"] for row in found] == ["06"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MAYBE = st.none() | TEXT
NUMBER = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e5, max_value=1e5)
OBSERVATION = st.fixed_dictionaries(
    {
        "name": TEXT, "userId": TEXT, "sessionId": TEXT, "version": TEXT, "release": TEXT, "traceName": MAYBE,
        "model": TEXT, "tags": st.lists(TEXT, max_size=3), "environment": TEXT, "level": TEXT, "statusMessage": TEXT,
        "metadata": st.dictionaries(TEXT | st.just("$mixpanel_session_id"), TEXT | NUMBER | st.booleans(), max_size=3),
        "usageDetails": st.dictionaries(TEXT | st.just("input"), st.integers(-(2**40), 2**40), max_size=3),
        "costDetails": st.dictionaries(TEXT | st.just("total"), NUMBER, max_size=2),
        "endTime": st.sampled_from([None, "2026-11-21T04:59:59.999Z", "2026-11-21T05:00:00Z", "1970-01-01T00:00:00Z"]),
        "traceId": TEXT.filter(bool), "type": st.sampled_from(["GENERATION", "SPAN", "TOOL"]),
    }
)  # fmt: skip
SCORE = st.fixed_dictionaries(
    {
        "name": TEXT, "comment": MAYBE, "metadata": st.dictionaries(TEXT, TEXT | NUMBER | st.none(), max_size=3),
        "dataType": st.sampled_from(["NUMERIC", "CATEGORICAL", "TEXT", "BOOLEAN", "CORRECTION"]),
        "value": TEXT | NUMBER | st.booleans(), "environment": TEXT,
    }
)  # fmt: skip


@pytest.mark.slow
@given(observations=st.lists(OBSERVATION, min_size=1, max_size=16), scores=st.lists(SCORE, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_payload_is_strict_json_that_says_what_the_event_row_says(
    tmp_path_factory: pytest.TempPathFactory, observations: list[dict[str, Any]], scores: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("payloads")
    rows = [v2_row(f"o{n}", row["traceId"], "2026-11-21T05:00:00Z", **row) for n, row in enumerate(observations)]
    rated = [v3_score(f"s{n}", "2026-11-21T05:30:00Z", trace_id=rows[0]["traceId"], **s) for n, s in enumerate(scores)]
    project = EventProject(folder, observation_events=True)
    project.extract_v2(rows, [HOUR], rated)
    project.run_all([HOUR])
    events = {event.kind: event for event in load_catalogue() if event.kind in project.settings.event_kinds}
    tables = {
        (kind, row["entity_id"]): row
        for kind, event in events.items()
        for row in project.query(f"SELECT * FROM {event.table}")
    }
    for compatibility in ("documented", "native"):
        same = EventProject(folder, compatibility=compatibility, observation_events=True)
        for destination, protocol in (("mixpanel", "import"), ("posthog", "batch"), ("posthog", "v1")):
            prepared = same.prepared(destination, protocol)
            assert len(prepared) == len(tables)
            for sent in prepared:
                assert "\n" not in sent["payload"]
                row = tables[sent["kind"], sent["entity_id"]]
                properties = strict_json(sent["payload"])["properties"]
                cut = sent["truncated"] if (destination, compatibility) == ("mixpanel", "documented") else []
                assert properties.get("langfuse_truncated_properties", []) == cut
                expect_properties(events[sent["kind"]], compatibility, row, properties, cut)


def expect_properties(
    event: Any, compatibility: Any, row: dict[str, Any], properties: dict[str, Any], cut: list[str]
) -> None:
    for item in event.sent(compatibility):
        value = row[item.column(compatibility)]
        if item.role == "user_id" and value is None and compatibility == "documented":
            value = "langfuse_unknown_user"
        if item.omit_when_null and value is None:
            assert item.name not in properties
            continue
        sent = properties[item.name]
        if item.name in cut:
            assert sent == str(value)[:255]  # links alone get that long here
            assert item.name in ("langfuse_url", "langfuse_user_url")
        elif item.type == "map":
            assert sent == (None if value is None else dict(row[item.column(compatibility)]))
        elif item.type in ("number", "integer") and value is not None:
            assert math.isclose(sent, float(value), rel_tol=1e-12, abs_tol=1e-12)
        else:
            assert sent == value
