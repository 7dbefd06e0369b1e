"""What settings do to events: filters, sampling, hashing of user ids, property lists."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lf_dagster.config import LANGFUSE_INTERNAL_ENVIRONMENTS
from lf_dagster.errors import ConfigError
from lf_dagster.events import event_models, property_names
from lf_dagster.events.filters import sample_share
from lf_dagster.hours import Hour
from tests.events.events import EventProject
from tests.warehouse.extracts import synthetic_row, v2_row, v3_score

HOUR = Hour.from_key("2026-11-21-05:00")
MakeProject = Callable[..., EventProject]

ROWS = [
    v2_row("prod", "t-1", "2026-11-21T05:00:00Z", environment="production", traceName="chat", tags=["a", "b"]),
    v2_row("judge", "t-2", "2026-11-21T05:00:00Z", environment="langfuse-llm-as-a-judge", traceName="judge"),
    v2_row("gen", "t-3", "2026-11-21T05:00:00Z", type="GENERATION", level="DEBUG", tags=["b"], traceName="job"),
]


def reasons(project: EventProject) -> dict[str, str | None]:
    """Skip reason by `kind entity`."""
    return {f"{row['kind']} {row['entity_id']}": row["skip_reason"] for row in project.prepared()}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"trace t-2": "environment", "observation judge": "environment"}),
        ({"exclude_environments": []}, {}),
        (
            {"environments": ["production"], "exclude_environments": []},
            {"trace t-2": "environment", "observation judge": "environment", "trace t-3": "environment",
             "observation gen": "environment", "generation gen": "environment"},
        ),
        ({"exclude_environments": [], "trace_names": ["chat", "judge"]},
         {"trace t-3": "trace_name", "observation gen": "trace_name", "generation gen": "trace_name"}),
        ({"exclude_environments": [], "exclude_trace_names": ["chat"]},
         {"trace t-1": "trace_name", "observation prod": "trace_name"}),
        ({"exclude_environments": [], "tags": ["a"]},
         {"trace t-2": "tag", "observation judge": "tag", "trace t-3": "tag", "observation gen": "tag",
          "generation gen": "tag"}),
        ({"exclude_environments": [], "exclude_tags": ["a", "x"]}, {"trace t-1": "tag", "observation prod": "tag"}),
        ({"exclude_environments": [], "observation_types": ["GENERATION"]},
         {"observation prod": "type", "observation judge": "type"}),
        ({"exclude_environments": [], "levels": ["DEFAULT"]},
         {"observation gen": "level", "generation gen": "level"}),
    ],
)  # fmt: skip
def test_filters_skip_with_their_reason(
    make_project: MakeProject, filters: dict[str, Any], expected: dict[str, str]
) -> None:
    project = make_project(mixpanel={"filters": filters}, observation_events=True)
    project.extract_v2(ROWS, [HOUR])
    project.run_all([HOUR])
    skipped = {key: reason for key, reason in reasons(project).items() if reason}
    assert skipped == {key: f"filtered:{reason}" for key, reason in expected.items()}


def test_filters_of_one_destination_leave_the_other_alone(make_project: MakeProject) -> None:
    project = make_project(mixpanel={"filters": {"trace_names": []}}, posthog={})
    project.extract_v2(ROWS, [HOUR])
    project.run_all([HOUR])
    assert all(row["skip_reason"] for row in project.prepared("mixpanel"))
    posthog = Counter(row["skip_reason"] for row in project.prepared("posthog", "v1"))
    assert posthog == {None: 3, "filtered:environment": 1}


def test_internal_environments_of_langfuse_are_not_sent_by_default(make_project: MakeProject) -> None:
    rows = [
        v2_row(f"o{number}", f"t{number}", "2026-11-21T05:00:00Z", environment=name)
        for number, name in enumerate([*LANGFUSE_INTERNAL_ENVIRONMENTS, "default"])
    ]
    project = make_project()
    project.extract_v2(rows, [HOUR])
    project.run_all([HOUR])
    sent = [row["entity_id"] for row in project.prepared() if row["skip_reason"] is None]
    assert sent == [f"t{len(LANGFUSE_INTERNAL_ENVIRONMENTS)}"]


def test_synthetic_rows_and_corrections_are_never_documented_events(make_project: MakeProject) -> None:
    rows = [synthetic_row("t1", "2026-11-21T05:00:00Z"), v2_row("a", "t1", "2026-11-21T05:00:00Z")]
    scores = [
        v3_score("fix", "2026-11-21T05:00:00Z", dataType="CORRECTION", name="output", value="secret text"),
        v3_score("odd", "2026-11-21T05:00:00Z", subject=None),
        v3_score("fine", "2026-11-21T05:00:00Z"),
    ]
    project = make_project(observation_events=True)
    project.extract_v2(rows, [HOUR], scores)
    project.run_all([HOUR])
    assert {key: reason for key, reason in reasons(project).items() if reason} == {
        "observation t-t1": "filtered:synthetic",
        "score fix": "filtered:correction",
        "score odd": "filtered:no_subject",
    }
    native = make_project(observation_events=True, compatibility="native")
    assert reasons(native)["observation t-t1"] is None
    assert reasons(native)["score fix"] == "filtered:correction"


def test_a_sample_keeps_whole_traces_and_grows_with_the_rate(make_project: MakeProject) -> None:
    rows = [
        v2_row(f"{trace}-{part}", f"trace-{trace}", "2026-11-21T05:00:00Z", type="GENERATION")
        for trace in range(200)
        for part in range(2)
    ]
    scores = [v3_score(f"s{trace}", "2026-11-21T05:00:00Z", trace_id=f"trace-{trace}") for trace in range(200)]
    kept: dict[float, set[str]] = {}
    for rate in (0.0, 0.3, 0.6, 1.0):
        project = make_project(mixpanel={"filters": {"sample_rate": rate}})
        if rate == 0.0:
            project.extract_v2(rows, [HOUR], scores)
            project.run_all([HOUR])
        prepared = project.prepared()
        kept[rate] = {row["entity_id"] for row in prepared if row["skip_reason"] is None and row["kind"] == "trace"}
        assert kept[rate] == {f"trace-{n}" for n in range(200) if sample_share(f"trace-{n}") < rate}
        for row in prepared:
            if row["kind"] != "trace":
                trace = f"trace-{row['entity_id'].removeprefix('s').split('-')[0]}"
                assert (row["skip_reason"] is None) == (trace in kept[rate])
    assert kept[0.0] < kept[0.3] < kept[0.6] < kept[1.0]
    assert 40 < len(kept[0.3]) < 80


@pytest.mark.parametrize(("destination", "protocol"), [("mixpanel", "import"), ("posthog", "batch"), ("posthog", "v1")])
@pytest.mark.parametrize("compatibility", ["documented", "native"])
def test_hashed_user_ids_leave_no_trace_of_the_id(
    make_project: MakeProject, destination: str, protocol: str, compatibility: str
) -> None:
    user = "jane.doe@example.com"
    project = make_project(
        compatibility=compatibility, observation_events=True, **{destination: {"hash_user_ids_env": "SALT"}}
    )
    rows = [{**row, "userId": user} for row in ROWS]
    project.extract_v2(rows, [HOUR], [v3_score("s", "2026-11-21T05:00:00Z", trace_id="t-1")])
    project.run_all([HOUR])
    digest = hashlib.sha256(f"pepper{user}".encode()).hexdigest()
    prepared = project.prepared(destination, protocol, salt="pepper")
    assert len(prepared) == 8
    for row in prepared:
        assert user not in json.dumps(row, default=str)
        assert "jane" not in row["payload"]
        assert "/users/" not in row["payload"]
        assert row["distinct_id"] == digest
        assert json.loads(row["payload"])["properties"]["langfuse_user_id"] == digest


def test_denied_ids_stay_denied_when_hashed(make_project: MakeProject) -> None:
    project = make_project(mixpanel={"hash_user_ids_env": "SALT"})
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z", userId="Anonymous")], [HOUR])
    project.run_all([HOUR])
    assert [row["distinct_id"] for row in project.prepared(salt="pepper")] == [""]


def test_hashing_without_a_salt_is_an_error(make_project: MakeProject) -> None:
    with pytest.raises(ConfigError, match="salt is empty"):
        make_project(mixpanel={"hash_user_ids_env": "SALT"}).prepared(salt=None)


def sent_properties(project: EventProject, destination: str, protocol: str) -> set[str]:
    [row] = project.prepared(destination, protocol, where="kind = 'trace' AND entity_id = 't-1'")
    return set(json.loads(row["payload"])["properties"])


def test_property_lists_never_lose_what_the_protocol_needs(make_project: MakeProject) -> None:
    only = {"properties": ["langfuse_id", "langfuse_cost_usd"]}
    project = make_project(mixpanel=only, posthog=only)
    project.extract_v2([{**row, "userId": "u", "sessionId": "s"} for row in ROWS], [HOUR])
    project.run_all([HOUR])
    assert sent_properties(project, "mixpanel", "import") == {
        "time", "distinct_id", "$insert_id", "$user_id", "ip", "langfuse_id", "langfuse_cost_usd",
    }  # fmt: skip
    assert sent_properties(project, "posthog", "batch") == {
        "langfuse_id", "langfuse_cost_usd", "$geoip_disable", "$lib", "$lib_version",
    }  # fmt: skip
    nothing = make_project(posthog={"properties": []}, mixpanel={"properties": []})
    assert sent_properties(nothing, "posthog", "v1") == {"$geoip_disable"}
    assert sent_properties(nothing, "mixpanel", "import") == {"time", "distinct_id", "$insert_id", "$user_id", "ip"}


def test_excluded_properties_are_gone(make_project: MakeProject) -> None:
    without = {"exclude_properties": ["langfuse_user_url", "langfuse_tags", "$set", "$session_id"]}
    project = make_project(posthog=without)
    project.extract_v2([{**row, "userId": "u", "metadata": {"$posthog_session_id": "x"}} for row in ROWS], [HOUR])
    project.run_all([HOUR])
    sent = sent_properties(project, "posthog", "batch")
    assert not sent & set(without["exclude_properties"])
    assert "langfuse_user_id" in sent
    [row] = project.prepared("posthog", "v1", where="kind = 'trace' AND entity_id = 't-1'")
    assert "session_id" not in json.loads(row["payload"])


def test_a_misspelt_property_is_an_error_with_a_suggestion(make_project: MakeProject) -> None:
    project = make_project(mixpanel={"exclude_properties": ["langfuse_cost"]})
    with pytest.raises(ConfigError, match=r"no event has a property 'langfuse_cost'\n.*langfuse_cost_usd"):
        project.prepared()
    assert "langfuse_score_value" in property_names("mixpanel", "documented")
    assert "lf_partition" not in property_names("posthog", "native")


def test_observation_events_exist_only_when_asked_for(make_project: MakeProject) -> None:
    project = make_project()
    project.extract_v2(ROWS, [HOUR])
    project.run_all([HOUR])
    assert {row["kind"] for row in project.prepared()} == {"trace", "generation"}
    assert [model.name for model in event_models(project.settings)] == [
        "trace_events", "generation_events", "score_events",
    ]  # fmt: skip
    more = make_project(observation_events=True)
    more.run_events([HOUR])
    assert Counter(row["kind"] for row in more.prepared()) == {"trace": 3, "generation": 1, "observation": 3}
