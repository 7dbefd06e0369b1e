"""Descriptions in Mixpanel's Lexicon: what the catalogue says, written once, beside what people keep there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import mixpanel_lexicon
from lf_dagster.destinations.mixpanel_lexicon import Description, Lexicon
from lf_dagster.errors import AuthenticationError, ConfigError, ProtocolError, ServiceUnavailable
from lf_dagster.events.catalogue import load_catalogue
from lf_dagster.http import RetryPolicy
from lf_dagster.simulators import mixpanel as standin
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.mixpanel.settings import ServiceAccount
from lf_dagster.simulators.server import serve

PASSWORD = "sa-pass:with-colon-4711"
ENV = {"MIXPANEL_SERVICE_ACCOUNT": f"sa:{PASSWORD}", "MIXPANEL_PROJECT_TOKEN": "token"}
TRACE, GENERATION = "[Langfuse] Trace", "[Langfuse] Generation"


@pytest.fixture
def app() -> Any:
    accounts = [
        ServiceAccount(username="sa", secret=PASSWORD, project_ids=frozenset({7}), role="admin"),
        ServiceAccount(username="viewer", secret="v", project_ids=frozenset({7}), role="consumer"),
    ]
    return standin.create_app(tokens={"token": 7}, service_accounts=accounts)


@pytest.fixture
def held(app: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas that the project has."""
    return app.state.standin.store.schemas.setdefault(7, {})


@pytest.fixture
def shop(app: Any) -> Iterator[Callable[..., ProjectSettings]]:
    with serve(app) as server:

        def settings(mixpanel: dict[str, Any] | None = None, **project: Any) -> ProjectSettings:
            own = {"api_host": server.origin, "project_id": "7", **(mixpanel or {})}
            return ProjectSettings.model_validate({"name": "shop", "mixpanel": own, **project})

        yield settings


def publish(settings: ProjectSettings, **env: str) -> list[Description]:
    with Lexicon(settings, env={**ENV, **env}, sleep=lambda _seconds: None) as lexicon:
        found = lexicon.compare()
        lexicon.publish(found)
    return found


def states(found: list[Description]) -> dict[str, str]:
    return {item.event: item.state for item in found}


def uploads(app: Any) -> int:
    return sum(request.method == "POST" for request in app.state.faults.requests())


def test_events_and_properties_are_described_once(shop: Any, held: Any, app: Any) -> None:
    assert set(states(publish(shop())).values()) == {"new"}
    assert {name for kind, name in held if kind == "event"} == {TRACE, GENERATION, "[Langfuse] Score"}
    [trace] = [event for event in load_catalogue() if event.kind == "trace"]
    schema = held["event", TRACE]
    assert schema["description"] == trace.description
    assert schema["properties"]["langfuse_cost_usd"] == {
        "type": "number",
        "description": "Sum of the costs of the trace's observations; null when none is known. In USD.",
    }
    assert schema["properties"]["langfuse_tags"]["type"] == "array"
    assert {item.name for item in trace.sent("documented")} < set(schema["properties"])
    before = uploads(app)
    assert set(states(publish(shop())).values()) == {"current"}
    assert uploads(app) == before == 1


def test_what_is_described_follows_the_settings(shop: Any, held: Any) -> None:
    publish(shop({"exclude_properties": ["langfuse_url"]}, extra_events=["agent_run"], observation_events=True))
    assert {"[Langfuse] Observation", "[Langfuse] Agent Run"} < {name for _, name in held}
    assert "langfuse_url" not in held["event", TRACE]["properties"]
    assert "timestamp" not in held["event", TRACE]["properties"]
    assert held["event", TRACE]["properties"]["langfuse_latency"]["description"].endswith("In ms.")
    held.clear()
    publish(shop(compatibility="native"))
    assert "timestamp" in held["event", TRACE]["properties"]
    assert "In ms." not in held["event", TRACE]["properties"]["langfuse_latency"]["description"], "it is in seconds"


def test_profiles_are_described_where_they_are_kept(shop: Any, held: Any) -> None:
    assert ("profile", "$user") not in {key for _ in [publish(shop())] for key in held}
    kept = {"profiles": {"properties": ["first_seen", "models", "score_means", "traces"], "prefix": "llm_"}}
    held["profile", "$user"] = {"properties": {"plan": {"type": "string", "description": "Ours"}}}
    assert states(publish(shop(kept)))["$user"] == "changed"
    properties = held["profile", "$user"]["properties"]
    assert {name: said["type"] for name, said in properties.items()} == {
        "plan": "string", "llm_first_seen": "string", "llm_models": "array", "llm_score_means": "object",
        "llm_traces": "number",
    }  # fmt: skip
    assert properties["llm_first_seen"]["description"] == "Start of the first trace (UTC)."
    assert set(states(publish(shop(kept))).values()) == {"current"}


