"""Mixpanel beyond a single request: rates, non-strict mode, and the views that deduplication makes."""

import httpx
import pytest

from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.mixpanel import Behaviour, Limits

DAY_MS = 86_400_000
RATE_LIMITED = {
    "code": 429,
    "error": "Project exceeded rate limits. Please retry the request with exponential backoff.",
    "status": "Too Many Requests",
}


class TestRates:
    def test_events_per_rolling_minute(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=5))
        assert mp.send([mp.event(i) for i in range(3)]).status_code == 200
        mp.clock.advance(30)
        answer = mp.send([mp.event(i) for i in range(3)])
        assert (answer.status_code, answer.json()) == (429, RATE_LIMITED)
        assert "retry-after" not in answer.headers
        mp.clock.advance(30)
        assert mp.send([mp.event(i) for i in range(3)]).status_code == 200

    def test_bytes_per_rolling_minute(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(bytes_per_minute=400))
        assert mp.send([mp.event(0)]).status_code == 200
        assert mp.send([mp.event(i) for i in range(2)]).status_code == 429

    def test_rejected_rows_count_towards_the_rate_but_refused_requests_do_not(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=4))
        assert mp.send([mp.event(i, time=...) for i in range(3)]).status_code == 400
        assert mp.send([mp.event(i) for i in range(2)]).status_code == 429
        assert mp.send([mp.event(0)]).status_code == 200

    def test_projects_have_budgets_of_their_own(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=1))
        assert mp.send([mp.event(0)]).status_code == 200
        assert mp.send([mp.event(0)], auth=("other", "")).status_code == 200

    def test_retry_after_can_be_switched_on(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=0), behaviour=Behaviour(retry_after=7))
        assert mp.send([mp.event(0)]).headers["retry-after"] == "7"


class TestNotStrict:
    def test_bad_rows_vanish_without_a_word(self, mp):
        answer = mp.send([mp.event(0), mp.event(1, time=...)], params={"strict": "0"})
        assert (answer.status_code, answer.json()) == (200, {"error": None, "status": 1})
        assert len(mp.store.events()) == 1

    def test_bad_credentials_look_accepted(self, mp):
        answer = mp.send([mp.event(0)], params={"strict": "0"}, auth=("wrong", ""))
        assert (answer.status_code, answer.json()) == (200, {"error": None, "status": 1})
        assert mp.store.events() == []

    def test_missing_insert_id_is_made_up_and_never_collapses(self, mp):
        for _ in range(2):
            mp.send([mp.event(0, **{"$insert_id": ...})], params={"strict": "0"})
        assert len(mp.store.events("query")) == 2

    def test_429_has_the_short_body(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=0))
        answer = mp.send([mp.event(0)], params={"strict": "0"})
        assert (answer.status_code, answer.json()["status"], set(answer.json())) == (429, 0, {"error", "status"})


class TestViews:
    def revisions(self, mp, view, **kw):
        return [event["properties"]["revision"] for event in mp.store.events(view, **kw)]

    def test_raw_keeps_all_copies_and_query_one_per_four_key(self, mp):
        for revision in range(3):
            mp.send([mp.event(0, revision=revision, time=1_795_000_000_000)])
        assert self.revisions(mp, "raw") == [0, 1, 2]
        assert self.revisions(mp, "query") == [2]
        assert self.revisions(mp, "query", winner="oldest") == [0]
        drawn = {self.revisions(mp, "query", winner="random", seed=seed)[0] for seed in range(20)}
        assert drawn == {0, 1, 2}

    @pytest.mark.parametrize("changed", [{"time": 1_795_000_000_001}, {"distinct_id": "x"}, {"$insert_id": "x"}])
    def test_each_part_of_the_four_key_makes_another_event(self, mp, changed):
        base = {"time": 1_795_000_000_000, "distinct_id": "a", "$insert_id": "i"}
        mp.send([mp.event(0, **base), mp.event(0, **{**base, **changed}), mp.event(0, event="other", **base)])
        assert len(mp.store.events("query")) == 3

    def test_compaction_ignores_time_within_a_utc_day(self, mp):
        day = (1_795_000_000_000 // DAY_MS) * DAY_MS
        base = {"distinct_id": "a", "$insert_id": "i"}
        mp.send([mp.event(0, time=day, **base), mp.event(0, time=day + DAY_MS - 1, **base)])
        mp.send([mp.event(0, time=day + DAY_MS, **base)])
        assert len(mp.store.events("query")) == 3
        assert len(mp.store.events("compacted")) == 2

    def test_projects_do_not_mix(self, mp):
        mp.send([mp.event(0, time=1_795_000_000_000)])
        mp.send([mp.event(0, time=1_795_000_000_000)], auth=("other", ""))
        assert len(mp.store.events("query")) == 2
        assert len(mp.store.events("query", project_id=8)) == 1

    def test_hot_shard_rewrites_what_is_beyond_the_limit(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(hot_shard=5))
        day = (1_795_000_000_000 // DAY_MS) * DAY_MS
        same = [mp.event(i, distinct_id="hot", time=day + i) for i in range(7)]
        mp.send([*same, mp.event(8, distinct_id="hot", time=day + DAY_MS)])
        mp.send([mp.event(i, distinct_id="", time=day + i) for i in range(9, 19)])
        events = mp.store.events()
        hot = [event["properties"] for event in events if event["event"] == "$hotshard_events"]
        assert len(hot) == 2
        assert {properties["distinct_id"] for properties in hot} == {""}
        assert hot[0]["mp_original_event_name"] == "[LF] Trace"
        assert hot[0]["mp_original_distinct_id"] == "hot"
        assert mp.store.damage()["hot_shard"] == 2

    def test_views_over_the_admin_route(self, mp):
        for revision in range(2):
            mp.send([mp.event(0, revision=revision, time=1_795_000_000_000)])
        read = lambda **params: mp.http.get("/_standin/events", params=params)  # noqa: E731
        assert len(read(view="raw").json()) == 2
        assert [event["properties"]["revision"] for event in read(view="query").json()] == [1]
        assert read(view="query", winner="oldest").json()[0]["properties"]["revision"] == 0
        assert read(view="query", project_id="8").json() == []
        assert read(view="nope").status_code == 400

    def test_reset_forgets_events_and_rates(self, mixpanel_with):
        mp = mixpanel_with(limits=Limits(events_per_minute=1))
        mp.send([mp.event(0)])
        mp.http.post("/_standin/reset")
        assert mp.store.events() == []
        assert mp.send([mp.event(0)]).status_code == 200


def test_cut_after_storing_is_an_ambiguous_timeout_that_dedup_heals(mp):
    mp.faults.add(Fault(path="/import", cut="after"))
    event = mp.event(0, time=1_795_000_000_000)
    with pytest.raises(httpx.TransportError):
        mp.send([event])
    mp.send([event])
    assert (len(mp.store.events("raw")), len(mp.store.events("query"))) == (2, 1)
