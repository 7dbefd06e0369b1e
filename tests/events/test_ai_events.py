"""Events of PostHog's LLM analytics: what they say of the typed rows, and what they never say unasked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lf_dagster.cli.check import setting_lines
from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from lf_dagster.events import event_id
from lf_dagster.events.ids import llm_event_id
from lf_dagster.hours import Hour, hour_range
from lf_dagster.kinds import LLM_EVENTS
from lf_dagster.simulators.posthog.ai import trouble
from tests.events.events import EventProject
from tests.warehouse.apps.samples import extract, hours, merged, sample
from tests.warehouse.extracts import synthetic_row, v2_row, v3_score

HOUR = Hour.from_key("2026-11-21-05:00")
AT = "2026-11-21T05:00:00.000Z"
CALL = {"type": "GENERATION", "endTime": "2026-11-21T05:00:01.625Z", "model": "gpt-4o-mini"}


def loaded(
    folder: Path, rows: Sequence[Any], scores: Sequence[Any] = (), *, content: bool = False, **settings: Any
) -> EventProject:
    posthog = {"llm_analytics": "beside", **settings}
    project = EventProject(folder / "data", posthog=posthog, observation_events=True, langfuse={"content": content})
    project.extract_v2(rows, [HOUR], scores)
    project.run_all([HOUR])
    return project


def sent(project: EventProject, *kinds: str, protocol: str = "v1") -> dict[tuple[str, str], dict[str, Any]]:
    """Properties by kind and entity of the events that are sent."""
    rows = project.prepared("posthog", protocol, where="skip_reason IS NULL")
    return {
        (row["kind"], row["entity_id"]): json.loads(row["payload"])["properties"]
        for row in rows
        if row["kind"] in (kinds or LLM_EVENTS)
    }


def skipped(project: EventProject) -> dict[tuple[str, str], str]:
    rows = project.prepared("posthog", "v1", where="skip_reason IS NOT NULL")
    return {(row["kind"], row["entity_id"]): row["skip_reason"] for row in rows if row["kind"] in LLM_EVENTS}


# What is made


def test_they_are_made_for_posthog_alone_and_only_on_request(tmp_path: Path) -> None:
    rows = [v2_row("g1", "t1", AT, **CALL)]
    project = loaded(tmp_path, rows)
    assert not {row["kind"] for row in project.prepared("mixpanel", "import")} & set(LLM_EVENTS)
    off = EventProject(tmp_path / "off", posthog={}, mixpanel={})
    off.extract_v2(rows, [HOUR])
    off.run_all([HOUR])
    made = {row["table_name"] for row in off.query("SELECT table_name FROM information_schema.tables")}
    assert not [name for name in made if name.startswith("ai_")]
    assert {row["kind"] for row in off.prepared("posthog", "v1")} == {"trace", "generation"}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("llm_analytics: off", {"trace", "generation", "score"}),
        ("llm_analytics: beside", {"trace", "generation", "score", *LLM_EVENTS}),
        ("llm_analytics: instead", {*LLM_EVENTS}),
    ],
)
def test_the_option_says_what_posthog_is_sent(text: str, kinds: set[str]) -> None:
    settings = load_project({"posthog": yaml.safe_load(text), "mixpanel": {}})
    assert set(settings.kinds_for("posthog")) == kinds
    assert set(settings.kinds_for("mixpanel")) == {"trace", "generation", "score"}


def test_events_that_were_asked_for_by_name_stay() -> None:
    settings = load_project({"posthog": {"llm_analytics": "instead"}, "extra_events": ["session"]})
    assert "session" in settings.kinds_for("posthog")


def test_variables_turn_it_on_and_content_needs_to_be_read() -> None:
    env = {"POSTHOG_API_KEY": "phc_x", "POSTHOG_LLM_ANALYTICS": "beside", "POSTHOG_LLM_CONTENT": "1"}
    with pytest.raises(ConfigError, match=r"langfuse\.content"):
        load_project({}, env)
    settings = load_project({}, {**env, "LF_DAGSTER_CONTENT": "1"}).posthog
    assert settings is not None
    assert (settings.llm_analytics, settings.llm_content) == ("beside", True)


def test_check_shows_what_gave_them() -> None:
    posthog = {"llm_analytics": "beside", "llm_providers": {"gpt-4.1*": "openai", "gpt-4": "azure"}}
    lines = list(setting_lines(load_project({"posthog": posthog}), {}))
    assert "posthog.llm_analytics = beside (from Python)" in lines
    assert "posthog.llm_providers.gpt-4.1* = openai (from Python)" in lines


# Mapping


@pytest.fixture(scope="module", params=["v2", "legacy"])
def samples(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> EventProject:
    rows = merged(sample("dify"), sample("librechat"))
    folder = tmp_path_factory.mktemp("samples")
    project = EventProject(folder, posthog={"llm_analytics": "beside"}, observation_events=True)
    wanted = hour_range(hours(rows)[0], hours(rows)[-1].shift(2))
    extract(project, rows, request.param, wanted)
    project.run_all(wanted)
    return project


def _held(value: Any) -> Any:
    """A typed value as JSON has it."""
    return value if value is None or isinstance(value, (str, bool, int)) else float(value)


def test_calls_say_what_the_typed_rows_say(samples: EventProject) -> None:
    found = sent(samples, "ai_generation")
    rows = samples.query(
        "SELECT g.*, o.level, o.status_message, o.parent_observation_id, o.trace_session_id, o.source_app "
        "FROM generations g JOIN observations o USING (partition_hour, trace_id, observation_id)"
    )
    assert len(found) == len(rows) > 20
    for row in rows:
        said = found["ai_generation", row["observation_id"]]
        tokens = row["usage_unit"] == "tokens"
        parent = row["parent_observation_id"]
        is_root = parent is None or parent == f"t-{row['trace_id']}"
        expected = {
            "$ai_trace_id": row["trace_id"],
            "$ai_session_id": row["trace_session_id"],
            "$ai_span_id": row["observation_id"],
            "$ai_parent_id": row["trace_id"] if is_root else parent,
            "$ai_model": row["model"],
            "$ai_latency": row["latency_s"],
            "$ai_time_to_first_token": row["ttft_s"],
            "$ai_input_tokens": row["input_tokens"] if tokens else None,
            "$ai_output_tokens": row["output_tokens"] if tokens else None,
            "$ai_total_tokens": row["total_tokens"] if tokens else None,
            "$ai_reasoning_tokens": row["reasoning_tokens"],
            "$ai_cache_read_input_tokens": row["cache_read_tokens"],
            "$ai_input_cost_usd": row["cost_input"],
            "$ai_output_cost_usd": row["cost_output"],
            "$ai_total_cost_usd": row["cost_total"],
            "$ai_cost_passthrough": None if row["cost_total"] is None else True,
            "$ai_is_error": row["level"] == "ERROR",
            "$ai_prompt_name": row["prompt_name"],
            "$ai_stop_reason": row["finish_reason"],
            "$ai_framework": row["source_app"],
        }
        assert {name: said.get(name) for name in expected} == {name: _held(value) for name, value in expected.items()}


def test_traces_spans_and_scores_say_what_the_typed_rows_say(samples: EventProject) -> None:
    found = sent(samples)
    for row in samples.query("SELECT * FROM traces"):
        said = found["ai_trace", row["trace_id"]]
        assert (said["$ai_trace_id"], said.get("$ai_span_name"), said.get("$ai_session_id")) == (
            *(row["trace_id"], row["trace_name"], row["session_id"]),
        )
        assert said["$ai_is_error"] == (row["n_errors"] > 0)
        assert said.get("$ai_latency") == (row["duration_s"] if row["n_observations"] else None)
    others = samples.query("SELECT * FROM observations WHERE type <> 'GENERATION' AND NOT is_synthetic")
    assert len(others) > 50
    for row in others:
        said = found["ai_span", row["observation_id"]]
        assert (said["langfuse_type"], said["$ai_trace_id"]) == (row["type"], row["trace_id"])
        assert said.get("$ai_latency") == (row["latency_s"] if (row["latency_s"] or 0) >= 0 else None)
    scores = samples.query("SELECT * FROM scores")
    assert scores
    for row in scores:
        said = found["ai_metric", row["score_id"]]
        assert (said["$ai_metric_name"], said["$ai_metric_value"]) == (row["name"], str(row["value_bool"]).lower())
        assert said["langfuse_score_value"] == row["value_num"]
        assert found["ai_feedback", row["score_id"]]["$ai_feedback_text"] == row["comment"]


def test_all_of_them_are_what_posthog_knows(samples: EventProject) -> None:
    for protocol in ("v1", "batch"):
        rows = samples.prepared("posthog", protocol, where="skip_reason IS NULL AND kind LIKE 'ai_%'")
        assert {row["kind"] for row in rows} >= {"ai_trace", "ai_generation", "ai_span", "ai_metric", "ai_feedback"}
        for row in rows:
            assert row["wellformed"]
            event = json.loads(row["payload"])
            assert trouble(event["event"], event["properties"]) is None


def test_what_a_call_may_have(tmp_path: Path) -> None:
    usage = {"input": 100, "cache_read_input_tokens": 40, "output": 7, "output_reasoning_tokens": 3, "total": 150}
    call = {
        **CALL, "usageDetails": usage, "costDetails": {"input": 0.5, "output": 0.25, "total": 0.75}, "totalCost": 0.75,
        "completionStartTime": "2026-11-21T05:00:00.250Z", "parentObservationId": "root", "sessionId": "shop 7/ü",
        "modelParameters": {"temperature": 0.2, "max_tokens": 64}, "metadata": {"ls_provider": "azure"},
        "promptName": "greeting", "level": "ERROR", "statusMessage": "x" * 1500,
    }  # fmt: skip
    said = sent(loaded(tmp_path, [v2_row("root", "t1", AT), v2_row("g1", "t1", AT, **call)]))["ai_generation", "g1"]
    expected = {
        "$ai_latency": 1.625, "$ai_time_to_first_token": 0.25, "$ai_stream": True, "$ai_temperature": 0.2,
        "$ai_max_tokens": 64, "$ai_input_tokens": 140, "$ai_output_tokens": 10, "$ai_total_tokens": 150,
        "$ai_reasoning_tokens": 3, "$ai_cache_read_input_tokens": 40, "$ai_cache_reporting_exclusive": False,
        "$ai_input_cost_usd": 0.5, "$ai_output_cost_usd": 0.25, "$ai_total_cost_usd": 0.75,
        "$ai_cost_passthrough": True, "$ai_provider": "azure", "$ai_prompt_name": "greeting", "$ai_is_error": True,
        "$ai_error": "x" * 1000, "$ai_parent_id": "root", "$ai_span_name": "g1",
    }  # fmt: skip
    assert {name: said.get(name) for name in expected} == expected
    # Session ids have an alphabet of their own.
    assert uuid.UUID(said["$ai_session_id"]).version == 5
    assert (
        not [name for name in said if name.startswith(("$ai_input_state", "$ai_output"))] or said["$ai_output_tokens"]
    )


def test_tokens_and_costs_are_known_in_any_spelling(tmp_path: Path) -> None:
    usage = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 40, "total": 55}
    cost = {"inputTokens": 0.5, "cacheReadInputTokens": 0.25, "total": 0.75}
    call = {**CALL, "usageDetails": usage, "costDetails": cost}
    embedding = {**call, "type": "EMBEDDING"}
    said = sent(loaded(tmp_path, [v2_row("g1", "t1", AT, **call), v2_row("e1", "t1", AT, **embedding)]))
    names = ("$ai_input_tokens", "$ai_cache_read_input_tokens", "$ai_cache_reporting_exclusive", "$ai_input_cost_usd")
    assert [said["ai_generation", "g1"].get(name) for name in names] == [50, 40, False, 0.75]
    assert said["ai_embedding", "e1"]["$ai_input_cost_usd"] == 0.75


def test_a_zero_cost_is_one_and_an_unknown_one_is_left_to_posthog(tmp_path: Path) -> None:
    free = {**CALL, "costDetails": {"input": 0, "output": 0, "total": 0}, "totalCost": 0}
    found = sent(loaded(tmp_path, [v2_row("free", "t1", AT, **free), v2_row("unknown", "t1", AT, **CALL)]))
    said = found["ai_generation", "free"]
    assert [said[name] for name in ("$ai_input_cost_usd", "$ai_output_cost_usd", "$ai_total_cost_usd")] == [0, 0, 0]
    assert said["$ai_cost_passthrough"] is True
    assert not [name for name in found["ai_generation", "unknown"] if "cost" in name]


def test_other_observations_and_ids_outside_of_the_alphabet(tmp_path: Path) -> None:
    embedding = {"type": "EMBEDDING", "usageDetails": {"input": 9, "total": 9}, "model": "ada"}
    rows = [
        v2_row("e1", "t 1", AT, parentObservationId="t-t 1", **embedding),
        v2_row("s1", "t 1", AT, type="TOOL", endTime="2026-11-21T04:59:00Z"),
        v2_row("alone", "", AT, **CALL),
        synthetic_row("t 1", AT),
    ]
    project = loaded(tmp_path, rows)
    found = sent(project)
    trace = found["ai_trace", "t 1"]["$ai_trace_id"]
    assert uuid.UUID(trace).version == 5
    embedded = found["ai_embedding", "e1"]
    assert (embedded["$ai_input_tokens"], embedded["$ai_trace_id"], embedded["$ai_parent_id"]) == (9, trace, trace)
    assert "$ai_latency" not in found["ai_span", "s1"]  # it ended before it began
    assert found["ai_span", "s1"]["langfuse_type"] == "TOOL"
    alone = found["ai_generation", "alone"]
    assert alone["$ai_trace_id"] == "alone"
    assert "$ai_parent_id" not in alone
    assert skipped(project) == {("ai_span", "t-t 1"): "filtered:synthetic"}
    assert not [key for key in found if key[1] == "e1" and key[0] != "ai_embedding"]


def test_the_provider_is_the_known_one_else_the_configured_one(tmp_path: Path) -> None:
    rows = [
        v2_row("known", "t1", AT, **CALL, metadata={"attributes": {"gen_ai.system": "azure"}}),
        v2_row("configured", "t1", AT, **{**CALL, "model": "GPT-4o"}),
        v2_row("neither", "t1", AT, **{**CALL, "model": "mine"}),
    ]
    found = sent(loaded(tmp_path, rows, llm_providers={"gpt-*": "openai"}))
    providers = [found["ai_generation", name].get("$ai_provider") for name in ("known", "configured", "neither")]
    assert providers == ["azure", "openai", None]


def test_a_metric_is_text_and_never_looks_false(tmp_path: Path) -> None:
    scores = [
        v3_score("false", AT, dataType="BOOLEAN", value=False),
        v3_score("zero", AT, value=0),
        v3_score("half", AT, value=0.5),
        v3_score("category", AT, dataType="CATEGORICAL", value="good", comment="well done"),
        v3_score("remark", AT, dataType="TEXT", value="too slow"),
        v3_score("judge", AT, source="EVAL", value=3, comment="the judge's reasons"),
        v3_score("judge-text", AT, source="EVAL", dataType="TEXT", value="long"),
        v3_score("corrected", AT, dataType="CORRECTION", value="better"),
        v3_score("session", AT, subject={"kind": "session", "id": "s1"}, comment="all good"),
    ]
    project = loaded(tmp_path, [v2_row("root", "t1", AT)], scores)
    found = sent(project)
    metrics = {key[1]: said["$ai_metric_value"] for key, said in found.items() if key[0] == "ai_metric"}
    assert metrics == {"false": "false", "zero": "0", "half": "0.5", "category": "good", "judge": "3"}
    texts = {key[1]: said["$ai_feedback_text"] for key, said in found.items() if key[0] == "ai_feedback"}
    assert texts == {"category": "well done", "remark": "too slow"}
    assert found["ai_metric", "false"]["langfuse_score_value"] == 0
    assert skipped(project) == {
        ("ai_metric", "judge-text"): "filtered:no_metric",
        ("ai_metric", "corrected"): "filtered:correction",
        ("ai_metric", "session"): "filtered:no_trace",
        ("ai_feedback", "session"): "filtered:no_trace",
    }


# Users and ids


@pytest.mark.parametrize("salt", [None, "pepper"])
@pytest.mark.parametrize("compatibility", ["documented", "native"])
def test_both_events_of_a_row_have_one_user(tmp_path: Path, compatibility: str, salt: str | None) -> None:
    rows = [
        v2_row("known", "t1", AT, **CALL, userId="u-1"),
        v2_row("span", "t1", AT, userId="u-2"),
        v2_row("nobody", "t2", AT, **CALL),
        v2_row("refused", "t3", AT, **CALL, userId="anonymous"),
    ]
    scores = [v3_score("s1", AT), v3_score("s2", AT, trace_id="t2")]
    hashing = {"hash_user_ids_env": "SALT"} if salt else {}
    posthog = {"llm_analytics": "beside", **hashing}
    project = EventProject(
        tmp_path / "data", posthog=posthog, compatibility=compatibility, observation_events=True
    )  # fmt: skip
    project.extract_v2(rows, [HOUR], scores)
    project.run_all([HOUR])
    found = {(row["kind"], row["entity_id"]): row for row in project.prepared("posthog", "batch", salt=salt)}
    twins = {"ai_trace": "trace", "ai_generation": "generation", "ai_span": "observation", "ai_metric": "score"}
    compared = 0
    for (kind, entity), row in found.items():
        if kind not in twins:
            continue
        twin = found[twins[kind], entity]
        assert row["distinct_id"] == twin["distinct_id"]
        assert row["event_id"] == llm_event_id(row["event"], twin["event_id"]) != twin["event_id"]
        assert twin["event_id"] == event_id("posthog", "proj-lf", entity)
        ours, theirs = (json.loads(item["payload"])["properties"] for item in (row, twin))
        for name in ("$process_person_profile", "$set"):
            assert ours.get(name) == theirs.get(name)
        compared += 1
    assert compared == len([kind for kind, _ in found if kind.startswith("ai_")]) >= 9


def test_a_change_is_told_whatever_the_release_of_duckdb(tmp_path: Path) -> None:
    """Its trace view merges nothing: what is sent again without need shows twice."""
    rows = loaded(tmp_path, [v2_row("g1", "t1", AT, **CALL)]).prepared("posthog", "v1")
    hashes = {row["kind"]: row["payload_hash"] for row in rows}
    assert all(value.startswith("md5-") for kind, value in hashes.items() if kind in LLM_EVENTS)
    assert not hashes["generation"].startswith("md5-")


# Content

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is my parcel?"}]


def contents(project: EventProject) -> dict[str, tuple[Any, ...]]:
    names = ("$ai_input", "$ai_output_choices", "$ai_input_state", "$ai_output_state")
    return {key[1]: tuple(said.get(name) for name in names) for key, said in sent(project).items()}


def test_content_is_sent_on_request_alone(tmp_path: Path) -> None:
    rows = [
        v2_row("root", "t1", AT, isRootObservation=True, input="Where is my parcel?", output='{"text": "There."}'),
        v2_row("g1", "t1", AT, **CALL, input=json.dumps(MESSAGES), output="There."),
        v2_row("e1", "t1", AT, type="EMBEDDING", input='["a", "b"]', output="[0.1]"),
    ]
    silent = loaded(tmp_path, rows, content=True)
    assert set(contents(silent).values()) == {(None, None, None, None)}
    assert "parcel" not in json.dumps([row["payload"] for row in silent.prepared("posthog", "v1")])
    assert silent.query("SELECT count(*) AS n FROM ai_span_events WHERE ai_input_state IS NOT NULL") == [{"n": 0}]
    open_ = loaded(tmp_path, rows, content=True, llm_content=True)
    states = (None, None, "Where is my parcel?", {"text": "There."})
    assert contents(open_) == {
        "t1": states,
        "root": states,
        "g1": (MESSAGES, [{"role": "assistant", "content": "There."}], None, None),
        "e1": (["a", "b"], None, None, None),
    }
    # What the tables hold is not sent any more once it is turned off, before any hour is modelled again.
    again = EventProject(tmp_path / "data", posthog={"llm_analytics": "beside"}, langfuse={"content": True})
    assert set(contents(again).values()) == {(None, None, None, None)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [{"role": "user", "content": "plain"}]),
        ('{"messages": [{"role": "user", "content": "q"}]}', [{"role": "user", "content": "q"}]),
        ('{"role": "user", "content": "q"}', [{"role": "user", "content": "q"}]),
        ('{"choices": [{"message": {"role": "assistant", "content": "a"}}]}', [{"role": "assistant", "content": "a"}]),
        ('[{"role": "user"}, 3]', [{"role": "user", "content": '[{"role": "user"}, 3]'}]),
        ("[NaN]", [{"role": "user", "content": "[NaN]"}]),
        ("[1, 2", [{"role": "user", "content": "[1, 2"}]),
        ('[{"role": "user", "content": "\\ud83d\\ude00 NaN"}]', [{"role": "user", "content": "\U0001f600 NaN"}]),
        ('[{"role": "user", "content": NaN}]', [{"role": "user", "content": '[{"role": "user", "content": NaN}]'}]),
    ],
)
def test_any_input_becomes_messages(tmp_path: Path, text: str, expected: Any) -> None:
    project = loaded(tmp_path, [v2_row("g1", "t1", AT, **CALL, input=text)], content=True, llm_content=True)
    row = next(row for row in project.prepared("posthog", "v1") if row["kind"] == "ai_generation")
    event = json.loads(row["payload"], parse_constant=pytest.fail)
    assert event["properties"]["$ai_input"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ('["NaN", "[[["]', ["NaN", "[[["]),
        # Neither is for a strict reader: no JSON, and more levels than PostHog's parser takes.
        ("[1, -Infinity]", "[1, -Infinity]"),
        ('["\\ud83d"]', '["\\ud83d"]'),
        ("[" * 200 + "]" * 200, "[" * 200 + "]" * 200),
        ('[{"a": [[], {}]}, ' * 99 + "1" + "]" * 99, '[{"a": [[], {}]}, ' * 99 + "1" + "]" * 99),
    ],
)
def test_any_input_becomes_a_state(tmp_path: Path, text: str, expected: Any) -> None:
    project = loaded(tmp_path, [v2_row("s1", "t1", AT, input=text)], content=True, llm_content=True)
    row = next(row for row in project.prepared("posthog", "v1") if row["kind"] == "ai_span")
    event = json.loads(row["payload"], parse_constant=pytest.fail)
    assert event["properties"]["$ai_input_state"] == expected


@pytest.mark.parametrize("filler", ["x", "\x01", "ü", '"'])
def test_long_content_is_cut_and_said_to_be(tmp_path: Path, filler: str) -> None:
    rows = [v2_row("g1", "t1", AT, **CALL, input=filler * 1_000_000, output=filler * 1_000_000)]
    project = loaded(tmp_path, rows, content=True, llm_content=True)
    row = next(row for row in project.prepared("posthog", "v1") if row["kind"] == "ai_generation")
    assert len(row["payload"].encode()) < 900 * 1024
    said = json.loads(row["payload"])["properties"]
    [message] = said["$ai_input"]
    assert message["role"] == "user"
    assert len(message["content"]) >= 60_000
    assert set(message["content"]) == {filler}
    assert said["langfuse_truncated_properties"] == row["truncated"] == ["$ai_input", "$ai_output_choices"]


# Settings


def test_property_lists_apply_but_not_to_what_posthog_needs(tmp_path: Path) -> None:
    rows, scores = [v2_row("g1", "t1", AT, **CALL)], [v3_score("s1", AT, comment="well done")]
    said = sent(loaded(tmp_path, rows, scores, properties=["$ai_model"]))
    own = {"$ai_trace_id", "$ai_model", "$geoip_disable", "$process_person_profile"}
    assert set(said["ai_generation", "g1"]) <= own
    assert said["ai_metric", "s1"]["$ai_metric_value"] == "0.5"
    # Its text is the comment, which is not on the list.
    assert ("ai_feedback", "s1") not in said
    without = loaded(tmp_path, rows, scores, exclude_properties=["langfuse_score_comment", "$ai_metric_value"])
    assert skipped(without) == {("ai_metric", "s1"): "filtered:property", ("ai_feedback", "s1"): "filtered:property"}


def test_filters_apply(tmp_path: Path) -> None:
    rows = [v2_row("g1", "t1", AT, **CALL, level="DEBUG"), v2_row("s1", "t1", AT), v2_row("t", "t1", AT, type="TOOL")]
    project = loaded(tmp_path, rows, filters={"observation_types": ["TOOL"], "levels": ["DEFAULT"]})
    assert skipped(project) == {("ai_generation", "g1"): "filtered:level", ("ai_span", "s1"): "filtered:type"}
