"""What the typed tables say about rows of all shapes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, hour_range
from tests.warehouse.extracts import Project, hours_of, moment, synthetic_row, v2_row, v3_score

H05, H06, H07 = (Hour.from_key(f"2026-11-21-0{number}:00") for number in (5, 6, 7))
HOURS = [H05, H06, H07]


def trace_of(project: Project, trace_id: str = "t1") -> dict[str, Any]:
    [row] = project.query(f"SELECT * FROM traces WHERE trace_id = '{trace_id}'")
    return row


def test_a_trace_across_the_hour_belongs_to_its_first_observation_and_counts_all(project: Project) -> None:
    project.extract_v2(
        [
            v2_row("root", "t1", "2026-11-21T05:59:59.000Z", endTime="2026-11-21T06:10:00.000Z", userId="u"),
            v2_row("gen", "t1", "2026-11-21T06:00:01.000Z", type="GENERATION", parentObservationId="root",
                   usageDetails={"input": 3, "output": 4, "total": 7}, costDetails={"input": 0.1, "total": 0.30000001}),
            v2_row("late", "t1", "2026-11-21T07:30:00.000Z", level="ERROR", parentObservationId="gen"),
        ],
        HOURS,
    )  # fmt: skip
    run = project.run(HOURS)
    assert {hour.key: count for hour, count in run.rows["traces"].items() if count} == {H05.key: 1}
    trace = trace_of(project)
    assert (trace["n_observations"], trace["n_generations"], trace["n_errors"]) == (3, 1, 1)
    assert (trace["input_tokens"], trace["output_tokens"], trace["total_tokens"]) == (3, 4, 7)
    assert trace["total_cost"] == Decimal("0.30000001")
    assert trace["ended_at"] == moment("2026-11-21T07:30:00Z")
    assert trace["duration_s"] == pytest.approx(90 * 60 + 1)
    depths = {row["observation_id"]: row["depth"] for row in project.query("SELECT * FROM observations")}
    assert depths == {"root": 0, "gen": 1, "late": 2}


def test_children_get_user_session_and_tags_of_their_trace_and_keep_their_own(project: Project) -> None:
    project.extract_v2(
        [
            v2_row("root", "t1", "2026-11-21T05:00:00.000Z", userId="u", sessionId="s", tags=["b", "a"],
                   traceName="chat", release="r1", metadata={"$posthog_session_id": "ph", "$mixpanel_session_id": 42}),
            v2_row("child", "t1", "2026-11-21T05:00:01.000Z", parentObservationId="root", tags=["c"], userId="other"),
        ],
        [H05],
    )  # fmt: skip
    project.run([H05])
    [child] = project.query("SELECT * FROM observations WHERE observation_id = 'child'")
    assert (child["user_id"], child["own_user_id"], child["trace_user_id"]) == ("other", "other", "u")
    assert (child["session_id"], child["own_session_id"]) == ("s", None)
    assert (child["tags"], child["own_tags"]) == (["a", "b", "c"], ["c"])
    assert (child["trace_name"], child["own_trace_name"]) == ("chat", None)
    assert (child["release"], child["own_release"]) == ("r1", None)
    assert child["trace_posthog_session_id"] == "ph"
    assert (child["own_mixpanel_session_id"], child["trace_mixpanel_session_id"]) == (None, "42")


@pytest.mark.parametrize(
    ("rows", "kind", "root"),
    [
        pytest.param(
            [v2_row("a", "t1", "2026-11-21T05:00:03Z"), v2_row("b", "t1", "2026-11-21T05:00:02Z")],
            "physical", "b", id="earliest of two rows without parent",
        ),
        pytest.param(
            [v2_row("a", "t1", "2026-11-21T05:00:01Z", parentObservationId="gone", isRootObservation=True),
             v2_row("b", "t1", "2026-11-21T05:00:00Z", parentObservationId="a")],
            "app_root", "a", id="flagged root whose parent is not in Langfuse",
        ),
        pytest.param(
            [v2_row("a", "t1", "2026-11-21T05:00:01Z", parentObservationId="gone", isRootObservation=True),
             v2_row("b", "t1", "2026-11-21T05:00:02Z")],
            "physical", "b", id="a row without parent before a flagged one",
        ),
        pytest.param(
            [synthetic_row("t1", "2026-11-21T05:30:00Z", name="trace"), v2_row("a", "t1", "2026-11-21T05:00:00Z",
             parentObservationId="t-t1")],
            "synthetic", "t-t1", id="synthetic row even when it starts late",
        ),
        pytest.param([v2_row("a", "t1", "2026-11-21T05:00:00Z", parentObservationId="gone")], "none", None, id="none"),
    ],
)  # fmt: skip
def test_the_root_of_a_trace(project: Project, rows: list[dict[str, Any]], kind: str, root: str | None) -> None:
    project.extract_v2(rows, [H05])
    project.run([H05])
    trace = trace_of(project)
    assert (trace["root_kind"], trace["root_observation_id"]) == (kind, root)
    assert trace["is_orphan"] is (kind == "none")


def test_a_synthetic_row_is_no_observation_and_gives_the_trace_its_time_and_name(project: Project) -> None:
    project.extract_v2(
        [
            synthetic_row("t1", "2026-11-21T06:00:00.500Z", name="checkout", userId="new", tags=["x"]),
            v2_row("a", "t1", "2026-11-21T05:59:00.000Z", parentObservationId="t-t1", userId="old", traceName="before"),
        ],
        [H05, H06],
    )
    run = project.run([H05, H06])
    assert run.rows["traces"] == {H05: 1, H06: 0}
    trace = trace_of(project)
    assert (trace["n_observations"], trace["trace_name"], trace["user_id"]) == (1, "checkout", "new")
    assert trace["started_at"] == moment("2026-11-21T05:59:00Z")
    assert trace["timestamp"] == moment("2026-11-21T06:00:00.500Z")
    synthetic = {r["observation_id"]: r["is_synthetic"] for r in project.query("SELECT * FROM observations")}
    assert synthetic == {"t-t1": True, "a": False}


def test_a_synthetic_row_alone_is_a_trace_without_observations(project: Project) -> None:
    project.extract_v2([synthetic_row("t1", "2026-11-21T05:10:00.000Z", name="empty")], [H05])
    project.run([H05])
    trace = trace_of(project)
    assert (trace["n_observations"], trace["duration_s"], trace["total_cost"]) == (0, 0, None)
    assert trace["started_at"] == trace["timestamp"] == moment("2026-11-21T05:10:00Z")


def test_unset_is_null_and_zero_cost_without_details_is_unknown(project: Project) -> None:
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z", totalCost=0, input="", output=None)], [H05])
    project.run([H05])
    [row] = project.query("SELECT * FROM observations")
    unset = ("user_id", "session_id", "version", "release", "status_message", "model", "prompt_name", "trace_name",
             "total_cost", "latency_s", "ttft_s", "end_time", "model_parameters", "input", "output")  # fmt: skip
    # the trace takes its name from the root when nobody names it
    assert {name: row[name] for name in unset} == {**dict.fromkeys(unset), "trace_name": "a"}
    assert (row["usage"], row["cost"], row["environment"]) == ([], [], "default")


def test_unknown_enum_values_other_types_and_missing_or_extra_keys_are_read(project: Project) -> None:
    odd = {
        "id": "odd", "traceId": "t1", "startTime": "2026-11-21T05:00:00Z", "type": "QUANTUM", "level": "FATAL",
        "name": 17, "tags": [1, None, "x"], "usageDetails": {"input": "12", "output": 7.6, "total": 5_000_000_000},
        "costDetails": {"total": "0.5"}, "metadata": "no object", "promptVersion": "three", "novelKey": {"a": [1]},
        "providedModelName": "m-1", "endTime": "not a time", "isRootObservation": "yes?",
    }  # fmt: skip
    project.extract_v2([odd], [H05], [v3_score("s", "2026-11-21T05:00:00Z", dataType="STARS", value="5", source="X")])
    assert project.run([H05]).problems == ()
    [row] = project.query("SELECT * FROM observations")
    assert (row["type"], row["level"], row["name"], row["tags"]) == ("QUANTUM", "FATAL", "17", ["1", "x"])
    assert dict(row["usage"]) == {"input": 12, "output": 8, "total": 5_000_000_000}
    assert (row["total_cost"], row["model"], row["metadata"]) == (Decimal("0.5"), "m-1", "{}")
    assert (row["prompt_version"], row["end_time"]) == (None, None)
    [score] = project.query("SELECT * FROM scores")
    assert (score["data_type"], score["value_num"], score["value_str"], score["source"]) == ("STARS", 5.0, "5", "X")


def test_a_row_that_cannot_be_read_is_reported_and_the_others_are_kept(project: Project) -> None:
    good = v2_row("good", "t1", "2026-11-21T05:00:00Z")
    dear = v2_row("dear", "t1", "2026-11-21T05:00:01Z", costDetails={"total": 2_000_000.0})
    project.extract_v2(['{"id": "raw-0", "traceId"', good, "null", dear], [H05], ["[]"])
    run = project.run([H05])
    assert [(p.stream, p.hour, p.id, p.reason, p.kept) for p in run.problems] == [
        ("observations", H05, "dear", "a cost beyond DECIMAL(18, 12)", True),
        ("observations", H05, "raw-0", "malformed JSON", False),
        ("observations", H05, "raw-2", "malformed JSON", False),
        ("scores", H05, "raw-0", "malformed JSON", False),
    ]
    ids = {row["observation_id"]: row["total_cost"] for row in project.query("SELECT * FROM observations")}
    assert ids == {"good": None, "dear": None}


def test_half_an_emoji_in_a_text_loses_that_character_alone(project: Project) -> None:
    text = '{"id": "raw-0", "traceId": "t1", "name": "cut \\ud83d here", "metadata": {"k": "\\\\ud83d \\ude00"}}'
    project.extract_v2([text], [H05])
    assert project.run([H05]).problems == ()
    [row] = project.query("SELECT name FROM observations")
    assert row["name"] == "cut \ufffd here"


def test_generations_spell_tokens_and_costs_out(project: Project) -> None:
    usage = {"input": 100, "input_cached_tokens": 40, "output": 20, "output_reasoning": 5, "cache_creation_tokens": 2}
    project.extract_v2(
        [
            v2_row("g", "t1", "2026-11-21T05:00:00Z", type="GENERATION", endTime="2026-11-21T05:00:02Z",
                   completionStartTime="2026-11-21T05:00:00.250Z", usageDetails=usage, model="gpt",
                   costDetails={"input": 0.001, "output": 0.002, "total": 0.003}),
            v2_row("p", "t1", "2026-11-21T05:00:00Z", type="GENERATION", costDetails={"total": 0.5}),
            v2_row("n", "t1", "2026-11-21T05:00:00Z", type="GENERATION", costDetails={"input": 0.1, "audio": 1}),
        ],
        [H05],
    )  # fmt: skip
    project.run([H05])
    rows = {row["observation_id"]: row for row in project.query("SELECT * FROM generations")}
    g = rows["g"]
    assert (g["input_tokens"], g["output_tokens"], g["total_tokens"]) == (140, 25, 167)
    assert (g["cache_read_tokens"], g["cache_write_tokens"], g["reasoning_tokens"]) == (40, 2, 5)
    assert (g["cost_total"], g["cost_source"]) == (Decimal("0.003"), "langfuse")
    assert (g["latency_s"], g["ttft_s"], g["tokens_per_s"]) == (2.0, 0.25, 12.5)
    assert (rows["p"]["cost_source"], rows["p"]["input_tokens"]) == ("provided", None)
    assert (rows["n"]["cost_total"], rows["n"]["cost_input"]) == (None, Decimal("0.1"))


def test_keys_of_usage_and_cost_are_known_in_any_spelling(project: Project) -> None:
    usage = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 40, "cacheWriteInputTokens": 8}
    cost = {"inputTokens": 0.5, "OutputTokens": 0.25, "cacheReadInputTokens": 0.125, "total": 0.875}
    row = v2_row(
        "g", "t1", "2026-11-21T05:00:00Z", type="GENERATION", costDetails=cost,
        usageDetails={**usage, "outputReasoningTokens": 2, "total": 65},
    )  # fmt: skip
    project.extract_v2([row], [H05])
    project.run([H05])
    [g] = project.query("SELECT * FROM generations")
    assert (g["input_tokens"], g["output_tokens"], g["total_tokens"]) == (58, 7, 65)
    assert (g["cache_read_tokens"], g["cache_write_tokens"], g["reasoning_tokens"]) == (40, 8, 2)
    assert (g["cost_input"], g["cost_output"], g["cost_total"]) == (Decimal("0.625"), Decimal("0.25"), Decimal("0.875"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataType": "BOOLEAN", "value": True}, (1.0, True, "True")),
        ({"dataType": "BOOLEAN", "value": False}, (0.0, False, "False")),
        ({"dataType": "CATEGORICAL", "value": "good"}, (None, None, "good")),
        ({"dataType": "TEXT", "value": "remark"}, (None, None, "remark")),
        ({"dataType": "NUMERIC", "value": 3}, (3.0, None, None)),
    ],
)
def test_score_values_by_type(project: Project, changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    project.extract_v2([], [H05], [v3_score("s", "2026-11-21T05:00:00Z", **changes)])
    project.run([H05])
    [score] = project.query("SELECT value_num, value_bool, value_str FROM scores")
    assert tuple(score.values()) == expected


def test_score_subjects_are_told_apart(project: Project) -> None:
    subjects = {
        "of-trace": {"kind": "trace", "id": "t1"},
        "of-observation": {"kind": "observation", "id": "o1", "traceId": "t1"},
        "of-session": {"kind": "session", "id": "s1"},
        "of-experiment": {"kind": "experiment", "id": "e1"},
    }
    rows = [v3_score(id_, "2026-11-21T05:00:00Z", subject=subject) for id_, subject in subjects.items()]
    project.extract_v2([v2_row("o1", "t1", "2026-11-21T05:00:00Z", userId="u")], [H05], rows)
    project.run([H05])
    found = {row["score_id"]: row for row in project.query("SELECT * FROM scores")}
    keys = ("subject_kind", "trace_id", "observation_id", "session_id", "experiment_id", "trace_user_id")
    assert {id_: tuple(row[key] for key in keys) for id_, row in found.items()} == {
        "of-trace": ("trace", "t1", None, None, None, "u"),
        "of-observation": ("observation", "t1", "o1", None, None, "u"),
        "of-session": ("session", None, None, "s1", None, None),
        "of-experiment": ("experiment", None, None, None, "e1", None),
    }


@pytest.mark.parametrize(("days", "found"), [(29, "u"), (31, None)])
def test_a_score_finds_its_trace_within_thirty_days(project: Project, days: int, found: str | None) -> None:
    late = Hour(H05.start).shift(days * 24)
    project.extract_v2([v2_row("o1", "t1", "2026-11-21T05:00:00Z", userId="u")], [H05])
    project.extract_v2([], [late], [v3_score("s", late.start.isoformat())])
    project.run([H05])
    project.run([late])
    [score] = project.query("SELECT trace_user_id FROM scores")
    assert score["trace_user_id"] == found


def test_ids_of_sessions_taken_from_metadata_are_text_or_integers(project: Project) -> None:
    values = {"text": "s-9", "integer": 12345, "float": 1e5 + 0.5, "flag": True, "object": {"a": 1}, "empty": ""}
    rows = [
        v2_row(name, name, "2026-11-21T05:00:00Z", metadata={"$mixpanel_session_id": value})
        for name, value in values.items()
    ]
    project.extract_v2(rows, [H05])
    project.run([H05])
    found = project.query("SELECT observation_id, own_mixpanel_session_id AS id FROM observations")
    assert {row["observation_id"]: row["id"] for row in found if row["id"]} == {"text": "s-9", "integer": "12345"}


def test_an_observation_in_a_circle_of_parents_has_no_depth(project: Project) -> None:
    project.extract_v2(
        [
            v2_row("a", "t1", "2026-11-21T05:00:00Z", parentObservationId="b"),
            v2_row("b", "t1", "2026-11-21T05:00:00Z", parentObservationId="a"),
            v2_row("self", "t1", "2026-11-21T05:00:00Z", parentObservationId="self"),
            v2_row("orphan", "t1", "2026-11-21T05:00:00Z", parentObservationId="gone"),
        ],
        [H05],
    )
    project.run([H05])
    depths = {row["observation_id"]: row["depth"] for row in project.query("SELECT * FROM observations")}
    assert depths == {"a": None, "b": None, "self": None, "orphan": 0}


def test_a_finish_reason_is_what_the_writer_left_in_metadata(project: Project) -> None:
    left: dict[str, tuple[dict[str, Any], str | None]] = {
        "plain": ({"finish_reason": "stop"}, "stop"),
        "span": ({"attributes.gen_ai.response.finish_reasons": ["length"]}, '["length"]'),
        "both": ({"attributes.gen_ai.response.finish_reasons": "length", "finish_reason": "stop"}, "stop"),
        "a word alone": ({"note": "finish_reason"}, None),
        "none": ({"step": 1}, None),
    }
    at = "2026-11-21T05:00:00Z"
    project.extract_v2(
        [v2_row(name, name, at, type="GENERATION", metadata=given) for name, (given, _) in left.items()], [H05]
    )
    project.run([H05])
    found = project.query("SELECT observation_id, finish_reason FROM generations")
    assert {row["observation_id"]: row["finish_reason"] for row in found} == {
        name: reason for name, (_, reason) in left.items()
    }


def test_depth_counts_the_ancestors_that_lie_within_two_days_of_the_row(project: Project) -> None:
    start = datetime(2026, 11, 21, 5, tzinfo=timezone.utc)
    chain = [
        v2_row(f"n{number}", "t1", (start + timedelta(hours=20 * number)).isoformat().replace("+00:00", "Z"),
               parentObservationId=f"n{number - 1}" if number else None)
        for number in range(6)
    ]  # fmt: skip
    # The same id in another trace is somebody else's.
    others = [
        synthetic_row("t2", "2026-11-21T05:30:00Z"),
        v2_row("top", "t2", "2026-11-21T05:40:00Z", parentObservationId="t-t2"),
        v2_row("n0", "t2", "2026-11-21T06:10:00Z", parentObservationId="top"),
    ]
    hours = hours_of([*chain, *others])
    project.extract_v2([*chain, *others], hours)
    found = []
    for runs in ([hours], [[hour] for hour in hours]):
        for run in runs:
            project.run(run)
        rows = project.query("SELECT trace_id, observation_id, depth FROM observations")
        found.append({(row["trace_id"], row["observation_id"]): row["depth"] for row in rows})
    expected = {("t1", f"n{number}"): min(number, 2) for number in range(6)}
    expected |= {("t2", "t-t2"): 0, ("t2", "top"): 0, ("t2", "n0"): 1}
    assert found == [expected, expected]


def test_views_of_sessions_and_users_follow_the_traces(project: Project) -> None:
    project.extract_v2(
        [
            v2_row("a", "t1", "2026-11-21T05:00:00Z", userId="u", sessionId="s", traceName="chat"),
            v2_row("b", "t2", "2026-11-21T05:10:00Z", userId="u", sessionId="s", traceName="TitleRun"),
            v2_row(
                "c",
                "t3",
                "2026-11-21T05:20:00Z",
                userId="tenant",
                name="generate_conversation_name",
                traceName="generate_conversation_name",
                metadata={"conversation_id": "c", "tenant_id": "tenant"},
            ),
        ],
        [H05],
    )
    project.run([H05])
    [session] = project.query("SELECT * FROM sessions")
    assert (session["n_traces"], session["n_turns"], session["user_ids"]) == (2, 1, ["u"])
    users = {row["user_id"]: row for row in project.query("SELECT * FROM users")}
    assert (users["u"]["n_traces"], users["u"]["is_tenant_id"]) == (2, False)
    assert users["tenant"]["is_tenant_id"] is True


def test_an_hour_without_extract_is_an_error_that_names_it(project: Project) -> None:
    project.extract_v2([], [H05])
    with pytest.raises(ConfigError, match=r"no extract of observations for 2026-11-21-06:00"):
        project.run([H05, H06])
    project.extract("observations", [], [H06])
    with pytest.raises(ConfigError, match=r"no extract of scores for 2026-11-21-06:00"):
        project.run([H05, H06])


def test_a_legacy_hour_needs_its_traces(project: Project) -> None:
    project.extract("observations", [], [H05], read_path="legacy")
    project.extract("scores", [], [H05], read_path="legacy")
    with pytest.raises(ConfigError, match="no extract of traces"):
        project.run([H05])


def test_empty_hours_are_zero_rows_not_missing(project: Project) -> None:
    hours = hour_range(H05, H07)
    project.extract_v2([], hours)
    run = project.run(hours)
    assert set(run.rows) == {"observations", "traces", "generations", "scores", "deletions"}
    assert all(counts == dict.fromkeys(hours, 0) for counts in run.rows.values())


def test_two_projects_in_one_database_do_not_meet(tmp_path: Path) -> None:
    first, second = Project(tmp_path, name="one"), Project(tmp_path, name="two")
    first.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z")], [H05])
    second.extract_v2([], [H05])
    first.run([H05])
    second.run([H05])
    assert (len(first.table("observations")), len(second.table("observations"))) == (1, 0)
