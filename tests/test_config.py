"""Settings: environment, precedence, readable refusals, no secrets."""

from __future__ import annotations

from typing import Any

import pytest

from lf_dagster.config import LANGFUSE_INTERNAL_ENVIRONMENTS, environment_settings, load_project, secret
from lf_dagster.errors import ConfigError

FULL = {
    "LANGFUSE_HOST": "https://lf.example/",
    "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    "LANGFUSE_SECRET_KEY": "sk-lf-very-secret",
    "LANGFUSE_START": "2026-11-01T05:00",
    "MIXPANEL_PROJECT_TOKEN": "mp-very-secret",
    "MIXPANEL_REGION": "EU",
    "POSTHOG_API_KEY": "phc_very-secret",
    "POSTHOG_HOST": "https://eu.i.posthog.com",
    "LF_DAGSTER_DATA": "lake",
    "LF_DAGSTER_COMPATIBILITY": "native",
    "LF_DAGSTER_READ_PATH": "legacy",
    "LF_DAGSTER_OBSERVATION_EVENTS": "1",
    "LF_DAGSTER_EXCLUDE_ENVIRONMENTS": "dev, staging",
}


def test_every_variable_reaches_its_setting():
    project = load_project({}, FULL)
    assert project.langfuse.host == "https://lf.example"
    assert project.langfuse.read_path == "legacy"
    assert project.start == "2026-11-01-05:00"
    assert project.data == "lake"
    assert project.compatibility == "native"
    assert project.event_kinds == ("trace", "generation", "score", "observation")
    assert project.mixpanel is not None
    assert project.mixpanel.region == "eu"
    assert project.posthog is not None
    assert project.posthog.host == "https://eu.i.posthog.com"
    for destination in project.destinations.values():
        assert destination.filters.exclude_environments == ("dev", "staging")


def test_settings_hold_no_secret():
    assert "very-secret" not in load_project({}, FULL).model_dump_json()


def test_nothing_set_means_langfuse_cloud_and_no_destination():
    project = load_project({}, {})
    assert project.langfuse.host == "https://cloud.langfuse.com"
    assert project.destinations == {}
    assert project.event_kinds == ("trace", "generation", "score")


def test_internal_environments_are_kept_back_unless_the_list_is_set_empty():
    keys = {"MIXPANEL_PROJECT_TOKEN": "x"}
    default, empty = load_project({}, keys), load_project({}, {**keys, "LF_DAGSTER_EXCLUDE_ENVIRONMENTS": ""})
    assert default.mixpanel is not None
    assert default.mixpanel.filters.exclude_environments == LANGFUSE_INTERNAL_ENVIRONMENTS
    assert empty.mixpanel is not None
    assert empty.mixpanel.filters.exclude_environments == ()


@pytest.mark.parametrize(
    ("explicit", "env", "host"),
    [
        (
            {"langfuse": {"host": "https://file.example"}},
            {"LANGFUSE_HOST": "https://env.example"},
            "https://file.example",
        ),
        ({}, {"LANGFUSE_HOST": "https://env.example", "LANGFUSE_BASE_URL": "https://b.example"}, "https://env.example"),
        ({}, {"LANGFUSE_BASE_URL": "https://b.example"}, "https://b.example"),
        ({}, {}, "https://cloud.langfuse.com"),
    ],
)
def test_file_wins_over_environment_over_default(explicit: dict[str, Any], env: dict[str, str], host: str):
    assert load_project(explicit, env).langfuse.host == host


def test_without_an_environment_only_explicit_values_count():
    assert load_project({"name": "shop"}, None).langfuse.host == "https://cloud.langfuse.com"


@pytest.mark.parametrize(
    ("explicit", "field"),
    [
        ({"langfuse": {"host": "cloud.langfuse.com"}}, "langfuse.host"),
        ({"langfuse": {"host": "https://langfuse.example.com:70000"}}, "langfuse.host"),
        ({"langfuse": {"page_size": 1001}}, "langfuse.page_size"),
        ({"langfuse": {"page_size": 0}}, "langfuse.page_size"),
        ({"name": "Shop Assistant"}, "name"),
        ({"start": "soon"}, "start"),
        ({"mixpanel": {"region": "mars"}}, "mixpanel.region"),
        ({"mixpanle": {}}, "mixpanle"),
        ({"compatibility": "exact"}, "compatibility"),
    ],
)
def test_a_wrong_value_is_refused_with_field_and_value(explicit: dict[str, Any], field: str):
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        load_project(explicit, None)


def test_a_missing_secret_is_named():
    with pytest.raises(ConfigError, match="environment variable ACME_KEY is not set"):
        secret("ACME_KEY", env={"ACME_KEY": "  "})
    assert secret("ACME_KEY", env={"ACME_KEY": " value "}) == "value"


def test_the_environment_alone_gives_plain_data():
    assert environment_settings({"MIXPANEL_HOST": "http://x", "LF_DAGSTER_DATA": ""}) == {"langfuse": {}}


def test_reconciling_is_set_by_variables_too():
    project = load_project(
        {},
        {
            "LF_DAGSTER_RECONCILE": "0",
            "LF_DAGSTER_HORIZON_HOURS": "72",
            "LF_DAGSTER_REVISIT_HOURS": "48, 6",
            "LF_DAGSTER_AUDIT_EVERY_HOURS": "4",
            "LF_DAGSTER_RUNS_IN_FLIGHT": "3",
            "LF_DAGSTER_GRACE_MINUTES": "5",
        },
    )
    assert project.reconcile.model_dump() == {
        "enabled": False,
        "horizon_hours": 72,
        "revisit_hours": (6, 48),
        "audit_every_hours": 4,
        "runs_in_flight": 3,
        "grace_minutes": 5,
    }
    assert load_project({}, {"LF_DAGSTER_REVISIT_HOURS": ""}).reconcile.revisit_hours == ()
    with pytest.raises(ConfigError, match="greater than 0"):
        load_project({}, {"LF_DAGSTER_REVISIT_HOURS": "0,3"})


def test_late_changes_at_a_destination_are_set_by_the_environment():
    env = {
        "MIXPANEL_PROJECT_TOKEN": "t",
        "MIXPANEL_HOLD_HOURS": "24",
        "MIXPANEL_ON_CHANGE": "keep",
        "POSTHOG_API_KEY": "phc_k",
        "POSTHOG_HOLD_HOURS": "48",
        "POSTHOG_ON_DELETE": "tombstone",
    }
    project = load_project({}, env)
    assert project.mixpanel is not None
    assert project.posthog is not None
    assert (project.mixpanel.hold_hours, project.mixpanel.on_change) == (24, "keep")
    assert (project.posthog.hold_hours, project.posthog.on_delete) == (48, "tombstone")
    with pytest.raises(ConfigError, match="hold_hours"):
        load_project({}, {**env, "POSTHOG_HOLD_HOURS": "721"})


def test_a_host_with_a_password_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match=r"langfuse\.host.*user or password") as caught:
        load_project({"langfuse": {"host": "https://someone:pass-word@lf.example"}}, None)
    assert "pass-word" not in str(caught.value)
