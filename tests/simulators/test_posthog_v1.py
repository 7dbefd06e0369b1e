"""Capture V1: envelope errors, headers, per-event results, skew correction of the contract."""

import json
import zlib

import pytest
from isal import igzip

from lf_dagster.simulators.posthog import Behaviour, Limits, PlannedResult, Strictness

CREATED = "2026-11-21T07:10:00Z"


def dump(value):
    return json.dumps(value).encode()


def result_of(answer, number=0):
    return answer.json()["results"][f"0b7d3c1e-7f6a-5c1b-9a55-{number:012x}"]


def refused(answer, status, tag):
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_description", "error_uri"}
    assert answer.json()["error"] == tag
    assert "retry-after" not in answer.headers


class TestAccepted:
    def test_ok_per_event(self, ph):
        answer = ph.v1([ph.event(0), ph.event(1)])
        assert answer.status_code == 200
        assert answer.json()["results"] == {ph.event(n)["uuid"]: {"result": "ok"} for n in range(2)}
        assert answer.headers["posthog-request-id"] == "11111111-2222-4333-8444-555555555555"
        assert "retry-after" not in answer.headers
        assert len(ph.store.events("raw")) == 2

    def test_library_session_and_options_become_properties(self, ph):
        options = {"process_person_profile": False, "disable_skew_correction": True}
        ph.v1([ph.event(0, session_id="s", window_id="w", options=options)])
        properties = ph.store.events()[0]["properties"]
        assert properties == {
            "$geoip_disable": True,
            "$lib": "lf_dagster",
            "$lib_version": "0.1.0",
            "$session_id": "s",
            "$window_id": "w",
            "$process_person_profile": False,
        }

    def test_uuids_are_answered_in_canonical_form(self, ph):
        answer = ph.v1([ph.event(0, uuid=ph.event(0)["uuid"].upper())])
        assert result_of(answer) == {"result": "ok"}

    @pytest.mark.parametrize(
        ("encoding", "packed"),
        [("gzip", igzip.compress), ("deflate", zlib.compress), ("deflate", lambda body: zlib.compress(body)[2:-4])],
        ids=["gzip", "deflate with header", "raw deflate"],
    )
    def test_encodings(self, ph, encoding, packed):
        body = dump({"created_at": CREATED, "batch": [ph.event(0)]})
        assert result_of(ph.v1_raw(packed(body), content_encoding=encoding)) == {"result": "ok"}

    def test_unknown_tokens_are_accepted_and_lost(self, ph):
        answer = ph.v1([ph.event(0)], headers={"authorization": "Bearer phc_unknown"})
        assert result_of(answer) == {"result": "ok"}
        assert ph.store.events("raw") == []

    def test_route_with_slash(self, ph):
        body = {"created_at": CREATED, "batch": [ph.event(0)]}
        assert ph.http.post("/i/v1/analytics/events/", json=body, headers=ph.headers()).status_code == 200

    def test_person_properties(self, ph):
        ph.v1([ph.event(0, properties={"$set": {"plan": "x"}, "$set_once": {"first": 1}})])
        assert ph.store.persons() == {"person-0": {"plan": "x", "first": 1}}


