"""What PostHog makes of arrivals: merges, persons, AI events, visibility."""

import httpx
import pytest

from lf_dagster.simulators.posthog import Behaviour, PosthogStore, create_app
from lf_dagster.simulators.posthog.ai import token_count


def revisions(ph, view="merged", **kw):
    return [event["properties"].get("revision") for event in ph.store.events(view, **kw)]


def send_revisions(ph, count, *, apart=1.0, **fields):
    for revision in range(count):
        ph.send([ph.event(0, properties={"revision": revision}, **fields)])
        ph.clock.advance(apart)


class TestMerging:
    def test_newest_arrival_replaces(self, ph):
        send_revisions(ph, 3)
        assert revisions(ph, "raw") == [0, 1, 2]
        assert revisions(ph, "merged") == [2]

    def test_another_time_of_the_same_utc_day_is_the_same_event(self, ph):
        ph.send([ph.event(0, timestamp="2026-11-20T00:00:00Z")])
        ph.send([ph.event(0, timestamp="2026-11-20T23:59:59.999999Z")])
        assert len(ph.store.events("merged")) == 1

    @pytest.mark.parametrize(
        "changed",
        [{"event": "other"}, {"distinct_id": "other"}, {"timestamp": "2026-11-20T05:00:00Z"},
         {"uuid": "0b7d3c1e-7f6a-5c1b-9a55-ffffffffffff"}],
    )  # fmt: skip
    def test_every_other_part_of_the_identity_makes_a_second_event_for_ever(self, ph, changed):
        ph.send([ph.event(0)])
        ph.send([ph.event(0, **changed)])
        assert len(ph.store.events("merged")) == 2

    def test_ties_within_a_second_are_decided_by_seed(self, posthog_with):
        winners = set()
        for seed in range(12):
            ph = posthog_with(store=PosthogStore(seed=seed))
            send_revisions(ph, 2, apart=0.1)
            winners.add(revisions(ph)[0])
        assert winners == {0, 1}

    def test_query_view_lags_behind_merges(self, ph):
        send_revisions(ph, 5)
        assert revisions(ph, "query", behaviour=Behaviour(unmerged_fraction=0.0)) == [4]
        assert len(revisions(ph, "query", behaviour=Behaviour(unmerged_fraction=1.0))) == 5
        partly = revisions(ph, "query", behaviour=Behaviour(unmerged_fraction=0.5))
        assert 1 < len(partly) < 5
        assert 4 in partly

    def test_both_protocols_land_in_one_table(self, ph):
        ph.send([ph.event(0, properties={"revision": 0})])
        ph.clock.advance(1)
        options = {"disable_skew_correction": True}
        ph.v1([ph.event(0, properties={"revision": 1}, options=options)])
        assert revisions(ph) == [1]

    def test_historical_class_does_not_change_the_identity(self, ph):
        ph.send([ph.event(0)])
        ph.send([ph.event(0)], historical_migration=True)
        assert len(ph.store.events("merged")) == 1
        assert [item.historical for item in ph.store.stored("raw")] == [False, True]


class TestPersons:
    def test_set_overwrites_and_set_once_does_not(self, ph):
        ph.send([ph.event(0, properties={"$set": {"a": 1}, "$set_once": {"b": 1}})])
        ph.send([ph.event(0, **{"$set": {"a": 2}, "$set_once": {"b": 2}})])
        assert ph.http.get("/_standin/persons").json() == {"person-0": {"a": 2, "b": 1}}

    def test_without_person_profile_nothing_is_touched(self, ph):
        ph.send([ph.event(0, properties={"$set": {"a": 1}, "$process_person_profile": False})])
        assert ph.store.persons() == {}


class TestVisibility:
    def test_the_historical_topic_is_late(self, posthog_with):
        ph = posthog_with(behaviour=Behaviour(historical_delay_seconds=600))
        ph.send([ph.event(0)])
        ph.send([ph.event(1)], historical_migration=True)
        read = lambda: ph.http.get("/_standin/events", params={"view": "merged"}).json()  # noqa: E731
        assert [event["distinct_id"] for event in read()] == ["person-0"]
        ph.clock.advance(600)
        assert len(read()) == 2

    def test_views_over_the_admin_route(self, ph):
        send_revisions(ph, 2)
        read = lambda **params: ph.http.get("/_standin/events", params=params)  # noqa: E731
        assert [len(read(view=view).json()) for view in ("raw", "merged", "query")] == [2, 1, 1]
        assert read(project_id="8").json() == []
        assert read(view="nope").status_code == 400


class TestAi:
    HEAVY = {"$ai_input": [{"role": "user"}], "$ai_output_choices": [1], "$ai_tools": [1]}  # noqa: RUF012

    def test_heavy_properties_live_in_ai_events_only_and_are_not_deduplicated(self, ph):
        for _ in range(2):
            ph.send([ph.event(0, event="$ai_generation", properties={**self.HEAVY, "$ai_model": "m"}), ph.event(1)])
        [ordinary, _] = ph.store.events("merged")
        assert ordinary["properties"] == {"$geoip_disable": True, "$ai_model": "m"}
        heavy = ph.store.events("ai")
        assert [event["properties"]["$ai_input"] for event in heavy] == [self.HEAVY["$ai_input"]] * 2

    def test_ai_content_is_kept_for_30_days_of_event_time(self, ph):
        for number, day in enumerate(("2026-10-21", "2026-10-23")):
            ph.send([ph.event(number, event="$ai_trace", timestamp=f"{day}T00:00:00Z")])
        assert len(ph.store.events("merged")) == 2
        assert [e["distinct_id"] for e in ph.store.events("ai", now=ph.standin.now)] == ["person-1"]

    def test_bad_token_properties_become_null_with_a_warning(self, ph):
        usage = {"$ai_input_tokens": {"input": 3}, "$ai_output_tokens": {"total": 4}, "$ai_total_tokens": 7}
        ph.send([ph.event(0, event="$ai_generation", properties=usage)])
        properties = ph.store.events()[0]["properties"]
        assert [properties[name] for name in usage] == [None, 4, 7]
        assert [warning["property"] for warning in ph.store.warnings("invalid_ai_token_property")] == [
            "$ai_input_tokens"
        ]

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [(5, 5), (1.5, 1.5), ("12", "12"), ("", ""), (None, None), ({"total": 3}, 3), ({"total": "3"}, None),
         (True, None), ("x", None), ([1], None), ({}, None), ("nan", None)],
    )  # fmt: skip
    def test_token_rules(self, sent, kept):
        assert token_count(sent) == kept

    def test_ids_become_text_and_gateway_properties_go(self, ph):
        ph.send([ph.event(0, event="$ai_span", properties={"$ai_trace_id": 5, "$ai_gateway_x": 1})])
        assert ph.store.events()[0]["properties"] == {"$geoip_disable": True, "$ai_trace_id": "5"}


def test_a_standin_that_is_told_nothing_serves_the_demo_token(origin_of, ph):
    app = create_app()
    with httpx.Client(base_url=origin_of(app)) as client:
        client.post("/batch/", json={"api_key": "phc_demo", "batch": [ph.event(0)]})
    assert len(app.state.standin.store.events()) == 1


def test_reset_forgets_everything(ph):
    ph.send([ph.event(0, distinct_id="x" * 201, properties={"$set": {"a": 1}})])
    ph.http.post("/_standin/reset")
    assert (ph.store.events("raw"), ph.store.persons(), ph.store.warnings()) == ([], {}, [])
