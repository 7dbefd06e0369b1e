"""Which read path a deployment serves, whose keys these are, and what is said when neither is clear."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from lf_dagster.errors import AuthenticationError, ConfigError, ProtocolError, ReadPathUnavailable
from lf_dagster.hours import iso
from lf_dagster.simulators.faults import HTML_LOGIN, Fault
from lf_dagster.simulators.langfuse import MODES, ApiKey, Limits, Mode, Project, Store
from lf_dagster.simulators.langfuse.rows import observation
from lf_dagster.source import ProjectInfo, explain_empty, newest_row_per_stream
from tests.source.conftest import HOUR, KEYS, Connect, Standin, World


def busy() -> World:
    return World().observation("o", 5).trace("t", 5).score("s", 5)


@pytest.mark.parametrize(
    ("mode", "read_path", "why"),
    [
        ("v3-legacy", "legacy", "does not run in a v4 write mode"),
        ("v4-legacy", "legacy", "does not run in a v4 write mode"),
        ("v4-legacy-with-opt-in", "legacy", "the server writes for the legacy API only"),
        ("v4-dual", "v2", "v2 observations are served"),
        ("v4-events_only", "v2", "the legacy API is not"),
        ("cloud-old-org", "v2", "v2 observations are served"),
        ("cloud-new-org", "v2", "the legacy API is not"),
        ("cloud-sunset", "v2", "the legacy API is not"),
    ],
)
def test_every_deployment_mode_is_recognised(standin: Standin, connect: Connect, mode: str, read_path: str, why: str):
    standin.use(busy(), mode=mode)
    source = connect().describe()
    assert source.read_path == read_path
    assert why in source.why
    assert source.server_version == MODES[mode].version
    assert source.project == ProjectInfo("proj-lf", "LF Project", "LF Org")


@pytest.mark.parametrize("mode", ["v4-dual", "v4-events_only", "cloud-new-org"])
def test_an_empty_project_on_a_v4_server_is_read_by_v2(standin: Standin, connect: Connect, mode: str):
    standin.use(World(), mode=mode)
    assert connect().describe().read_path == "v2"


def test_an_old_v3_server_with_the_beta_route_is_legacy(standin: Standin, connect: Connect):
    standin.use(busy(), mode=Mode("beta", "3.140.0", v2_observations="beta", v2_metrics=False))
    assert connect().describe().read_path == "legacy"


def test_a_v3_server_that_has_both_is_read_by_its_legacy_api(standin: Standin, connect: Connect):
    standin.use(busy(), mode=Mode("both", "3.200.0"))
    source = connect().describe()
    assert (source.read_path, source.why) == ("legacy", "server version 3.200.0 with its legacy API")


def test_a_server_that_stopped_writing_v2_rows_is_legacy(standin: Standin, connect: Connect):
    stale = World().observation("o", 5).trace("t", 20 * 3_600_000)
    standin.use(stale, mode=Mode("switched", "4.16.0", v2_metrics=False))
    assert connect().describe().read_path == "legacy"
    standin.use(stale, mode="v4-dual")
    assert connect().describe().read_path == "v2"


def test_a_spent_metrics_quota_still_tells_that_the_endpoint_exists(standin: Standin, connect: Connect, time: Any):
    stale = World().observation("o", 5).trace("t", 20 * 3_600_000)
    standin.use(stale, limits=Limits.of(1, 3600, bucket="public-api-v2-metrics"))
    assert connect().describe().read_path == "v2"
    assert time.slept == []


def test_fresh_v2_rows_need_no_further_requests(standin: Standin, connect: Connect):
    world = World()
    now = iso(datetime.now(timezone.utc))
    world.store.put_observation(observation(id="o", trace_id="t", start_time=now, project_id="proj-lf"))
    standin.use(world)
    assert connect().describe().why == "v2 observations are served and fresh"
    assert [item.path.removeprefix("/api/public/") for item in standin.requests()] == [
        "projects",
        "health",
        "v2/observations",
    ]


def test_a_read_path_in_the_settings_is_taken_without_a_look(standin: Standin, connect: Connect):
    standin.use(World(), mode="v4-events_only")
    source = connect(read_path="legacy").describe()
    assert (source.read_path, source.why) == ("legacy", "`read_path: legacy` in the settings")
    assert standin.requests("v2") == []


@pytest.mark.parametrize(
    "blocked",
    [
        Fault(status=403, body="no"),
        Fault.bad_gateway(),
        Fault.html_ok(),
        Fault(cut="before"),
        Fault(status=200, body="{", content_type="application/json"),
    ],
)
def test_a_blocked_health_endpoint_only_hides_the_version(standin: Standin, connect: Connect, blocked: Fault):
    standin.use(busy())
    standin.faults.add(replace(blocked, path="/api/public/health", times=None))
    source = connect().describe()
    assert source.server_version is None
    assert source.read_path == "v2"


def test_both_generations_missing_names_both_reasons(standin: Standin, connect: Connect):
    standin.use(World(), mode=Mode("none", "4.16.0", v2_observations="missing", legacy="events_only"))
    with pytest.raises(ReadPathUnavailable, match="neither") as caught:
        connect().describe()
    assert "v4 write mode" in str(caught.value)
    assert "events_only mode" in str(caught.value)


def test_wrong_keys_fail_at_once_with_the_four_hints(standin: Standin, connect: Connect, time: Any):
    env = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1234abcd", "LANGFUSE_SECRET_KEY": "sk-lf-wrong-secret"}
    with pytest.raises(AuthenticationError) as caught:
        connect(env).describe()
    text = str(caught.value)
    assert text.startswith("Authentication failed: Invalid API credentials")
    assert standin.origin.removeprefix("http://") in text
    assert "...abcd" in text
    assert "pk-lf-1234" not in text
    assert "sk-lf-wrong-secret" not in text
    for hint in ("begins with pk-lf-", "same project", "revoked", "`host`"):
        assert hint in text
    assert time.slept == []
    assert len(standin.requests()) == 1


def test_an_organization_key_is_told_apart_from_a_wrong_one(standin: Standin, connect: Connect):
    keys = (ApiKey(secret="sk-lf-local", level="organization"),)
    standin.use(Store(Project(keys=keys)))
    with pytest.raises(AuthenticationError, match="may not read the project") as caught:
        connect().describe()
    assert "not of the organization" in str(caught.value)


def test_missing_or_swapped_keys_are_named(connect: Connect):
    with pytest.raises(ConfigError, match="LANGFUSE_SECRET_KEY is not set"):
        connect({"LANGFUSE_PUBLIC_KEY": "pk-lf-x"})
    swapped = {"LANGFUSE_PUBLIC_KEY": "sk-lf-secret-part", "LANGFUSE_SECRET_KEY": "pk-lf-x"}
    with pytest.raises(ConfigError, match="swapped") as caught:
        connect(swapped)
    assert "secret-part" not in str(caught.value)


def test_a_login_page_instead_of_langfuse_is_explained(standin: Standin, connect: Connect):
    standin.faults.add(Fault(path="/api/public/projects", status=200, body=HTML_LOGIN, content_type="text/html"))
    with pytest.raises(ProtocolError, match="not a JSON answer") as caught:
        connect().describe()
    assert "login page" in str(caught.value)


def test_another_server_than_langfuse_is_no_read_path(standin: Standin, connect: Connect):
    standin.faults.add(Fault(path="/api/public/projects", status=404, body="<html>", content_type="text/html"))
    with pytest.raises(ReadPathUnavailable, match="no such API at this host"):
        connect().describe()


def test_a_projects_answer_of_another_shape_breaks_the_contract(standin: Standin, connect: Connect):
    for body in ('{"data":[]}', '{"data":[{"id":1}]}', "[]", '{"data":[{"id":"a","name":"b"},{"id":"c","name":"d"}]}'):
        standin.faults.add(Fault(path="/api/public/projects", status=200, body=body, content_type="application/json"))
        with pytest.raises(ProtocolError, match="not the one project of this key"):
            connect().describe()


def test_the_keys_appear_in_no_representation(connect: Connect):
    client = connect()
    shown = repr(client) + repr(client.settings) + repr(client.http)
    assert not re.search("|".join(KEYS.values()), shown)


def explained(
    connect: Connect, standin: Standin, world: World, mode: str = "v4-dual", **options: Any
) -> tuple[str, str]:
    standin.use(world, mode=mode)
    client = connect()
    found = explain_empty(client, options.pop("source", None), hours=[HOUR], **options)
    return found.reason, found.text


def test_an_empty_hour_is_explained(standin: Standin, connect: Connect):
    before, after = World().observation("o", -5000).trace("t", -5000), World().observation("o", 3_700_000)
    reason, text = explained(connect, standin, World())
    assert reason == "no_data_at_all"
    assert "'LF Project' (proj-lf)" in text
    reason, text = explained(connect, standin, before)
    assert reason == "data_before_window"
    assert "the last before is of 2025-08-21T05:59:55.000Z" in text
    assert explained(connect, standin, before, "v3-legacy")[0] == "data_before_window"
    reason, text = explained(connect, standin, after)
    assert reason == "data_after_window"
    assert "2025-08-21T07:01:40.000Z" in text
    both = World().observation("o", -5000).observation("p", 3_700_000)
    assert "again after it" in explained(connect, standin, both)[1]
    internal = World().observation("o", 5, environment="langfuse-llm-as-a-judge")
    reason, text = explained(connect, standin, internal)
    assert reason == "environment_filter"
    assert "langfuse-llm-as-a-judge" in text
    assert explained(connect, standin, internal, excluded_environments=())[0] == "has_data"
    assert explained(connect, standin, busy())[0] == "has_data"


def test_a_wrong_key_a_missing_generation_and_a_dead_host_are_explained_too(standin: Standin, connect: Connect):
    env = {**KEYS, "LANGFUSE_SECRET_KEY": "sk-lf-other"}
    assert explain_empty(connect(env), None, hours=[HOUR]).reason == "wrong_key"
    standin.use(busy(), mode="v3-legacy")
    forced = connect(read_path="v2")
    assert explain_empty(forced, forced.describe(), hours=[HOUR]).reason == "v2_unavailable"
    standin.use(busy(), mode="v4-events_only")
    forced = connect(read_path="legacy")
    found = explain_empty(forced, forced.describe(), hours=[HOUR])
    assert found.reason == "legacy_unavailable"
    assert "events_only mode" in found.text
    dead = connect(host="http://127.0.0.1:9")
    assert explain_empty(dead, None, hours=[HOUR]).reason == "unreachable"


@pytest.mark.parametrize(("mode", "streams"), [("v4-dual", 2), ("v3-legacy", 3)])
def test_every_endpoint_of_an_extract_is_tried_with_one_row(
    standin: Standin, connect: Connect, mode: str, streams: int
):
    standin.use(World().observation("o", 5).trace("t", 5), mode=mode)
    client = connect()
    newest = newest_row_per_stream(client, client.describe())
    assert len(newest) == streams
    assert newest.pop("scores") is None
    assert {iso(moment)[-9:] for moment in newest.values() if moment} == {"00:00.005Z"[-9:]}
    assert all("limit=1&" in f"{item.query}&" for item in standin.requests()[2:] if item.query)


def test_a_closed_endpoint_is_found_out_by_trying(standin: Standin, connect: Connect):
    standin.use(busy(), mode="v4-dual")
    client = connect()
    source = client.describe()
    standin.faults.add(Fault(path="/api/public/v3/scores", status=404, body="<html>", content_type="text/html"))
    with pytest.raises(ReadPathUnavailable) as caught:
        newest_row_per_stream(client, source)
    assert caught.value.context["endpoint"] == "GET v3/scores"
