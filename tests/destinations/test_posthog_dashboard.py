"""The dashboard in PostHog: made once, brought up to date, and never in the way of what somebody else made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations.posthog_dashboard import Comparison, PosthogDashboards, app_origin
from lf_dagster.destinations.posthog_insights import insights
from lf_dagster.errors import AuthenticationError, ConfigError, ProtocolError, RequestRejected, ServiceUnavailable
from lf_dagster.events.catalogue import load_catalogue
from lf_dagster.http import RetryPolicy
from lf_dagster.simulators import posthog as standin
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.server import serve

KEY = "phx_personal0secret"
ENV = {"POSTHOG_PERSONAL_API_KEY": KEY, "POSTHOG_API_KEY": "phc_x"}
MARK = "lf_dagster:shop"


@pytest.fixture
def app() -> Any:
    keys = [
        standin.PersonalKey(key=KEY, project_ids=(7,)),
        standin.PersonalKey(key="phx_reads", project_ids=(7,), scopes=("dashboard:read", "insight:read")),
    ]
    return standin.create_app(personal_keys=keys)


@pytest.fixture
def store(app: Any) -> Any:
    return app.state.standin.private


@pytest.fixture
def shop(app: Any) -> Iterator[Callable[..., ProjectSettings]]:
    with serve(app) as server:

        def settings(posthog: dict[str, Any] | None = None, **project: Any) -> ProjectSettings:
            own = {"host": server.origin, "project_id": "7", **(posthog or {})}
            return ProjectSettings.model_validate({"name": "shop", "posthog": own, **project})

        yield settings


def publish(settings: ProjectSettings, **env: str) -> Comparison:
    with PosthogDashboards(settings, env={**ENV, **env}, sleep=lambda _seconds: None) as dashboards:
        found = dashboards.compare()
        dashboards.publish(found)
    return found


def states(found: Comparison) -> set[str]:
    return {tile.state for tile in found.tiles}


def test_the_first_run_makes_a_dashboard_and_the_second_changes_nothing(shop: Any, store: Any) -> None:
    assert states(publish(shop())) == {"new"}
    [dashboard] = store.live(7, "dashboard")
    assert dashboard["name"] == "Langfuse: shop"
    assert dashboard["tags"] == [MARK]
    made = store.live(7, "insight")
    assert [row["name"] for row in reversed(made)] == [insight.name for insight in insights(shop())]
    assert all(row["dashboards"] == [dashboard["id"]] and row["saved"] for row in made)
    writes = store.writes
    again = publish(shop())
    assert states(again) == {"current"}
    assert again.dashboard == dashboard["id"]
    assert store.writes == writes == 1 + len(made)


def test_without_tags_it_is_found_by_its_description(shop: Any, store: Any) -> None:
    store.tagging = False
    publish(shop())
    assert states(publish(shop())) == {"current"}
    assert len(store.live(7, "dashboard")) == 1


def test_what_people_did_stays(shop: Any, store: Any) -> None:
    publish(shop())
    [dashboard] = store.live(7, "dashboard")
    dashboard.update(name="Our LLM board", pinned=True, description="mine", tags=[MARK, "team"])
    [cost] = [row for row in store.live(7, "insight") if row["name"] == "Cost by model"]
    cost["name"] = "Spend"
    cost["query"]["source"]["filterTestAccounts"] = True
    cost["dashboards"].append(99)
    theirs = {**cost, "id": 500, "name": "Signups", "description": "", "tags": []}
    store.of(7, "insight")[500] = dict(theirs)
    writes = store.writes
    assert states(publish(shop())) == {"current"}
    assert store.writes == writes
    assert store.of(7, "insight")[500] == theirs


def test_a_query_that_differs_is_put_right_and_nothing_else(shop: Any, store: Any) -> None:
    publish(shop())
    wanted = {row["name"]: dict(row) for row in store.live(7, "insight")}
    rows = {row["name"]: row for row in store.live(7, "insight")}
    rows["Tokens"]["query"] = {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery", "series": [{}]}}
    rows["Retention"]["dashboards"] = []
    writes = store.writes
    found = publish(shop())
    assert {tile.insight.name for tile in found.tiles if tile.state == "changed"} == {"Tokens", "Retention"}
    assert store.writes == writes + 2
    assert {row["name"]: row for row in store.live(7, "insight")} == wanted


def test_a_tile_stays_on_other_dashboards_too(shop: Any, store: Any) -> None:
    publish(shop())
    [ours] = store.live(7, "dashboard")
    store.of(7, "dashboard")[400] = {**ours, "id": 400, "name": "Board of the team", "description": "", "tags": []}
    [latency] = [row for row in store.live(7, "insight") if row["name"] == "Latency of generations"]
    latency.update(dashboards=[400], description="old (lf_dagster:shop:latency)")
    publish(shop())
    assert latency["dashboards"] == [ours["id"], 400]
    assert latency["description"].startswith("Median")


def test_what_was_deleted_is_made_again(shop: Any, store: Any) -> None:
    publish(shop())
    store.live(7, "dashboard")[0]["deleted"] = True
    store.live(7, "insight")[0]["deleted"] = True
    found = publish(shop())
    assert [tile.state for tile in found.tiles].count("new") == 1
    [dashboard] = store.live(7, "dashboard")
    assert all(row["dashboards"] == [dashboard["id"]] for row in store.live(7, "insight"))
    assert states(publish(shop())) == {"current"}


def test_it_is_found_behind_many_pages_of_others(shop: Any, store: Any) -> None:
    publish(shop())
    row = store.live(7, "insight")[0]
    for number in range(1000, 1250):
        store.of(7, "insight")[number] = {**row, "id": number, "description": "", "tags": []}
    writes = store.writes
    assert states(publish(shop())) == {"current"}
    assert store.writes == writes


def test_projects_have_a_dashboard_each(shop: Any, store: Any) -> None:
    publish(shop())
    other = shop().model_copy(update={"name": "shop_two"})
    assert states(publish(other)) == {"new"}
    assert {row["name"] for row in store.live(7, "dashboard")} == {"Langfuse: shop", "Langfuse: shop_two"}
    assert states(publish(shop())) == {"current"}


def test_a_comparison_writes_nothing(shop: Any, store: Any) -> None:
    with PosthogDashboards(shop(), env=ENV) as dashboards:
        found = dashboards.compare()
    assert (found.dashboard, states(found), store.writes) == (None, {"new"}, 0)


def test_every_insight_asks_for_events_and_properties_that_are_sent(shop: Any) -> None:
    sent = {event.names["posthog"]: {item.name for item in event.properties} for event in load_catalogue()}
    for compatibility in ("documented", "native"):
        for insight in insights(shop(compatibility=compatibility)):
            source = insight.query["source"]
            for series in source.get("series", ()):
                named = {series.get("math_property"), source.get("breakdownFilter", {}).get("breakdown")}
                named |= {item["key"] for item in series.get("properties", ())}
                assert named - {None} <= sent[series["event"]], insight.key
                assert {prop for _, prop in insight.needs} == named - {None} or len(source["series"]) > 1


def test_insights_without_their_properties_are_left_out(shop: Any) -> None:
    every = {insight.key for insight in insights(shop())}
    assert {"active_users", "cost_by_model", "latency", "score_values", "error_rate", "retention"} <= every
    without = {insight.key for insight in insights(shop({"exclude_properties": ["langfuse_cost_usd"]}))}
    assert every - without == {"cost_by_model", "cost_by_user"}
    few = {insight.key for insight in insights(shop({"properties": ["langfuse_level"]}))}
    assert few == {"active_users", "retention", "error_rate"}


def test_latencies_have_the_unit_that_is_sent(shop: Any) -> None:
    for compatibility, unit in (("documented", "duration_ms"), ("native", "duration")):
        [latency] = [item for item in insights(shop(compatibility=compatibility)) if item.key == "latency"]
        assert latency.query["source"]["trendsFilter"]["aggregationAxisFormat"] == unit


@pytest.mark.parametrize(
    ("posthog", "env", "said"),
    [
        ({"project_id": None}, {}, "Set POSTHOG_PROJECT_ID"),
        ({"project_id": "shop"}, {}, "is not a number"),
        ({}, {"POSTHOG_PERSONAL_API_KEY": ""}, "POSTHOG_PERSONAL_API_KEY is not set"),
        ({}, {"POSTHOG_PERSONAL_API_KEY": "phc_project"}, "does not hold a personal API key"),
    ],
)
def test_missing_and_wrong_settings_are_named(shop: Any, posthog: Any, env: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        publish(shop(posthog), **env)
    assert "phc_project" not in str(raised.value)


def test_refusals_say_what_to_do_and_carry_no_key(shop: Any, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AuthenticationError, match="invalid"):
        publish(shop(), POSTHOG_PERSONAL_API_KEY="phx_revoked")
    with pytest.raises(AuthenticationError, match=r"missing required scope 'dashboard:write'(.|\n)*Personal API keys"):
        publish(shop(), POSTHOG_PERSONAL_API_KEY="phx_reads")
    with pytest.raises(RequestRejected, match=r"Project not found(.|\n)*posthog.project_id"):
        publish(shop({"project_id": "8"}))
    app.state.faults.add(Fault(path="/api", status=200, body="<html>login</html>"))
    with pytest.raises(ProtocolError, match="should answer with JSON"):
        publish(shop())
    app.state.faults.add(Fault(path="/api", status=503, body=f"busy {KEY}", times=None))
    with pytest.raises(ServiceUnavailable) as raised:
        publish(shop())
    assert KEY not in str(raised.value) + caplog.text


def test_a_passing_failure_is_waited_out(shop: Any, app: Any, store: Any) -> None:
    app.state.faults.add(Fault(path="/api", status=429, headers={"Retry-After": "3"}))
    slept: list[float] = []
    with PosthogDashboards(shop(), env=ENV, retry=RetryPolicy(attempts=2, jitter=0), sleep=slept.append) as dashboards:
        dashboards.publish(dashboards.compare())
    assert slept[0] == 3.0
    assert len(store.live(7, "dashboard")) == 1


def test_too_many_writes_at_once_are_slowed_down(shop: Any, app: Any, store: Any) -> None:
    app.state.faults.add(Fault(method="POST", path="/api", status=429, times=2))
    assert states(publish(shop())) == {"new"}
    assert states(publish(shop())) == {"current"}


def test_a_lost_answer_makes_nothing_twice(shop: Any, app: Any, store: Any) -> None:
    for number in (1, 4):
        app.state.faults.add(Fault(method="POST", path="/api", nth=number, cut="after"))
        with pytest.raises(ServiceUnavailable):
            publish(shop())
    publish(shop())
    assert len(store.live(7, "dashboard")) == 1
    assert sorted(row["name"] for row in store.live(7, "insight")) == sorted(item.name for item in insights(shop()))


def test_the_app_is_where_the_capture_host_says(shop: Any) -> None:
    for host, origin in (
        ("https://eu.i.posthog.com", "https://eu.posthog.com"),
        ("https://us.i.posthog.com", "https://us.posthog.com"),
        ("https://posthog.example.org/base", "https://posthog.example.org/base"),
    ):
        assert app_origin(shop({"host": host}).posthog) == origin
    own = {"host": "https://in.example.org", "api_host": "https://app.example.org"}
    assert app_origin(shop(own).posthog) == "https://app.example.org"
