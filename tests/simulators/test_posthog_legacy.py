"""Legacy capture: every row of the response table, shapes, fields and the timestamp pipeline of the contract."""

import json

import httpx
import pytest
from isal import igzip

from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.posthog import Behaviour, Limits, Strictness

EVENT_TIME = "2026-11-21T05:00:00.123000Z"
NOW = "2026-11-21T07:10:00.000000Z"


def dump(value):
    return json.dumps(value).encode()


def refused(answer, status, text):
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")


class TestAccepted:
    @pytest.mark.parametrize("path", ["/batch/", "/batch", "/i/v0/e/", "/i/v0/e", "/capture/", "/i/v0/ai/batch/"])
    def test_batch_on_all_routes(self, ph, path):
        answer = ph.send([ph.event(0), ph.event(1)], path=path)
        assert (answer.status_code, answer.json()) == (200, {"status": 1})
        assert ph.store.events("raw")[0] == {
            "uuid": ph.event(0)["uuid"],
            "event": "langfuse trace",
            "distinct_id": "person-0",
            "timestamp": EVENT_TIME,
            "properties": {"$geoip_disable": True},
        }

    def test_array_and_single_event_shapes(self, ph):
        assert ph.post(dump([ph.event(0, api_key="phc_x"), ph.event(1, token="phc_x")])).status_code == 200
        assert ph.post(dump(ph.event(2, properties={"token": "phc_x"}))).status_code == 200
        assert len(ph.store.events("raw")) == 3

    @pytest.mark.parametrize(
        "how", [{"content_encoding": "gzip"}, {"params": {"compression": "gzip"}}, {}], ids=["header", "query", "magic"]
    )
    def test_gzip(self, ph, how):
        body = igzip.compress(dump({"api_key": "phc_x", "batch": [ph.event(0)]}))
        assert ph.post(body, **how).status_code == 200
        assert len(ph.store.events("raw")) == 1

    def test_success_body_can_be_that_of_older_servers(self, posthog_with):
        ph = posthog_with(behaviour=Behaviour(success_body='"Ok"'))
        assert ph.send([ph.event(0)]).json() == "Ok"

    def test_beacon_is_204(self, ph):
        answer = ph.send([ph.event(0)], params={"beacon": "1"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert len(ph.store.events("raw")) == 1

    @pytest.mark.parametrize(
        ("sent", "kept"), [(5, "5"), ({"a": 1}, '{"a":1}'), (True, "true"), ("x" * 200, "x" * 200), (" u ", " u ")]
    )
    def test_distinct_ids_become_text(self, ph, sent, kept):
        ph.send([ph.event(0, distinct_id=sent)])
        assert ph.store.events()[0]["distinct_id"] == kept
        assert ph.store.warnings("distinct_id_truncated") == []

    def test_long_distinct_ids_are_cut_with_a_warning(self, ph):
        ph.send([ph.event(0, distinct_id="x" * 201)])
        assert ph.store.events()[0]["distinct_id"] == "x" * 200
        [warning] = ph.http.get("/_standin/warnings").json()
        assert (warning["type"], warning["uuid"]) == ("distinct_id_truncated", ph.event(0)["uuid"])

    def test_distinct_id_aliases(self, ph):
        ph.send([ph.event(0, distinct_id=..., **{"$distinct_id": "a"})])
        ph.send([ph.event(1, distinct_id=..., properties={"distinct_id": "b"})])
        assert [event["distinct_id"] for event in ph.store.events()] == ["a", "b"]

    @pytest.mark.parametrize("uuid", [..., "", None])
    def test_without_uuid_the_server_makes_one_each_time(self, ph, uuid):
        for _ in range(2):
            ph.send([ph.event(0, uuid=uuid)])
        assert len(ph.store.events("merged")) == 2

    def test_illegal_distinct_ids_are_accepted(self, ph):
        assert ph.send([ph.event(0, distinct_id="undefined")]).status_code == 200
        assert ph.store.events()[0]["distinct_id"] == "undefined"
        assert ph.store.warnings()[0]["type"] == "illegal_distinct_id"

    def test_without_geoip_disable_a_place_is_added(self, ph):
        ph.send([ph.event(0), ph.event(1, properties={"$geoip_disable": False})])
        assert ["$geoip_country_code" in event["properties"] for event in ph.store.events()] == [False, True]


class TestRefused:
    """The whole batch is refused with plain text, nothing is stored."""

    @pytest.fixture(autouse=True)
    def _nothing_is_stored(self, ph):
        yield
        assert ph.store.events("raw") == []

    @pytest.mark.parametrize(
        ("broken", "text"),
        [
            ({"event": ""}, "event submitted with an empty event name"),
            ({"distinct_id": ...}, "event submitted without a distinct_id"),
            ({"distinct_id": None}, "event submitted without a distinct_id"),
            ({"distinct_id": ""}, "event submitted without a distinct_id"),
            ({"distinct_id": "  "}, "event submitted without a distinct_id"),
        ],
    )
    def test_one_bad_event_refuses_all(self, ph, broken, text):
        refused(ph.send([ph.event(0), ph.event(1, **broken), ph.event(2)]), 400, text)

    @pytest.mark.parametrize(
        "broken",
        [{"uuid": "not-a-uuid"}, {"uuid": 5}, {"event": ...}, {"event": 5}],
    )
    def test_wrong_types_fail_the_parser(self, ph, broken):
        answer = ph.send([ph.event(0), ph.event(1, **broken)])
        assert answer.status_code == 400
        assert answer.text.startswith("failed to parse request: ")

    def test_properties_that_are_no_object_fail_the_parser(self, ph):
        answer = ph.send([ph.event(0), {**ph.event(1), "properties": [1]}])
        assert answer.status_code == 400
        assert answer.text.startswith("failed to parse request: ")

    @pytest.mark.parametrize(
        "body", [b"{", b"5", b"[NaN]", b'["x"]', b'{"api_key":"phc_x","batch":5}', b'"\xff"', b"{}"]
    )
    def test_unparsable(self, ph, body):
        answer = ph.post(body)
        assert answer.status_code == 400
        assert answer.text.startswith("failed to parse request: ")

    def test_lone_surrogates_fail_the_parser(self, ph):
        body = dump({"api_key": "phc_x", "batch": [ph.event(0, properties={"a": "BAD"})]}).replace(b"BAD", b"\\ud800")
        assert ph.post(body).text.startswith("failed to parse request: ")

    def test_broken_gzip(self, ph):
        body = igzip.compress(dump({"api_key": "phc_x", "batch": [ph.event(0)]}))
        for content in (body[:-12], b"plain"):
            answer = ph.post(content, content_encoding="gzip")
            assert answer.status_code == 400
            assert answer.text.startswith("failed to decode request: ")

    @pytest.mark.parametrize("encoding", ["zstd", "br", "deflate"])
    def test_other_encodings_are_not_decoded(self, ph, encoding):
        assert ph.post(b"\x78\x9c\x03\x00", content_encoding=encoding).text.startswith("failed to parse request: ")

    def test_empty_body(self, ph):
        refused(ph.post(b""), 400, "request missing data payload")

    def test_empty_batch(self, ph):
        refused(ph.send([]), 400, "request holds no event")
        refused(ph.post(b"[]"), 400, "request holds no event")

    @pytest.mark.parametrize(
        ("token", "reason"),
        [("", "empty"), ("  ", "empty"), ("p" * 65, "too_long"), ("phc_é", "not_ascii"), ("phx_1", "personal_api_key"),
         ("phc_\0", "null_byte")],
    )  # fmt: skip
    def test_token_shape(self, ph, token, reason):
        refused(ph.send([ph.event(0)], api_key=token), 401, f"API key is not valid: {reason}")

    def test_token_missing_or_inconsistent(self, ph):
        refused(ph.send([ph.event(0)], api_key=...), 401, "event submitted without an api_key")
        mixed = [ph.event(0, api_key="phc_x"), ph.event(1, api_key="phc_y")]
        refused(ph.post(dump(mixed)), 401, "batch submitted with inconsistent api_key values")

    def test_token_is_checked_before_the_events(self, ph):
        assert ph.send([ph.event(0, event="")], api_key="phx_1").status_code == 401

    def test_method(self, ph):
        assert ph.http.get("/batch/").status_code == 405

    @pytest.mark.parametrize("zipped", [False, True])
    def test_body_over_the_limit(self, posthog_with, zipped):
        ph = posthog_with(limits=Limits(legacy_body_bytes=1_000))
        body = dump({"api_key": "phc_x", "batch": [ph.event(i) for i in range(9)]})
        answer = ph.post(igzip.compress(body) if zipped else body)
        assert answer.status_code == 413
        assert answer.text.startswith("maximum event size exceeded: ")
        assert ph.store.events("raw") == []


class TestSilentLoss:
    """200 that stores nothing: what a receipt cannot show."""

    @pytest.mark.parametrize(
        ("behaviour", "body"),
        [
            (Behaviour(over_quota=True), {}),
            (Behaviour(import_only=True), {}),
            (Behaviour(), {"api_key": "phc_unknown"}),
        ],
        ids=["quota", "import only", "unknown token"],
    )
    def test_lost_with_200(self, posthog_with, behaviour, body):
        ph = posthog_with(behaviour=behaviour)
        assert ph.send([ph.event(0)], **body).json() == {"status": 1}
        assert ph.store.events("raw") == []

    def test_import_only_keeps_history(self, posthog_with):
        ph = posthog_with(behaviour=Behaviour(import_only=True))
        ph.send([ph.event(0)], historical_migration=True)
        assert len(ph.store.events()) == 1

    def test_older_servers_skip_bad_events(self, posthog_with):
        ph = posthog_with(behaviour=Behaviour(bad_legacy_event="skip"))
        assert ph.send([ph.event(0), ph.event(1, event=""), ph.event(2)]).status_code == 200
        assert [event["distinct_id"] for event in ph.store.events()] == ["person-0", "person-2"]


class TestEventSize:
    def test_an_event_over_a_megabyte_is_413_after_earlier_ones_were_stored(self, ph):
        big = ph.event(1, properties={"pad": "x" * 1_000_000})
        answer = ph.send([ph.event(0), big, ph.event(2)])
        assert (answer.status_code, answer.text) == (413, "maximum event size exceeded: 1000000 bytes")
        assert [event["distinct_id"] for event in ph.store.events("raw")] == ["person-0"]
        assert ph.store.warnings("message_size_too_large")[0]["uuid"] == big["uuid"]

    def test_many_events_together_may_be_larger(self, ph):
        pad = {"pad": "x" * 400_000}
        assert ph.send([ph.event(i, properties=pad) for i in range(4)]).status_code == 200

    def test_the_ai_route_takes_larger_events(self, ph):
        big = ph.event(1, event="$ai_generation", properties={"pad": "x" * 1_000_000})
        assert ph.send([big], path="/i/v0/ai/batch/").status_code == 200


class TestTimestamps:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("2026-11-21T05:00:00.123Z", EVENT_TIME),
            ("2026-11-21T05:00:00.123456789Z", "2026-11-21T05:00:00.123456Z"),
            ("2026-11-21T06:00:00.123+01:00", EVENT_TIME),
            ("2026-11-21 06:00:00.123 +01", EVENT_TIME),
            ("2026-11-20T23:30:00.123-0530", EVENT_TIME),
            ("2026-11-21T05:00:00.123", EVENT_TIME),
            ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
            ("1795237200", "2026-11-21T05:00:00.000000Z"),
            ("1795237200.5", "2026-11-21T05:00:00.500000Z"),
            (1795237200123, EVENT_TIME),
            ("Sat, 21 Nov 2026 05:00:00 GMT", "2026-11-21T05:00:00.000000Z"),
            ("November 21, 2026", "2026-11-21T00:00:00.000000Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59.000000Z"),
            (..., NOW),
            (None, NOW),
            ("", NOW),
            ("2026-11-22T06:10:00Z", "2026-11-22T06:10:00.000000Z"),
            ("2026-11-22T06:10:01Z", NOW),
            ("0001-01-01T00:00:00+01:00", "1970-01-01T00:00:00.000000Z"),
            ("12026-11-22T06:10:01Z", "1970-01-01T00:00:00.000000Z"),
        ],
    )
    def test_formats_and_bounds(self, ph, sent, kept):
        ph.send([ph.event(0, timestamp=sent)])
        assert ph.store.events()[0]["timestamp"] == kept

    @pytest.mark.parametrize("sent", ["gibberish", "2026-13-01", "2026-11-21T25:00:00Z"])
    def test_unparsable_is_stored_at_the_wrong_time_with_a_warning(self, ph, sent):
        assert ph.send([ph.event(0, timestamp=sent)]).status_code == 200
        assert ph.store.events()[0]["timestamp"] == NOW
        assert ph.store.warnings()[0]["type"] == "ignored_invalid_timestamp"

    def test_sent_at_shifts_by_the_clock_difference(self, ph):
        ph.send([ph.event(0)], sent_at="2026-11-21T07:09:30Z")
        assert ph.store.events()[0]["timestamp"] == "2026-11-21T05:00:30.123000Z"

    def test_ignore_sent_at(self, ph):
        ph.send([ph.event(0, properties={"$ignore_sent_at": True})], sent_at="2026-11-21T07:09:30Z")
        assert ph.store.events()[0]["timestamp"] == EVENT_TIME

    def test_sent_at_makes_resends_near_midnight_two_events(self, ph):
        late = ph.event(0, timestamp="2026-11-20T23:59:59.999Z")
        for lag in ("00", "59"):
            ph.send([late], sent_at=f"2026-11-21T07:09:{lag}Z")
            ph.send([late])
        dates = [event["timestamp"][:10] for event in ph.store.events("merged")]
        assert sorted(dates) == ["2026-11-20", "2026-11-21"]

    def test_offset_beats_timestamp(self, ph):
        ph.send([ph.event(0, offset=10_000)])
        assert ph.store.events()[0]["timestamp"] == "2026-11-21T07:09:50.000000Z"