class TestEnvelope:
    @pytest.fixture(autouse=True)
    def _nothing_is_stored(self, ph):
        yield
        assert ph.store.events("raw") == []

    def test_method_and_content_type(self, ph):
        assert ph.http.get("/i/v1/analytics/events").status_code == 405
        refused(ph.v1_raw(b"{}", content_type="application/x-ndjson"), 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        ("authorization", "status", "tag"),
        [
            (None, 401, "missing_api_token"),
            ("Basic cGhjX3g6", 400, "invalid_authorization"),
            ("Bearer phx_1", 401, "invalid_api_token"),
            ("Bearer", 401, "invalid_api_token"),
            ("Bearer " + "p" * 65, 401, "invalid_api_token"),
        ],
    )
    def test_authorization(self, ph, authorization, status, tag):
        refused(ph.v1([ph.event(0)], headers={"authorization": authorization}), status, tag)

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("posthog_sdk_info", None),
            ("posthog_sdk_info", "x/" + "1" * 200),
            ("posthog_sdk_info", "noversion"),
            ("posthog_attempt", None),
            ("posthog_attempt", "0"),
            ("posthog_attempt", "one"),
            ("posthog_request_id", None),
            ("posthog_request_id", "5"),
            ("posthog_request_timestamp", None),
            ("posthog_request_timestamp", "2026-11-21"),
            ("posthog_request_timestamp", "2026-11-21T07:10:00"),
            ("user_agent", None),
        ],
    )
    def test_required_headers(self, ph, header, value):
        refused(ph.v1([ph.event(0)], headers={header: value}), 400, "missing_required_headers")

    def test_empty_body_and_batch(self, ph):
        refused(ph.v1_raw(b""), 400, "empty_body")
        refused(ph.v1([]), 400, "empty_batch")

    def test_created_at(self, ph):
        refused(ph.v1([ph.event(0)], created_at="yesterday"), 400, "invalid_batch")
        refused(ph.v1([ph.event(0)], created_at=...), 400, "request_parsing_error")

    @pytest.mark.parametrize("field", ["event", "uuid", "distinct_id", "timestamp"])
    @pytest.mark.parametrize("value", [..., 5, None])
    def test_a_required_field_that_is_no_text_breaks_the_batch(self, ph, field, value):
        refused(ph.v1([ph.event(0), ph.event(1, **{field: value})]), 400, "request_parsing_error")

    @pytest.mark.parametrize(
        "options",
        [{"process_person_profile": "no"}, {"disable_skew_correction": 1}, {"cookieless_mode": "x"},
         {"product_tour_id": 5}, {"surprise": True}, []],
    )  # fmt: skip
    def test_options_are_typed_strictly(self, ph, options):
        refused(ph.v1([ph.event(0), ph.event(1, options=options)]), 400, "request_parsing_error")

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"created_at":"2026-11-21T07:10:00Z","batch":[NaN]}', b'"\xff"'])
    def test_unparsable(self, ph, body):
        refused(ph.v1_raw(body), 400, "request_parsing_error")

    def test_uuids(self, ph):
        refused(ph.v1([ph.event(0, uuid="")]), 400, "missing_event_uuid")
        refused(ph.v1([ph.event(0, uuid="x")]), 400, "invalid_event_uuid")
        twice = [ph.event(0), ph.event(1, uuid=ph.event(0)["uuid"].upper())]
        refused(ph.v1(twice), 400, "duplicate_event_uuid")

    def test_encodings_that_cannot_be_decoded(self, ph):
        refused(ph.v1_raw(b"x", content_encoding="lzma"), 415, "unsupported_encoding")
        refused(ph.v1_raw(b"plain", content_encoding="gzip"), 400, "request_parsing_error")

    def test_limits(self, posthog_with):
        ph = posthog_with(limits=Limits(v1_compressed_bytes=600, v1_inflated_bytes=2_000))
        body = dump({"created_at": CREATED, "batch": [ph.event(i) for i in range(20)]})
        refused(ph.v1_raw(body), 413, "payload_too_large")
        refused(ph.v1_raw(igzip.compress(body), content_encoding="gzip"), 413, "payload_too_large")
        assert ph.v1([ph.event(0)]).status_code == 200

    def test_errors_echo_the_request_id(self, ph):
        assert ph.v1([]).headers["posthog-request-id"] == "11111111-2222-4333-8444-555555555555"


