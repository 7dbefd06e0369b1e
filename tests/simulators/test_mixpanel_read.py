"""Everything of the Mixpanel stand-in besides /import: /track, profiles, export, queries, Lexicon schemas."""

import base64
import json
from dataclasses import replace

import httpx
import pytest
from isal import igzip

from lf_dagster.simulators.mixpanel import Behaviour, Limits, create_app

DAY = 86_400_000
NOON = 1_795_176_000_000  # 2026-11-20T12:00:00Z


def lines(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


class TestTrack:
    def track(self, mp, *events, **params):
        return mp.http.post("/track", json=list(events), params=params)

    def event(self, mp, **properties):
        return mp.event(0, **{"token": "tok", **properties})

    def test_fresh_events_are_stored_without_their_token(self, mp):
        assert self.track(mp, self.event(mp)).text == "1"
        assert "token" not in mp.store.events()[0]["properties"]

    def test_older_than_five_days_vanishes_although_it_answers_1(self, mp):
        old = int(mp.clock.now * 1000) - 5 * DAY - 1
        assert self.track(mp, self.event(mp, time=old), self.event(mp, time=old + 1000)).text == "1"
        assert len(mp.store.events()) == 1

    @pytest.mark.parametrize("changed", [{"token": "wrong"}, {"time": "soon"}, {"distinct_id": "null"}])
    def test_what_is_wrong_vanishes_although_it_answers_1(self, mp, changed):
        assert self.track(mp, self.event(mp, **changed)).text == "1"
        assert mp.store.events() == []

    def test_float_seconds_and_form_encoding(self, mp):
        event = self.event(mp, time=mp.clock.now - 10.5)
        assert mp.http.post("/track", data={"data": json.dumps([event])}).text == "1"
        encoded = base64.b64encode(json.dumps(event).encode()).decode()
        assert mp.http.post("/track", data={"data": encoded}, params={"verbose": "1"}).json() == {
            "error": None,
            "status": 1,
        }
        assert len(mp.store.events()) == 2

    def test_unreadable_bodies_answer_0(self, mp):
        assert mp.http.post("/track", data={"data": "!"}).text == "0"
        assert mp.http.post("/track", data={"data": "!"}, params={"verbose": "1"}).json()["status"] == 0


class TestProfiles:
    def engage(self, mp, *updates, **kw):
        updates = [{"$token": "tok", "$distinct_id": "u", **update} for update in updates]
        return mp.http.post("/engage", json=updates, params={"verbose": "1"}, **kw)

    def profile(self, mp):
        return {name: value for name, value in mp.store.profiles[7, "u"].items() if name != "$last_seen"}

    @pytest.mark.parametrize(
        ("operator", "values", "expected"),
        [
            ("$set", {"a": 2, "b": 1}, {"a": 2, "l": [1, 2], "b": 1}),
            ("$set_once", {"a": 2, "b": 1}, {"a": 1, "l": [1, 2], "b": 1}),
            ("$add", {"a": 2, "n": 1}, {"a": 3, "l": [1, 2], "n": 1}),
            ("$append", {"l": 2}, {"a": 1, "l": [1, 2, 2]}),
            ("$union", {"l": [2, 3]}, {"a": 1, "l": [1, 2, 3]}),
            ("$remove", {"l": 1}, {"a": 1, "l": [2]}),
            ("$unset", ["a", "x"], {"l": [1, 2]}),
        ],
    )
    def test_operators(self, mp, operator, values, expected):
        self.engage(mp, {"$set": {"a": 1, "l": [1, 2]}})
        answer = self.engage(mp, {operator: values})
        assert answer.json() == {"status": 1, "error": None, "num_good_events": 1}
        assert self.profile(mp) == expected

    def test_delete(self, mp):
        self.engage(mp, {"$set": {"a": 1}}, {"$delete": ""})
        assert mp.store.profiles == {}

    def test_ignore_time_keeps_last_seen(self, mp):
        self.engage(mp, {"$set": {"a": 1}, "$ignore_time": True})
        assert "$last_seen" not in mp.store.profiles[7, "u"]
        self.engage(mp, {"$set": {"a": 1}})
        assert mp.store.profiles[7, "u"]["$last_seen"] == mp.standin.now_ms

    @pytest.mark.parametrize(
        "update",
        [
            {"$token": "wrong", "$set": {}},
            {"$distinct_id": "", "$set": {}},
            {},
            {"$set": {}, "$add": {}},
            {"$add": {"a": "x"}},
        ],
    )
    def test_errors_answer_200_with_status_0(self, mp, update):
        answer = self.engage(mp, update)
        assert (answer.status_code, answer.json()["status"]) == (200, 0)
        assert mp.store.profiles == {}

    def test_gzip_is_refused_with_200(self, mp):
        body = igzip.compress(b"[]")
        answer = mp.http.post("/engage", content=body, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.text) == (200, "0")

    def test_too_many_updates(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(engage_updates=2))
        assert self.engage(mp, *[{"$set": {"a": 1}}] * 3).json()["status"] == 0

    def test_groups(self, mp):
        update = {"$token": "tok", "$group_key": "company", "$group_id": "acme", "$set": {"plan": "x"}}
        assert mp.http.post("/groups", json=[update]).text == "1"
        assert mp.store.groups == {(7, "company", "acme"): {"plan": "x"}}
        assert mp.http.post("/groups", json=[{**update, "$group_id": ""}]).text == "0"

    def test_profiles_over_the_admin_route(self, mp):
        self.engage(mp, {"$set": {"a": 1}, "$ignore_time": True})
        assert mp.http.get("/_standin/profiles").json() == [{"project_id": 7, "distinct_id": "u", "a": 1}]


class TestExport:
    def test_all_copies_of_the_days_in_seconds(self, mp):
        mp.send([mp.event(0, time=NOON + 999), mp.event(1, time=NOON - DAY)])
        mp.send([mp.event(0, time=NOON + 999)])
        found = lines(mp.export())
        assert [event["properties"]["time"] for event in found] == [NOON // 1000] * 2
        assert found[0]["event"] == "[LF] Trace"
        assert found[0]["properties"]["$import"] is True
        assert len(lines(mp.export(from_date="2026-11-19"))) == 3
        assert len(lines(mp.export(to_date="2026-11-20"))) == 2

    def test_time_in_ms(self, mp):
        mp.send([mp.event(0, time=NOON + 999)])
        assert lines(mp.export(time_in_ms="true"))[0]["properties"]["time"] == NOON + 999

    def test_filters(self, mp):
        hour = "2026-11-21T05"
        mp.send([mp.event(0, time=NOON, part=hour, n=1), mp.event(1, time=NOON, event="b", part=hour, n=2)])
        mp.send([mp.event(2, time=NOON, part="other")])
        assert len(lines(mp.export(event='["b"]'))) == 1
        assert len(lines(mp.export(where=f'properties["part"]=="{hour}"'))) == 2
        mp.clock.advance(1)
        assert len(lines(mp.export(where=f'properties["part"]=="{hour}" and properties["n"] == 2'))) == 1
        assert len(lines(mp.export(limit="2"))) == 2

    @pytest.mark.parametrize(
        "params", [{"from_date": "x"}, {"event": "b"}, {"where": 'properties["a"] > 1'}, {"limit": "100001"}]
    )
    def test_bad_parameters(self, mp, params):
        assert mp.export(**params).status_code == 400

    def test_nothing_is_200_with_an_empty_body(self, mp):
        answer = mp.export()
        assert (answer.status_code, answer.content) == (200, b"")

    def test_gzip_when_asked_and_big_enough(self, mp):
        mp.send([mp.event(i, time=NOON, pad="x" * 200) for i in range(2)])
        assert "content-encoding" not in mp.export().headers
        mp.send([mp.event(i, time=NOON, pad="x" * 200) for i in range(5)])
        answer = mp.export()
        assert answer.headers["content-encoding"] == "gzip"
        assert len(lines(answer)) == 7

    @pytest.mark.parametrize("auth", [("tok", ""), ("sa", "bad"), None])
    def test_only_service_accounts_of_the_project_read(self, mp, auth):
        assert mp.export(auth=auth).status_code == 401
        assert mp.export(project_id="8").status_code == 401

    def test_viewers_read(self, mp):
        assert mp.export(auth=("viewer", "pw")).status_code == 200

    def test_three_per_second_then_429_with_retry_after(self, mp):
        assert [mp.export().status_code for _ in range(4)] == [200, 200, 200, 429]
        assert mp.export().headers["retry-after"] == "1"
        mp.clock.advance(1)
        assert mp.export().status_code == 200

    def test_sixty_per_hour(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(exports_per_hour=2))
        assert [mp.export().status_code for _ in range(3)] == [200, 200, 429]
        mp.clock.advance(600)
        assert mp.export().headers["retry-after"] == "3000"
        mp.clock.advance(3000)
        assert mp.export().status_code == 200

    def test_visibility_delay(self, mixpanel_with):
        mp = mixpanel_with(behaviour=Behaviour(visibility_delay_seconds=60))
        mp.send([mp.event(0, time=NOON)])
        assert lines(mp.export()) == []
        mp.clock.advance(60)
        assert len(lines(mp.export())) == 1

    def test_days_of_old_projects_are_in_their_zone(self, mixpanel_with):
        in_zone = Behaviour(project_timezone="America/Los_Angeles", day_boundaries="project")
        for behaviour, found in ((replace(in_zone, day_boundaries="utc"), 1), (in_zone, 0)):
            mp = mixpanel_with(behaviour=behaviour)
            mp.send([mp.event(0, time=NOON - DAY // 2)])  # midnight UTC, the afternoon before in Los Angeles
            assert len(lines(mp.export())) == found


class TestQueries:
    def get(self, mp, path, **params):
        return mp.http.get(f"/api/query/{path}", params={"project_id": "7", **params}, auth=("sa", "pw"))

    def test_segmentation_counts_deduplicated_events_per_bucket(self, mp):
        for _ in range(2):
            mp.send([mp.event(0, time=NOON), mp.event(1, time=NOON + 1), mp.event(2, time=NOON + 3_600_000)])
        day = {"from_date": "2026-11-20", "to_date": "2026-11-20", "event": "[LF] Trace"}
        hourly = self.get(mp, "segmentation", unit="hour", **day).json()
        assert hourly["legend_size"] == 1
        assert len(hourly["data"]["series"]) == 24
        counts = {bucket: n for bucket, n in hourly["data"]["values"]["[LF] Trace"].items() if n}
        assert counts == {"2026-11-20 12:00:00": 2, "2026-11-20 13:00:00": 1}
        assert self.get(mp, "segmentation", **day).json()["data"]["values"] == {"[LF] Trace": {"2026-11-20": 3}}

    def test_segmentation_dates_are_in_the_project_zone(self, mixpanel_with):
        mp = mixpanel_with(behaviour=Behaviour(project_timezone="America/Los_Angeles"))
        mp.send([mp.event(0, time=NOON - DAY // 2)])
        day = {"from_date": "2026-11-19", "to_date": "2026-11-19", "event": "[LF] Trace"}
        assert self.get(mp, "segmentation", **day).json()["data"]["values"] == {"[LF] Trace": {"2026-11-19": 1}}

    def test_names_by_frequency(self, mp):
        mp.send([mp.event(0), mp.event(1, event="b"), mp.event(2, event="b")])
        assert self.get(mp, "events/names").json() == ["b", "[LF] Trace"]

    def test_refusals(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(queries_per_hour=1))
        assert self.get(mp, "segmentation").status_code == 400
        answer = self.get(mp, "events/names")
        assert (answer.status_code, answer.json()["error"]) == (429, "Query rate limit exceeded for project_id: 7")
        assert mp.http.get("/api/query/events/names").status_code == 401


class TestSchemas:
    PATH = "/api/app/projects/7/schemas"

    def upload(self, mp, *entries, truncate=False, auth=("sa", "pw")):
        listed = [{"entityType": "event", "name": name, "schemaJson": schema} for name, schema in entries]
        return mp.http.post(self.PATH, json={"entries": listed, "truncate": truncate}, auth=auth)

    def test_upload_and_list(self, mp):
        schema = {"description": "d", "properties": {"p": {"type": "string"}}}
        assert self.upload(mp, ("a", schema)).json() == {"results": {"added": 1, "deleted": 0}, "status": "ok"}
        listed = mp.http.get(self.PATH, auth=("sa", "pw")).json()["results"]
        assert listed == [{"entityType": "event", "name": "a", "schemaJson": schema}]

    def test_properties_replace_metadata_merges_and_null_removes(self, mp):
        first = {
            "description": "d",
            "properties": {"p": {}},
            "metadata": {"com.mixpanel": {"tags": ["x"], "hidden": True}},
        }
        second = {"description": None, "properties": {"q": {}}, "metadata": {"com.mixpanel": {"hidden": None, "a": 1}}}
        self.upload(mp, ("a", first))
        self.upload(mp, ("a", second))
        assert mp.store.schemas[7]["event", "a"] == {
            "properties": {"q": {}},
            "metadata": {"com.mixpanel": {"tags": ["x"], "a": 1}},
        }

    def test_truncate_deletes_all_others(self, mp):
        self.upload(mp, ("a", {}))
        assert self.upload(mp, ("b", {}), truncate=True).json()["results"] == {"added": 1, "deleted": 1}
        assert list(mp.store.schemas[7]) == [("event", "b")]

    def test_one_entity(self, mp):
        call = lambda method, **kw: mp.http.request(method, f"{self.PATH}/event/a", auth=("sa", "pw"), **kw)  # noqa: E731
        assert call("GET").status_code == 404
        assert call("POST", json={"description": "d"}).json()["results"] == {"description": "d"}
        assert call("POST", content=b"[").status_code == 400
        assert call("GET").json()["results"] == {"description": "d"}
        assert call("DELETE").json()["results"]["delete_count"] == 1
        assert call("GET").status_code == 404

    def test_delete_all(self, mp):
        self.upload(mp, ("a", {}), ("b", {}))
        assert mp.http.delete(self.PATH, auth=("sa", "pw")).json()["results"] == {"delete_count": 2}

    def test_refusals(self, mp):
        assert self.upload(mp, auth=("tok", "")).status_code == 401
        assert self.upload(mp, auth=("viewer", "pw")).status_code == 403
        assert mp.http.post(self.PATH, content=b"{}", auth=("sa", "pw")).status_code == 400
        assert mp.http.get("/api/app/projects/8/schemas", auth=("sa", "pw")).status_code == 401

    @pytest.mark.parametrize(
        "entry",
        [
            {"entityType": "group", "name": "a", "schemaJson": {}},
            {"entityType": "profile", "name": "user", "schemaJson": {}},
            {"entityType": "event", "name": "a", "schemaJson": {"properties": {"p": "string"}}},
            {"entityType": "event", "name": "a", "schemaJson": {"properties": {"p": {"type": "float"}}}},
        ],
    )
    def test_entries_that_are_none(self, mp, entry):
        answer = mp.http.post(self.PATH, json={"entries": [entry]}, auth=("sa", "pw"))
        assert answer.status_code == 400
        assert mp.store.schemas.get(7) == {}

    def test_rates(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(schema_entries_per_minute=3))
        assert self.upload(mp, ("a", {"properties": {"p": {}, "q": {}}})).status_code == 200
        assert self.upload(mp, ("b", {})).status_code == 429
        mp.clock.advance(60)
        assert [self.upload(mp).status_code for _ in range(6)] == [200] * 5 + [429]


def test_a_standin_that_is_told_nothing_serves_the_demo_token(origin_of):
    with httpx.Client(base_url=origin_of(create_app())) as client:
        answer = client.post("/import", params={"strict": "1"}, json=[{}], auth=("demo-mixpanel-token", ""))
    assert answer.json()["num_records_imported"] == 0


def test_secrets_stay_out_of_the_request_log(mp):
    mp.send([mp.event(0)])
    log = mp.http.get("/_standin/requests").json()
    assert log[0]["headers"]["authorization"] == "***"
    assert base64.b64encode(b"tok:").decode() not in httpx.Response(200, json=log).text
