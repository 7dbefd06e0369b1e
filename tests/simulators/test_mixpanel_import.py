"""`POST /import`: every row of the response table, the field rules and the limits of the contract."""

import json

import pytest

from lf_dagster.simulators.mixpanel import Behaviour, Limits

CHARSET = "'$insert_id' is invalid: must only contain alphanumeric or hyphen '-' characters"
NO_TIME = "'properties.time' is invalid: must not be missing"
TIME_TYPE = "'properties.time' is invalid: must be specified as seconds since epoch"
NO_ID = "'properties.distinct_id' is invalid: must not be missing"


def dump(value):
    return json.dumps(value).encode()


def failures(answer):
    return [(item["index"], item["field"], item["message"]) for item in answer.json()["failed_records"]]


class TestAccepted:
    def test_all_rows_stored(self, mp):
        answer = mp.send([mp.event(0), mp.event(1)])
        assert answer.status_code == 200
        assert answer.json() == {"code": 200, "num_records_imported": 2, "status": "OK"}
        assert [event["event"] for event in mp.store.events()] == ["[LF] Trace"] * 2

    def test_gzip_and_ndjson_store_the_same_as_plain_json(self, mp):
        events = [mp.event(0), mp.event(1)]
        mp.send(events)
        mp.send_gzip(events)
        lines = b"\n".join(dump(event) for event in events) + b"\n"
        assert mp.post(lines, content_type="application/x-ndjson").json()["num_records_imported"] == 2
        plain, zipped, ndjson = (mp.store.events()[at : at + 2] for at in (0, 2, 4))
        for stored in (plain, zipped, ndjson):
            for event in stored:
                event["properties"].pop("$mp_event_size")
        assert plain == zipped == ndjson

    def test_added_properties(self, mp):
        mp.send([mp.event(0)])
        properties = mp.store.events()[0]["properties"]
        assert properties["$import"] is True
        assert properties["$mp_api_timestamp_ms"] == int(mp.clock.now * 1000)
        assert properties["$mp_event_size"] == len(json.dumps(mp.event(0), separators=(",", ":")))
        assert "$mp_api_endpoint" in properties

    def test_ip_zero_is_removed_and_places_nobody(self, mp):
        mp.send([mp.event(0)])
        properties = mp.store.events()[0]["properties"]
        assert "ip" not in properties
        assert "$city" not in properties

    @pytest.mark.parametrize(("ip", "damage"), [(..., {"geo:request_ip": 1}), ("8.8.8.8", {})])
    def test_without_ip_zero_a_place_is_added(self, mp, ip, damage):
        mp.send([mp.event(0, ip=ip)])
        properties = mp.store.events()[0]["properties"]
        assert "ip" not in properties
        assert "mp_country_code" in properties
        assert mp.store.damage() == damage

    def test_strings_over_255_are_cut_silently_also_inside(self, mp):
        mp.send([mp.event(0, long="x" * 300, ok="y" * 255, nested={"deep": ["z" * 300]})])
        properties = mp.store.events()[0]["properties"]
        assert (properties["long"], properties["ok"]) == ("x" * 255, "y" * 255)
        assert properties["nested"] == {"deep": ["z" * 255]}
        assert mp.store.damage() == {"truncated:long": 1, "truncated:nested": 1}

    @pytest.mark.parametrize(("unit", "kept"), [("characters", 200), ("bytes", 127)])
    def test_unit_of_the_string_limit_is_a_choice(self, mixpanel_with, unit, kept):
        mp = mixpanel_with(limits=Limits(string_unit=unit))
        mp.send([mp.event(0, text="é" * 200)])
        assert mp.store.events()[0]["properties"]["text"] == "é" * kept

    def test_long_property_names_are_cut(self, mp):
        mp.send([mp.event(0, **{"n" * 300: 1})])
        assert mp.store.events()[0]["properties"]["n" * 255] == 1

    def test_ignored_rows_vanish_and_are_not_counted(self, mp):
        answer = mp.send([mp.event(0), mp.event(1, **{"$ignore": True})])
        assert (answer.status_code, answer.json()["num_records_imported"]) == (200, 1)
        assert len(mp.store.events()) == 1

    def test_reserved_names_and_big_objects_are_stored_but_noted(self, mp):
        mp.send([mp.event(0, bucket="b", big={"k" * 10: ["v" * 200] * 50})])
        assert mp.store.damage() == {"reserved:bucket": 1, "unusable:big": 1}

    def test_null_and_all_types_are_stored_as_sent(self, mp):
        sent = {"s": "x", "n": 1, "f": 1.5, "b": True, "l": [1, "a"], "o": {"a": 1}, "none": None}
        mp.send([mp.event(0, **sent)])
        properties = mp.store.events()[0]["properties"]
        assert {name: properties[name] for name in sent} == sent