class TestStrictness:
    """What the real server takes but a good client never sends."""

    FRESH = "2026-11-21T05:00:00Z"
    OLD = "2026-11-18T05:00:00Z"

    @pytest.mark.parametrize(
        ("flag", "times", "body", "geoip"),
        [
            ("forbid_sent_at", [FRESH], {"sent_at": FRESH}, True),
            ("forbid_mixed_days", [FRESH, "2026-11-20T23:59:59Z"], {}, True),
            ("forbid_mixed_classes", [FRESH, OLD], {}, True),
            ("require_geoip_disable", [FRESH], {}, None),
            ("require_old_history", [FRESH], {"historical_migration": True}, True),
        ],
    )
    def test_each_rule_refuses_only_when_on(self, posthog_with, flag, times, body, geoip):
        events = lambda ph: [  # noqa: E731
            ph.event(i, timestamp=time, properties={"$geoip_disable": geoip}) for i, time in enumerate(times)
        ]
        lenient, strict = posthog_with(), posthog_with(strictness=Strictness(**{flag: True}))
        assert lenient.send(events(lenient), **body).status_code == 200
        answer = strict.send(events(strict), **body)
        assert answer.status_code == 400
        assert answer.text.startswith("standin: ")
        assert strict.store.events("raw") == []

    def test_a_good_request_passes_all_rules(self, posthog_with):
        ph = posthog_with(strictness=Strictness.everything())
        assert ph.send([ph.event(0)]).status_code == 200
        assert ph.send([ph.event(0, timestamp=self.OLD)], historical_migration=True).status_code == 200


def test_reset_after_storing_is_an_ambiguous_timeout_that_merging_heals(ph):
    ph.faults.add(Fault(path="/batch", cut="after"))
    with pytest.raises(httpx.TransportError):
        ph.send([ph.event(0)])
    ph.send([ph.event(0)])
    assert (len(ph.store.events("raw")), len(ph.store.events("merged"))) == (2, 1)
