"""Events of PostHog's LLM analytics against the strict stand-in: taken whole, once, beside or instead of the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from lf_dagster.destinations import HourDelivery, deliver, open_destination, portions, preview
from lf_dagster.destinations.posthog_dashboard import PosthogDashboards
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.simulators.langfuse import create_app
from lf_dagster.simulators.posthog.ai import costs
from lf_dagster.simulators.posthog.settings import Limits
from lf_dagster.simulators.server import serve
from lf_dagster.simulators.world import WorldSettings, build_world
from lf_dagster.warehouse.query import Heading, Questions
from tests.destinations.world import ENV, POSTHOG_KEY, World
from tests.events.events import HOST, EventProject
from tests.warehouse.apps.samples import merged, sample
from tests.warehouse.extracts import hours_of, recorded, v2_row, v3_score

HOUR = Hour.from_key("2026-11-21-05:00")
AT = "2026-11-21T05:00:00.000Z"
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)
CALL = {"type": "GENERATION", "endTime": "2026-11-21T05:00:01.625Z", "model": "gpt-4o-mini"}
AI = {"$ai_trace", "$ai_generation", "$ai_span", "$ai_metric", "$ai_feedback"}


@dataclass
class Shop:
    """A project whose events go to the PostHog stand-in; settings may differ from one delivery to the next."""

    folder: Path
    world: World
    app: Any
    content: bool = False
    projects: dict[str, EventProject] = field(default_factory=dict)

    def project(self, **posthog: Any) -> EventProject:
        options = {"host": self.world.origin, "llm_analytics": "beside", **posthog}
        return EventProject(self.folder / "data", posthog=options, langfuse={"content": self.content})

    def load(self, rows: list[Any], scores: Sequence[Any] = (), **posthog: Any) -> None:
        project = self.project(**posthog)
        project.extract_v2(rows, [HOUR], scores)
        project.run_all([HOUR])

    def ship(self, wanted: Sequence[Hour] = (HOUR,), **options: Any) -> list[HourDelivery]:
        launch = {name: options.pop(name) for name in ("waits", "resend") if name in options}
        # PostHog keeps the newest arrival by the second: runs lie apart.
        self.world.clock.seconds += 60
        settings = self.project(**options).settings
        with open_destination("posthog", settings, env=ENV) as opened:
            return deliver(opened, **self.where(**options), hours=wanted, run_id="run", now=NOW, **launch)

    def where(self, **options: Any) -> dict[str, Any]:
        project = self.project(**options)
        return {
            "project": project.settings,
            "project_id": "proj-lf",
            "project_name": "LF Project",
            "host": HOST,
            "warehouse": project.warehouse,
            "lake": project.lake,
        }

    @property
    def store(self) -> Any:
        return self.app.state.standin.store

    def held(self, view: str = "merged") -> dict[tuple[str, str], dict[str, Any]]:
        """What PostHog shows, by event and Langfuse id."""
        found = {(item["event"], item["properties"].get("langfuse_id")): item for item in self.store.events(view)}
        assert view != "merged" or len(found) == len(self.store.events(view))
        return found

    def names(self) -> Counter[str]:
        return Counter(item["event"] for item in self.store.events())


@pytest.fixture(params=["v1", "batch"])
def any_shop(posthog: World, posthog_app: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    posthog_app.state.standin.behaviour = type(posthog_app.state.standin.behaviour)(capture_v1=request.param == "v1")
    return Shop(tmp_path, posthog, posthog_app)


@pytest.fixture
def shop(posthog: World, posthog_app: Any, tmp_path: Path) -> Shop:
    return Shop(tmp_path, posthog, posthog_app)


def rows(**changes: Any) -> list[dict[str, Any]]:
    return [
        v2_row("root", "t1", AT, isRootObservation=True, userId="u-1", traceName="chat"),
        v2_row("g1", "t1", AT, **{**CALL, "userId": "u-1", "parentObservationId": "root", **changes}),
        v2_row("nobody", "t2", AT, **CALL),
    ]


SCORES = [v3_score("s1", AT, comment="well done"), v3_score("s2", AT, trace_id="t2", dataType="BOOLEAN", value=False)]


def sums(results: Sequence[HourDelivery]) -> tuple[int, int]:
    """Sent and rejected."""
    return sum(item.sent for item in results), sum(item.rejected for item in results)


# Accepted


def samples() -> tuple[list[Any], list[Any]]:
    found = merged(sample("dify"), sample("librechat"))
    return found["v2_observations"], found["v3_scores"]


def generated() -> tuple[list[Any], list[Any]]:
    """Rows of a generated world, as its server answers them."""
    settings = WorldSettings(seed=5, start=datetime(2026, 11, 20, tzinfo=timezone.utc), hours=2, traces_per_hour=30)
    window = {"fromStartTime": "2026-11-19T00:00:00Z", "toStartTime": "2026-11-23T00:00:00Z", "limit": 1000}
    with serve(create_app(build_world(settings).store)) as server:
        client = httpx.Client(base_url=f"{server.origin}/api/public", auth=("pk-lf-local", "sk-lf-local"), timeout=30)
        with client:
            fields = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
            observations = client.get("/v2/observations", params={**window, "fields": fields}).json()["data"]
            scores = client.get("/v3/scores", params={"limit": 100, "fields": "details,subject"}).json()["data"]
    return observations, scores


def real() -> tuple[list[Any], list[Any]]:
    return recorded()["v2_observations"], recorded()["v3_scores"]


@pytest.mark.parametrize("data", [samples, generated, real])
def test_posthog_takes_them_all_and_only_once(any_shop: Shop, data: Any) -> None:
    observations, scores = data()
    project = any_shop.project()
    wanted = sorted({*hours_of(observations), *hours_of(scores, "scores")})
    project.extract_v2(observations, wanted, scores)
    project.run_all(wanted)
    sent, rejected = sums(any_shop.ship(wanted))
    assert rejected == 0
    assert sent > 20
    names = any_shop.names()
    assert names.keys() >= AI
    assert {"langfuse trace", "langfuse generation"} <= names.keys()
    assert not [item for item in any_shop.store.stored("raw") if item.damage]
    assert not any_shop.store.warnings()
    assert sums(any_shop.ship(wanted)) == (0, 0)
    assert any_shop.names() == names


def test_all_go_through_the_ordinary_routes(any_shop: Shop) -> None:
    any_shop.load(rows(), SCORES)
    any_shop.ship()
    asked = {record.path.rstrip("/") for record in any_shop.app.state.faults.requests()}
    assert asked <= {"/i/v1/analytics/events", "/batch"}


# Beside and instead


def test_instead_sends_no_others_and_beside_sends_both(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    shop.ship(llm_analytics="instead")
    assert shop.names() == {
        "$ai_trace": 2, "$ai_generation": 2, "$ai_span": 1, "$ai_metric": 2, "$ai_feedback": 1,
    }  # fmt: skip
    sent, _ = sums(shop.ship(llm_analytics="beside"))
    assert sent == 6
    assert {name: count for name, count in shop.names().items() if name.startswith("langfuse")} == {
        "langfuse trace": 2, "langfuse generation": 2, "langfuse score": 2,
    }  # fmt: skip
    [back] = shop.ship(llm_analytics="instead")
    assert (back.sent, back.gone, back.deleted) == (0, 6, 0)


def test_users_and_persons_are_the_same_with_both(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    shop.ship(llm_analytics="off")
    others = [name for name in shop.names() if name.startswith("langfuse")]
    users, persons = shop.store.unique_users(), shop.store.persons()
    # One known user, and a distinct id for each event without one: trace, generation and score.
    assert (users, set(persons)) == (4, {"u-1"})
    shop.ship(llm_analytics="beside")
    assert set(shop.names()) - set(others) == AI
    assert shop.store.unique_users() == users
    assert shop.store.persons() == persons
    for twins in (("langfuse generation", "$ai_generation"), ("langfuse score", "$ai_metric")):
        assert len({shop.store.unique_users(name) for name in (*twins,)}) == 1
        assert shop.store.unique_users(*twins) == shop.store.unique_users(twins[0]) == 2
    nobody = [item for item in shop.store.stored("merged") if item.distinct_id != "u-1"]
    assert {item.event for item in nobody} >= {"$ai_trace", "$ai_generation", "$ai_metric"}
    assert not any(item.person_processing for item in nobody)


def test_an_event_turned_on_later_has_the_user_of_the_delivered_one(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    shop.ship(llm_analytics="off")
    late = rows()
    late[2]["userId"] = "u-2"
    shop.load(late, SCORES)
    shop.ship(llm_analytics="beside")
    held = shop.held()
    twins = {name: held[name, "nobody"]["distinct_id"] for name in ("langfuse generation", "$ai_generation")}
    assert len(set(twins.values())) == 1
    assert "u-2" not in twins.values()
    assert held["$ai_generation", "nobody"]["properties"]["langfuse_user_id"] == "u-2"
    assert sums(shop.ship()) == (0, 0)


@pytest.mark.parametrize("mode", ["beside", "instead"])
def test_a_large_hour_goes_in_shares(shop: Shop, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.load(rows(), SCORES)
    monkeypatch.setattr(portions, "MOST_EVENTS", 3)
    assert sums(shop.ship(llm_analytics=mode)) == (14 if mode == "beside" else 8, 0)
    assert sums(shop.ship(llm_analytics=mode)) == (0, 0)


# Changes


def test_a_changed_row_replaces_its_event_and_only_that_is_sent_again(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    shop.ship(llm_analytics="instead")
    before = shop.held()["$ai_generation", "g1"]
    shop.load(rows(costDetails={"total": 0.5}, totalCost=0.5), SCORES)
    assert sums(shop.ship(llm_analytics="instead")) == (1, 0)
    after = shop.held()["$ai_generation", "g1"]
    assert after["uuid"] == before["uuid"]
    assert "$ai_total_cost_usd" not in before["properties"]
    assert costs(after["properties"]) == {"source": "passthrough", "total": 0.5}
    # In the trace view, which merges nothing, it shows twice: all the more reason to send only real changes.
    assert [item["event"] for item in shop.store.events("ai")].count("$ai_generation") == 3


def test_a_zero_cost_stays_zero(shop: Shop) -> None:
    shop.load(rows(costDetails={"input": 0, "output": 0, "total": 0}, totalCost=0))
    shop.ship()
    held = shop.held()
    assert costs(held["$ai_generation", "g1"]["properties"]) == {"source": "passthrough", "total": 0}
    assert costs(held["$ai_generation", "nobody"]["properties"])["source"] == "estimated"


def test_a_user_known_later_does_not_double_them(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    shop.ship()
    count, late = len(shop.store.events()), rows()
    late[2]["userId"] = "u-2"
    shop.load(late, SCORES)
    [result] = shop.ship()
    assert result.sent == result.identity_changed > 0
    assert len(shop.store.events()) == count
    assert set(shop.store.persons()) == {"u-1"}


def test_hashing_turned_on_keeps_those_without_user(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT", "pepper")
    shop.load(rows(), SCORES)
    shop.ship()
    late = rows()
    late[2]["model"] = "other"
    shop.load(late, SCORES)
    shop.ship(hash_user_ids_env="SALT")
    mine = [item for item in shop.store.events() if item["properties"].get("langfuse_id") == "nobody"]
    assert {item["event"] for item in mine} == {"langfuse generation", "$ai_generation"}
    assert len(mine) == 2


@pytest.mark.parametrize("hashed", [False, True])
def test_deleted_ones_are_emptied(shop: Shop, hashed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT", "pepper")
    options: dict[str, Any] = {"on_delete": "tombstone", **({"hash_user_ids_env": "SALT"} if hashed else {})}
    shop.load(rows(), SCORES)
    shop.ship(**options)
    before = {item["uuid"]: item["event"] for item in shop.store.events()}
    shop.load(rows()[:2], SCORES[:1])
    project = shop.project()
    project.run_all([HOUR])
    [result] = shop.ship(**options)
    emptied = [item for item in shop.store.events() if item["properties"].get("langfuse_deleted") is True]
    assert result.tombstoned == len(emptied)
    assert {item["event"] for item in emptied} >= {"$ai_trace", "$ai_generation", "$ai_metric"}
    assert {item["uuid"] for item in shop.store.events()} == set(before)


def test_those_without_user_wait_for_their_trace(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    gaps = {HOUR: dict.fromkeys(("generation", "ai_generation"), HOUR.shift(-1))}
    [result] = shop.ship(waits=gaps)
    assert result.awaiting == 2
    assert ("$ai_generation", "nobody") not in shop.held()
    assert ("$ai_generation", "g1") in shop.held()
    assert sums(shop.ship())[0] == 2


# Content


def test_content_is_only_in_the_trace_view_and_for_thirty_days(shop: Shop) -> None:
    shop.content = True
    asked = [{"role": "user", "content": "Where is my parcel?"}]
    shop.load(rows(input=json.dumps(asked), output="There."), llm_content=True)
    shop.ship()
    assert "parcel" not in json.dumps(shop.store.events("ai"))
    shop.ship(llm_content=True)
    key = ("$ai_generation", "g1")
    assert "$ai_input" not in shop.held()[key]["properties"]
    shown = shop.held("ai")[key]["properties"]
    assert (shown["$ai_input"], shown["$ai_output_choices"]) == (asked, [{"role": "assistant", "content": "There."}])
    later = int((NOW + timedelta(days=31)).timestamp() * 1e6)
    assert shop.store.events("ai", now=later) == []


@pytest.mark.parametrize("data", [samples, generated])
def test_content_of_every_shape_is_taken(any_shop: Shop, data: Any) -> None:
    observations, _ = data()
    any_shop.content = True
    project = any_shop.project(llm_content=True)
    wanted = hours_of(observations)
    project.extract_v2(observations, wanted, [])
    project.run_all(wanted)
    assert sums(any_shop.ship(wanted, llm_content=True))[1] == 0
    shown = [item["properties"] for item in any_shop.store.events("ai")]
    assert len([item for item in shown if "$ai_input" in item or "$ai_input_state" in item]) > 10


def test_a_megabyte_of_content_is_taken(any_shop: Shop) -> None:
    any_shop.content = True
    big = "word " * 220_000
    any_shop.load(rows(input=big, output=big), SCORES, llm_content=True)
    assert sums(any_shop.ship(llm_content=True))[1] == 0
    said = any_shop.held("ai")["$ai_generation", "g1"]["properties"]
    assert big.startswith(said["$ai_input"][0]["content"])
    assert len(said["$ai_input"][0]["content"]) == 300_000
    assert said["langfuse_truncated_properties"] == ["$ai_input", "$ai_output_choices"]
    assert len(json.dumps(said)) < Limits().event_bytes


# What is told of them


def test_preview_and_deliveries_show_them(shop: Shop) -> None:
    shop.load(rows(), SCORES)
    with open_destination("posthog", shop.project().settings, env=ENV) as opened:
        shown = preview(opened, **shop.where(), hour=HOUR, now=NOW, limit=50)
    assert {item["kind"] for item in shown} >= {"ai_trace", "ai_generation", "ai_span", "ai_metric", "ai_feedback"}
    assert {item["action"] for item in shown} == {"send"}
    shop.ship()
    found: list[Any] = []

    def take(_headings: Sequence[Heading], listed: Iterator[Any]) -> None:
        found.extend(listed)

    project = shop.project()
    settings = project.settings.model_copy(update={"warehouse": project.warehouse.location})
    Questions(settings, project.lake).run(
        "SELECT event, count(*) FROM deliveries WHERE status = 'delivered' AND starts_with(kind, 'ai_') GROUP BY event",
        take,
    )
    assert dict(found) == {name: count for name, count in shop.names().items() if name in AI}


def test_a_dashboard_over_events_that_are_not_sent_is_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="llm_analytics: instead"):
        PosthogDashboards(shop.project(llm_analytics="instead").settings, env=ENV)


def test_the_stand_in_refuses_what_posthog_could_not_use(shop: Shop) -> None:
    good = {"$ai_trace_id": "t1", "$ai_metric_name": "m", "$ai_metric_value": "0", "$geoip_disable": True}
    wrong = (
        ("$ai_metric", {"$ai_trace_id": None}, "without $ai_trace_id"),
        ("$ai_metric", {"$ai_trace_id": "a b"}, "with a wrong $ai_trace_id"),
        ("$ai_metric", {"$ai_metric_value": 0}, "with a wrong $ai_metric_value"),
        ("$ai_metric", {"$ai_latency": "1.5"}, "with a wrong $ai_latency"),
        ("$ai_metric", {"$ai_nonsense": 1}, "with the unknown property $ai_nonsense"),
        ("$ai_span", {"$ai_span_id": "s", "$ai_input_tokens": 3}, "which only calls of a model have"),
        ("$ai_generation", {"$ai_span_id": "s", "$ai_input_tokens": {"input": 3}}, "with a wrong $ai_input_tokens"),
        ("$ai_evaluation", {}, "not an event that a client may send"),
    )
    with httpx.Client(base_url=shop.world.origin) as client:
        for event, changes, told in wrong:
            item = {"event": event, "distinct_id": "u", "timestamp": AT, "properties": {**good, **changes}}
            answer = client.post("/batch/", json={"api_key": POSTHOG_KEY, "batch": [item]})
            assert (answer.status_code, told in answer.text) == (400, True), answer.text
        item = {"event": "$ai_metric", "distinct_id": "u", "timestamp": AT, "properties": good}
        assert client.post("/batch/", json={"api_key": POSTHOG_KEY, "batch": [item]}).status_code == 200
    assert set(shop.names()) == {"$ai_metric"}