def test_what_people_keep_in_lexicon_stays(shop: Any, held: Any) -> None:
    publish(shop())
    schema = held["event", TRACE]
    wanted = schema["properties"]["langfuse_latency"]["description"]
    schema["metadata"] = {"com.mixpanel": {"displayName": "LLM trace", "tags": ["ai"]}}
    schema["properties"]["plan"] = {"type": "string", "description": "Ours"}
    schema["properties"]["langfuse_latency"] = {
        "type": "number", "description": "old", "metadata": {"com.mixpanel": {"displayName": "Latency"}},
    }  # fmt: skip
    held["event", "Sign up"] = {"description": "not ours"}
    found = publish(shop())
    assert [(item.event, item.properties) for item in found if item.state == "changed"] == [(TRACE, 1)]
    schema = held["event", TRACE]
    assert schema["metadata"] == {"com.mixpanel": {"displayName": "LLM trace", "tags": ["ai"]}}
    assert schema["properties"]["plan"] == {"type": "string", "description": "Ours"}
    latency = schema["properties"]["langfuse_latency"]
    assert latency["description"] == wanted
    assert latency["metadata"] == {"com.mixpanel": {"displayName": "Latency"}}
    assert held["event", "Sign up"] == {"description": "not ours"}
    assert set(states(publish(shop())).values()) == {"current"}


def test_a_comparison_writes_nothing(shop: Any, held: Any) -> None:
    with Lexicon(shop(), env=ENV) as lexicon:
        assert {item.state for item in lexicon.compare()} == {"new"}
    assert held == {}


def test_requests_stay_below_what_mixpanel_takes(shop: Any, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixpanel_lexicon, "MOST_AT_ONCE", 50)
    publish(shop())
    sent = uploads(app)
    assert sent > 1
    assert set(states(publish(shop())).values()) == {"current"}
    assert uploads(app) == sent


@pytest.mark.parametrize(
    ("mixpanel", "env", "said"),
    [
        ({"project_id": None}, {}, "Set MIXPANEL_PROJECT_ID"),
        ({"project_id": "7/../8"}, {}, "is not a number"),
        ({}, {"MIXPANEL_SERVICE_ACCOUNT": ""}, "MIXPANEL_SERVICE_ACCOUNT is not set"),
        ({}, {"MIXPANEL_SERVICE_ACCOUNT": "only-a-token"}, "does not hold a service account"),
        ({"service_account_env": "OTHER"}, {}, "OTHER is not set"),
    ],
)
def test_missing_and_wrong_settings_are_named(shop: Any, mixpanel: Any, env: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        publish(shop(mixpanel), **env)
    assert "only-a-token" not in str(raised.value)


def test_refusals_say_what_to_do_and_carry_no_secret(shop: Any, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    for account in ("sa:wrong", "viewer:v"):
        with pytest.raises(AuthenticationError, match="Owner or Admin"):
            publish(shop(), MIXPANEL_SERVICE_ACCOUNT=account)
    with pytest.raises(AuthenticationError, match="Invalid credentials"):
        publish(shop({"project_id": "8"}))
    app.state.faults.add(Fault(path="/api", status=200, body='{"results": "none"}'))
    with pytest.raises(ProtocolError, match="another form"):
        publish(shop())
    app.state.faults.add(Fault(path="/api", status=500, body=f"oops {PASSWORD}", times=None))
    with pytest.raises(ServiceUnavailable) as raised:
        publish(shop())
    assert PASSWORD not in str(raised.value) + caplog.text


def test_the_budget_per_minute_is_waited_for(shop: Any, app: Any, held: Any) -> None:
    app.state.faults.add(Fault(path="/api", status=429))
    slept: list[float] = []
    with Lexicon(shop(), env=ENV, retry=RetryPolicy(attempts=2, initial=5.0, jitter=0), sleep=slept.append) as lexicon:
        lexicon.publish(lexicon.compare())
    assert slept == [5.0]
    assert ("event", TRACE) in held