class TestRowErrors:
    def check(self, mp, event, field, message=None):
        answer = mp.send([mp.event(100), event, mp.event(101)])
        assert answer.status_code == 400
        body = answer.json()
        assert body["code"] == 400
        assert body["error"] == "some data points in the request failed validation"
        assert body["status"] == "Bad Request"
        assert body["num_records_imported"] == 2
        [(index, found, text)] = failures(answer)
        assert (index, found) == (1, field)
        assert text == message if message else text.startswith("standin: ")
        assert len(mp.store.events()) == 2

    @pytest.mark.parametrize(
        ("time", "message"),
        [(..., NO_TIME), ("2026-11-21", TIME_TYPE), ("1795245000", TIME_TYPE), (1795245000.5, TIME_TYPE),
         (True, TIME_TYPE), (None, TIME_TYPE)],
    )  # fmt: skip
    def test_time_missing_or_no_integer(self, mp, time, message):
        self.check(mp, mp.event(0, time=time), "properties.time", message)

    @pytest.mark.parametrize("time", [0, -1, 31_535_999, 31_535_999_999, 1_795_245_000 + 3_601, 1_795_248_601_000])
    def test_time_before_1971_or_over_an_hour_ahead(self, mp, time):
        self.check(mp, mp.event(0, time=time), "properties.time")

    def test_distinct_id_missing(self, mp):
        self.check(mp, mp.event(0, distinct_id=...), "properties.distinct_id", NO_ID)

    @pytest.mark.parametrize("value", [None, 5, ["a"], "anon", " Anonymous ", "NULL", "0", "-1", "[]", "lmy47d"])
    def test_distinct_id_denied_or_no_string(self, mp, value):
        self.check(mp, mp.event(0, distinct_id=value), "properties.distinct_id")

    @pytest.mark.parametrize("value", ["a_b", "a:b", "a.b", "a/b", "ü", "", "a\n"])
    def test_insert_id_charset(self, mp, value):
        self.check(mp, mp.event(0, **{"$insert_id": value}), "$insert_id", CHARSET)

    @pytest.mark.parametrize(
        "value", [..., None, 5, "a" * 37, "undefined", " TRUE", "00000000-0000-0000-0000-000000000000"]
    )
    def test_insert_id_missing_long_denied_or_no_string(self, mp, value):
        self.check(mp, mp.event(0, **{"$insert_id": value}), "$insert_id")

    def test_too_many_properties(self, mp):
        self.check(mp, mp.event(0, **{f"p{i}": i for i in range(251)}), "properties")

    @pytest.mark.parametrize(
        "value",
        [{"a": {"b": {"c": {"d": 1}}}}, [[[[1]]]], list(range(255)), {str(i): i for i in range(255)},
         {"a": {str(i): i for i in range(255)}}],
    )  # fmt: skip
    def test_nested_too_deep_or_too_wide(self, mp, value):
        self.check(mp, mp.event(0, nested=value), "properties.nested")

    @pytest.mark.parametrize("row", [5, "x", None, []])
    def test_row_that_is_no_object(self, mp, row):
        self.check(mp, row, "")

    def test_properties_that_are_no_object(self, mp):
        self.check(mp, {"event": "x", "properties": []}, "properties")

    @pytest.mark.parametrize("name", [None, "", 5])
    def test_event_name(self, mp, name):
        self.check(mp, {**mp.event(0), "event": name}, "event")

    def test_extra_top_level_key(self, mp, mixpanel_with):
        self.check(mp, {**mp.event(0), "extra": 1}, "extra")
        lenient = mixpanel_with(behaviour=Behaviour(extra_top_level_keys="accept"))
        assert lenient.send([{**mp.event(0), "extra": 1}]).status_code == 200

    def test_event_over_its_size(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(event_bytes=5_000))
        self.check(mp, mp.event(0, **{f"p{i}": "x" * 100 for i in range(60)}), "")

    @pytest.mark.parametrize("bad", [b"\xff\xfe", b"\\ud800"])
    @pytest.mark.parametrize("ndjson", [False, True])
    def test_text_that_is_no_utf8(self, mp, bad, ndjson):
        rows = [dump(mp.event(0)), dump(mp.event(1, utm_source="BAD")).replace(b"BAD", bad)]
        body, kind = (b"\n".join(rows), "x-ndjson") if ndjson else (b"[" + b",".join(rows) + b"]", "json")
        answer = mp.post(body, content_type=f"application/{kind}")
        assert (answer.status_code, answer.json()["num_records_imported"]) == (400, 1)
        text = "properties.utm_source is invalid: string should be valid utf8"
        assert failures(answer) == [(1, "properties.utm_source", text)]

    def test_bad_text_in_a_name_still_gets_a_readable_answer(self, mp):
        answer = mp.post(b"[" + dump(mp.event(0, NAME=1)).replace(b"NAME", b"\\ud800") + b"]")
        assert (answer.status_code, answer.json()["num_records_imported"]) == (400, 0)

    def test_limits_themselves_are_accepted(self, mp):
        event = mp.event(0, **{f"p{i}": i for i in range(246)}, list=list(range(254)), deep={"a": {"b": {"c": 1}}},
                         wide={str(i): i for i in range(254)}, time=31_536_000)  # fmt: skip
        assert len(event["properties"]) == 253
        ids = {"$insert_id": "a" * 36, "distinct_id": ""}
        assert mp.send([event, mp.event(0, **ids)]).status_code == 200

    def test_first_failure_per_row_wins_in_the_documented_order(self, mp):
        event = mp.event(0, time=..., distinct_id=..., **{"$insert_id": "_"})
        assert failures(mp.send([event])) == [(0, "properties.time", NO_TIME)]
        del event["properties"]["$insert_id"]
        event["properties"]["time"] = 1_795_000_000
        assert failures(mp.send([event])) == [(0, "properties.distinct_id", NO_ID)]

    def test_failed_records_name_the_insert_id(self, mp, mixpanel_with):
        bad = mp.event(3, time=...)
        assert mp.send([bad]).json()["failed_records"][0]["insert_id"] == bad["properties"]["$insert_id"]
        variant = mixpanel_with(behaviour=Behaviour(insert_id_key="$insert_id", partial_status=200))
        answer = variant.send([bad, variant.event(1)])
        assert (answer.status_code, answer.json()["num_records_imported"]) == (200, 1)
        assert answer.json()["failed_records"][0]["$insert_id"] == bad["properties"]["$insert_id"]

    def test_simplified_identity_derives_a_missing_distinct_id(self, mixpanel_with):
        mp = mixpanel_with(behaviour=Behaviour(identity_mode="simplified"))
        by_user = mp.event(0, distinct_id=..., **{"$user_id": "u"})
        by_device = mp.event(1, distinct_id=..., **{"$device_id": "d"})
        answer = mp.send([by_user, by_device, mp.event(2, distinct_id=...)])
        assert failures(answer) == [(2, "properties.distinct_id", NO_ID)]
        assert [event["properties"]["distinct_id"] for event in mp.store.events()] == ["u", "$device:d"]