class TestResults:
    @pytest.mark.parametrize(
        ("broken", "details"),
        [
            ({"event": ""}, "missing_event_name"),
            ({"event": "e" * 201}, "event_name_too_long"),
            ({"distinct_id": ""}, "missing_distinct_id"),
            ({"distinct_id": "d" * 201}, "distinct_id_too_large"),
            ({"timestamp": "yesterday"}, "invalid_event_timestamp"),
            ({"timestamp": "2026-11-21T05:00:00"}, "invalid_event_timestamp"),
            ({"timestamp": "2026-13-21T05:00:00Z"}, "invalid_event_timestamp"),
            ({"event": "$performance_event"}, "dropped_performance_event"),
        ],
    )
    def test_a_bad_event_is_dropped_alone(self, ph, broken, details):
        answer = ph.v1([ph.event(0), ph.event(1, **broken), ph.event(2)])
        assert answer.status_code == 200
        assert result_of(answer, 1) == {"result": "drop", "details": details}
        assert [result_of(answer, n)["result"] for n in (0, 2)] == ["ok", "ok"]
        assert [event["distinct_id"] for event in ph.store.events("raw")] == ["person-0", "person-2"]

    def test_properties_that_are_no_object(self, ph):
        answer = ph.v1([{**ph.event(0), "properties": [1]}])
        assert result_of(answer) == {"result": "drop", "details": "malformed_event_properties"}

    def test_event_too_big(self, ph):
        answer = ph.v1([ph.event(0, properties={"pad": "x" * 1_000_000}), ph.event(1)])
        assert result_of(answer) == {"result": "drop", "details": "event_too_big"}
        assert len(ph.store.events("raw")) == 1

    @pytest.mark.parametrize("distinct_id", ["0", "Undefined", "[object Object]", "GUEST"])
    def test_illegal_distinct_ids_are_stored_with_a_warning(self, ph, distinct_id):
        answer = ph.v1([ph.event(0, distinct_id=distinct_id, properties={"$set": {"a": 1}})])
        assert result_of(answer) == {"result": "warning", "details": "person_processing_disabled"}
        assert len(ph.store.events("raw")) == 1
        assert ph.store.persons() == {}
        assert ph.store.warnings()[0]["type"] == "illegal_distinct_id"

    @pytest.mark.parametrize(
        ("behaviour", "details"),
        [
            (Behaviour(over_quota=True), "billing_limit_exceeded"),
            (Behaviour(import_only=True), "non_historical_import_drop"),
        ],
    )
    def test_drops_that_are_nobody_s_fault(self, posthog_with, behaviour, details):
        ph = posthog_with(behaviour=behaviour)
        assert result_of(ph.v1([ph.event(0)])) == {"result": "drop", "details": details}
        assert ph.store.events("raw") == []

    def test_import_only_keeps_history(self, posthog_with):
        ph = posthog_with(behaviour=Behaviour(import_only=True))
        assert result_of(ph.v1([ph.event(0)], historical_migration=True)) == {"result": "ok"}

    def test_planned_results_strike_once_and_then_the_truth(self, ph):
        uuid = [ph.event(n)["uuid"] for n in range(5)]
        ph.standin.plan(
            PlannedResult(result="retry", details="not_persisted", uuid=uuid[0]),
            PlannedResult(result="drop", details="rejected", uuid=uuid[1]),
            PlannedResult(result="limited", uuid=uuid[2]),
            PlannedResult(result="absent", uuid=uuid[3], stored=True),
            PlannedResult(result="warning", details="x", uuid=uuid[4]),
        )
        events = [ph.event(n) for n in range(5)]
        first = ph.v1(events)
        assert first.json()["results"] == {
            uuid[0]: {"result": "retry", "details": "not_persisted"},
            uuid[1]: {"result": "drop", "details": "rejected"},
            uuid[2]: {"result": "limited"},
            uuid[4]: {"result": "warning", "details": "x"},
        }
        assert first.headers["retry-after"] == "1"
        assert [event["uuid"] for event in ph.store.events("raw")] == [uuid[3], uuid[4]]
        assert {result["result"] for result in ph.v1(events).json()["results"].values()} == {"ok"}

    def test_planned_results_by_event_name_over_the_admin_route(self, ph):
        planned = [{"result": "retry", "event": "langfuse trace", "times": None}]
        assert ph.http.post("/_standin/results", json=planned).json() == {"planned": 1}
        for _ in range(2):
            answer = ph.v1([ph.event(0), ph.event(1, event="other")])
            assert [result_of(answer, n)["result"] for n in range(2)] == ["retry", "ok"]
        assert ph.http.post("/_standin/results", json=[{}]).status_code == 400
        ph.http.post("/_standin/reset")
        assert result_of(ph.v1([ph.event(0)])) == {"result": "ok"}


class TestTime:
    def stored(self, ph, **event):
        ph.v1([ph.event(0, **event)], headers={"posthog_request_timestamp": "2026-11-21T07:09:30Z"})
        return ph.store.events()[0]["timestamp"]

    def test_header_clock_error_shifts_timestamps(self, ph):
        assert self.stored(ph) == "2026-11-21T05:00:30.123000Z"

    def test_skew_correction_can_be_switched_off_per_event(self, ph):
        assert self.stored(ph, options={"disable_skew_correction": True}) == "2026-11-21T05:00:00.123000Z"

    def test_over_23_hours_ahead_is_now(self, ph):
        options = {"disable_skew_correction": True}
        assert self.stored(ph, options=options, timestamp="2026-11-22T06:10:01Z") == "2026-11-21T07:10:00.000000Z"


def test_a_server_without_v1_answers_404_and_can_change(posthog_with):
    ph = posthog_with(behaviour=Behaviour(capture_v1=False))
    assert ph.v1([ph.event(0)]).status_code == 404
    assert ph.send([ph.event(0)]).status_code == 200
    ph.standin.behaviour = Behaviour(capture_v1=True)
    assert ph.v1([ph.event(0)]).status_code == 200


def test_unknown_options_can_be_accepted(posthog_with):
    ph = posthog_with(behaviour=Behaviour(unknown_options="accept"))
    assert ph.v1([ph.event(0, options={"surprise": True})]).status_code == 200


def test_strictness_holds_on_v1_too(posthog_with):
    ph = posthog_with(strictness=Strictness.everything())
    refused(ph.v1([ph.event(0)], sent_at=CREATED), 400, "standin")
    refused(ph.v1([ph.event(0, properties={"$geoip_disable": False})]), 400, "standin")
    refused(ph.v1([ph.event(0)], historical_migration=True), 400, "standin")
    assert ph.v1([ph.event(0)]).status_code == 200