class TestTime:
    def test_seconds_and_milliseconds_are_told_apart(self, mp):
        mp.send([mp.event(0, time=1_795_000_000), mp.event(1, time=1_795_000_000_123)])
        assert [event["properties"]["time"] for event in mp.store.events()] == [1_795_000_000_000, 1_795_000_000_123]

    def test_up_to_an_hour_ahead_is_clamped_to_the_receive_time(self, mp):
        now_ms = int(mp.clock.now * 1000)
        assert mp.send([mp.event(0, time=now_ms + 3_600_000)]).status_code == 200
        assert mp.store.events()[0]["properties"]["time"] == now_ms
        assert mp.store.damage() == {"clamped:time": 1}


class TestRequestErrors:
    @pytest.mark.parametrize(
        ("auth", "params"),
        [
            (("wrong", ""), {}),
            (("tok", "x"), {}),
            (("sa", "pw"), {}),  # the trap: without project_id a service account is read as a token
            (("sa", "bad"), {"project_id": "7"}),
            (("sa", "pw"), {"project_id": "8"}),
            (("viewer", "pw"), {"project_id": "7"}),
            (("tok", ""), {"project_id": "7"}),
            (None, {}),
        ],
    )
    def test_bad_credentials(self, mp, auth, params):
        answer = mp.send([mp.event(0)], auth=auth, params={"strict": "1", **params})
        assert answer.status_code == 401
        assert answer.json() == {"code": 401, "error": "Invalid credentials", "status": "Unauthorized"}
        assert mp.store.events() == []

    def test_service_account_with_project_id(self, mp):
        assert mp.send([mp.event(0)], auth=("sa", "pw"), params={"strict": "1", "project_id": "7"}).status_code == 200

    def test_token_with_project_id_can_be_allowed(self, mixpanel_with):
        mp = mixpanel_with(behaviour=Behaviour(token_with_project_id=True))
        params = {"strict": "1", "project_id": "7"}
        assert mp.send([mp.event(0)], params=params).status_code == 200
        assert mp.send([mp.event(0)], params={**params, "project_id": "8"}).status_code == 401

    def test_unreadable_authorization(self, mp):
        for header in ("Basic !!", "Bearer x", "Basic dG9r"):
            assert mp.send([mp.event(0)], auth=None, authorization=header).status_code == 401

    def test_method(self, mp):
        assert mp.http.get("/import").status_code == 405

    @pytest.mark.parametrize("body", [b"", b"{", b'{"event":"x"}', b"[]", b"[NaN]", b'"x"', b"[1e999]"])
    def test_body_that_is_no_array_of_events(self, mp, body):
        answer = mp.post(body)
        assert answer.status_code == 400
        assert set(answer.json()) == {"code", "error", "status"}

    def test_ndjson_with_a_broken_line(self, mp):
        answer = mp.post(dump(mp.event(0)) + b"\n{\n", content_type="application/x-ndjson")
        assert (answer.status_code, "failed_records" in answer.json()) == (400, False)

    @pytest.mark.parametrize("encoding", ["zstd", "br", "deflate"])
    def test_undocumented_encodings(self, mp, encoding):
        assert mp.post(b"[]", content_encoding=encoding).status_code == 415

    def test_content_type(self, mp):
        assert mp.post(b"[]", content_type="text/plain").status_code == 415

    def test_broken_gzip(self, mp):
        from isal import igzip

        for body in (b"no gzip", igzip.compress(dump([mp.event(0)]))[:-10]):
            assert mp.post(body, content_encoding="gzip").status_code == 400

    @pytest.mark.parametrize("zipped", [False, True])
    def test_body_over_the_limit(self, mixpanel_with, zipped):
        mp = mixpanel_with(limits=Limits(body_bytes=2_000))
        events = [mp.event(i, pad="x" * 200) for i in range(10)]
        answer = mp.send_gzip(events) if zipped else mp.send(events)
        assert answer.status_code == 413
        text = "request exceeds max limit of 2000 bytes"
        assert answer.json() == {"code": 413, "error": text, "status": "Request Entity Too Large"}
        assert mp.send(events[:2]).status_code == 200

    def test_default_body_limit_is_the_documented_example(self, mp):
        answer = mp.post(b" " * 2_097_153)
        assert answer.json()["error"] == "request exceeds max limit of 2097152 bytes"

    @pytest.mark.parametrize("status", [400, 413])
    def test_too_many_events(self, mixpanel_with, status):
        mp = mixpanel_with(limits=Limits(batch_events=3, batch_too_long_status=status))
        assert mp.send([mp.event(i) for i in range(4)]).status_code == status
        assert mp.send([mp.event(i) for i in range(3)]).status_code == 200

    def test_default_batch_is_2000(self, mp):
        assert mp.send([mp.event(i) for i in range(2_000)]).status_code == 200
        assert mp.send([mp.event(i) for i in range(2_001)]).status_code == 400

    def test_strict_takes_only_0_and_1(self, mp):
        assert mp.send([mp.event(0)], params={"strict": "true"}).status_code == 400
        assert mp.send([mp.event(0)], params={}).json()["code"] == 200
