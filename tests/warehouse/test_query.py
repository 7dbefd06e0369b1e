"""Questions in SQL: over the project's tables and the views for them, briefly, and answered in one sentence."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lf_dagster.errors import ConfigError, FatalError
from lf_dagster.hours import Hour
from lf_dagster.warehouse import load_models
from lf_dagster.warehouse.models import LEDGER_COLUMNS
from lf_dagster.warehouse.query import Heading, QueryStopped, Questions, Row, is_whole
from tests.warehouse.extracts import Project, v2_row, v3_score
from tests.warehouse.test_lock import held_by_another_process

HOUR, NEXT = Hour.from_key("2026-11-21-05:00"), Hour.from_key("2026-11-22-05:00")
FOREVER = "SELECT count(*) FROM range(100000000000) AS a(i), range(100000) AS b(j)"


def generation(id_: str, trace: str, at: str, seconds: int, **changes: Any) -> dict[str, Any]:
    end = f"{at[:17]}{int(at[17:19]) + seconds:02d}{at[19:]}"
    return v2_row(
        id_, trace, at, **{"type": "GENERATION", "endTime": end, "model": "gpt", "isRootObservation": True, **changes}
    )


ANSWER = {"promptName": "answer", "promptVersion": 2, "sessionId": "s1"}
ROWS = [
    generation(
        "g1", "t1", "2026-11-21T05:00:00Z", 1, userId="ada", **ANSWER,
        usageDetails={"input": 10, "output": 5, "total": 15}, costDetails={"total": 0.5}, totalCost=0.5,
    ),
    generation(
        "g2", "t2", "2026-11-21T05:10:00Z", 3, userId="bob", **ANSWER,
        usageDetails={"input": 20, "total": 20}, level="ERROR", statusMessage="too long",
    ),
    v2_row(
        "tool", "t2", "2026-11-21T05:10:01Z", type="TOOL", name="web", level="ERROR", endTime="2026-11-21T05:10:03Z"
    ),
    generation("g3", "t3", "2026-11-22T05:00:00Z", 9, userId="ada", model="claude", environment="staging"),
]  # fmt: skip
SCORES = [
    v3_score("s1", "2026-11-21T05:20:00Z", trace_id="t1", name="helpful", value=1.0),
    v3_score("s2", "2026-11-22T05:20:00Z", trace_id="t2", name="helpful", value=0.0),
    v3_score("s3", "2026-11-22T05:30:00Z", name="tone", dataType="CATEGORICAL", value="warm"),
]


@pytest.fixture
def shop(project: Project) -> Project:
    project.extract_v2(ROWS, [HOUR, NEXT], SCORES)
    project.run([HOUR, NEXT])
    return project


def ask(shop: Project, text: str, **options: Any) -> list[dict[str, Any]]:
    """Rows of the last result of a text."""
    found: list[dict[str, Any]] = []

    def take(headings: Sequence[Heading], rows: Iterator[Row]) -> None:
        found[:] = [dict(zip((heading.name for heading in headings), row, strict=True)) for row in rows]

    Questions(shop.settings, shop.lake, **options).run(text, take)
    return found


def test_tables_and_views_need_no_prefix(shop: Project) -> None:
    assert ask(shop, "SELECT count(*) AS n FROM observations") == [{"n": 4}]
    assert ask(shop, "SELECT n_traces FROM users WHERE user_id = 'ada'") == [{"n_traces": 2}]
    assert ask(shop, "CREATE TEMP TABLE t AS FROM traces; SELECT count(*) AS n FROM t") == [{"n": 3}]
    names = Questions(shop.settings, shop.lake).tables()
    assert {"traces", "users", "daily_usage", "deliveries"} <= set(names)
    assert names == sorted(names)


def test_every_question_can_be_asked_before_anything_was_delivered(shop: Project) -> None:
    for model in load_models("questions"):
        columns = Questions(shop.settings, shop.lake).columns(model.name)
        assert {column.name: column.type for column in columns} == model.schema
        ask(shop, f"FROM {model.name}")
    assert ask(shop, "FROM deliveries") == []


def test_what_the_questions_answer(shop: Project) -> None:
    [first, second] = ask(shop, "FROM daily_usage ORDER BY day")
    assert (str(first["day"]), first["environment"], second["environment"]) == ("2026-11-21", "default", "staging")
    assert (first["n_traces"], first["n_users"], first["n_sessions"], first["n_tool_calls"]) == (2, 2, 1, 1)
    assert (first["n_failed_traces"], first["error_rate"], first["total_tokens"]) == (1, 0.5, 35)
    assert float(first["total_cost"]) == 0.5
    usage = {row["model"]: row for row in ask(shop, "FROM model_usage")}
    assert (usage["gpt"]["n_calls"], usage["gpt"]["n_errors"], usage["gpt"]["latency_p50_s"]) == (2, 1, 2.0)
    assert usage["gpt"]["latency_p95_s"] == pytest.approx(2.9)
    assert (usage["claude"]["n_errors"], usage["claude"]["total_tokens"]) == (0, None)
    assert (usage["gpt"]["n_without_cost"], usage["claude"]["total_cost"]) == (1, None)
    active = ask(shop, "SELECT day::VARCHAR AS d, user_id, first_day::VARCHAR AS f FROM user_activity ORDER BY ALL")
    assert [tuple(row.values()) for row in active] == [
        ("2026-11-21", "ada", "2026-11-21"), ("2026-11-21", "bob", "2026-11-21"), ("2026-11-22", "ada", "2026-11-21"),
    ]  # fmt: skip
    [prompt] = ask(shop, "FROM prompt_usage")
    assert (prompt["n_calls"], prompt["n_scores"], prompt["score_means"]) == (2, 2, {"helpful": 0.5})
    tone = ask(shop, "FROM score_summary WHERE name = 'tone'")
    assert (tone[0]["n_by_category"], tone[0]["mean"]) == ({"warm": 1}, None)
    wrong = ask(shop, "SELECT observation_id, status_message FROM errors ORDER BY ALL")
    assert [row["observation_id"] for row in wrong] == ["g2", "tool"]
    [tool] = ask(shop, "FROM tool_usage")
    assert (tool["tool"], tool["n_errors"], tool["latency_p50_s"]) == ("web", 1, 2.0)
    assert [row["observation_id"] for row in ask(shop, "FROM slow_generations")] == ["g2"]


def test_the_number_that_the_legacy_api_gives_a_category_is_no_score_of_a_prompt(project: Project) -> None:
    trace = {"id": "t1", "timestamp": "2026-11-21T05:00:00Z", "tags": []}
    scored = {"timestamp": "2026-11-21T05:20:00Z", "traceId": "t1"}
    scores = [
        {"id": "s1", "name": "tone", "dataType": "CATEGORICAL", "value": 0, "stringValue": "warm", **scored},
        {"id": "s2", "name": "helpful", "dataType": "BOOLEAN", "value": 1, "stringValue": "True", **scored},
    ]
    project.extract_legacy([trace], ROWS[:1], [HOUR], scores)
    project.run([HOUR])
    [prompt] = ask(project, "FROM prompt_usage")
    assert (prompt["n_scores"], prompt["score_means"]) == (1, {"helpful": 1.0})


def test_retention_counts_the_weeks_of_a_cohort(project: Project) -> None:
    days = {"ada": ("11-02", "11-09", "11-16"), "bob": ("11-02", "12-14"), "eve": ("11-10",)}
    rows = [
        v2_row(f"{user}{day}", f"t-{user}-{day}", f"2026-{day}T05:00:00Z", userId=user, isRootObservation=True)
        for user, found in days.items()
        for day in found
    ]
    hours = sorted({Hour.from_key(f"2026-{day}-05:00") for found in days.values() for day in found})
    project.extract_v2(rows, hours)
    project.run(hours)
    found = ask(project, "FROM weekly_retention ORDER BY ALL")
    assert [(str(row["cohort_week"]), *list(row.values())[1:]) for row in found] == [
        ("2026-11-02", 0, 2, 2, 1.0), ("2026-11-02", 1, 1, 2, 0.5), ("2026-11-02", 2, 1, 2, 0.5),
        ("2026-11-02", 6, 1, 2, 0.5), ("2026-11-09", 0, 1, 1, 1.0),
    ]  # fmt: skip


def test_what_cannot_be_answered_is_said_in_one_line(shop: Project) -> None:
    for text, said in (
        ("SELECT * FROM trces", 'Table with name trces does not exist! Did you mean "traces"?'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1 / 0; SELECT 'x'::INT", "Could not convert string 'x'"),
        ("DELETE FROM traces", "The warehouse is only read here"),
    ):
        with pytest.raises(FatalError) as raised:
            ask(shop, text)
        assert said in str(raised.value)
        assert "\n" not in raised.value.message
        assert "LINE" not in str(raised.value)
    assert ask(shop, "SELECT count(*) AS n FROM traces") == [{"n": 3}]


def test_without_a_warehouse_or_rows_it_says_what_to_do(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist yet"):
        ask(project, "SELECT 1")
    with project.warehouse.connect():
        pass
    with pytest.raises(ConfigError, match="nothing of project demo yet"):
        ask(project, "SELECT 1")


def test_what_lies_around_the_query_is_said_in_one_line_too(shop: Project) -> None:
    with shop.warehouse.connect() as con:
        con.execute("ALTER TABLE warehouse.demo.observations DROP COLUMN level")  # a file of another version
    with pytest.raises(FatalError, match='Referenced column "level" not found'):
        ask(shop, "FROM errors")
    assert ask(shop, "SELECT n_traces FROM daily_usage ORDER BY day") == [{"n_traces": 2}, {"n_traces": 1}]
    Path(shop.warehouse.location).write_bytes(b"no database" * 1000)
    with pytest.raises(FatalError, match="not a valid DuckDB"):
        ask(shop, "SELECT 1")


def test_a_query_that_takes_too_long_is_stopped_and_lets_go(shop: Project) -> None:
    started = time.monotonic()
    with pytest.raises(QueryStopped, match=r"stopped after 0\.2 s"):
        ask(shop, FOREVER, timeout_seconds=0.2)
    with shop.warehouse.connect() as con:
        con.execute("CREATE TABLE warehouse.main.written (i INT)")
    assert time.monotonic() - started < 30


def test_ctrl_c_cancels_and_lets_go(shop: Project) -> None:
    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(QueryStopped, match="cancelled"):
        ask(shop, FOREVER)
    thread.join()
    assert ask(shop, "SELECT 1 AS one") == [{"one": 1}]


def test_nothing_holds_the_file_after_an_answer(shop: Project) -> None:
    questions = Questions(shop.settings, shop.lake)
    held: list[bool] = []

    def take(_headings: Sequence[Heading], rows: Iterator[Row]) -> None:
        held.append(list(rows) == [(3,)])

    for _ in range(2):
        questions.run("SELECT count(*) FROM traces", take)
        with shop.warehouse.connect() as con:  # a writer in between
            con.execute("CREATE OR REPLACE TABLE warehouse.main.written (i INT)")
    assert held == [True, True]


def test_it_waits_for_a_writer_and_says_for_whom(shop: Project) -> None:
    told: list[str] = []
    path = Path(shop.warehouse.location)
    with held_by_another_process(path, "write") as holder:

        def hear(who: str) -> None:
            told.append(who)
            assert holder.stdin is not None
            holder.stdin.write("\n")  # it lets go
            holder.stdin.flush()

        assert ask(shop, "SELECT 1 AS one", on_wait=hear) == [{"one": 1}]
        assert len(told) == 1
        assert f"is held by process {holder.pid} (" in told[0]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("SELECT 1;", True), ("SELECT 1; ", True), ("SELECT 1; -- so", True), ("SELECT 'é;';", True),
        ("SELECT 1", False), ("SELECT ';", False), ("SELECT 'a;'", False), ("SELECT 1 -- ;", False),
        ("SELECT /* ;", False), ("", False), ("SELECT $$;", False),
    ],
)  # fmt: skip
def test_a_text_is_whole_with_its_semicolon(text: str, whole: bool) -> None:
    assert is_whole(text) is whole


def test_the_ledger_has_the_columns_that_are_read() -> None:
    from lf_dagster.destinations.ledger import COLUMNS

    assert LEDGER_COLUMNS.keys() - {"destination"} <= set(COLUMNS)


def test_a_folder_whose_name_is_a_pattern_is_read_itself(tmp_path: Path) -> None:
    for name, rows in (("data1", ROWS[:1]), ("data[1]", ROWS)):
        project = Project(tmp_path / name)
        project.extract_v2(rows, [HOUR, NEXT])
        project.run([HOUR, NEXT])
        with project.lake.replacing(project.lake.ledger_path("demo", "mixpanel", HOUR)) as file:
            pq.write_table(_ledger_row(), file)
        assert ask(project, "SELECT count(*) AS n FROM observations") == [{"n": len(rows)}]
        assert ask(project, "SELECT count(*) AS n FROM deliveries") == [{"n": 1}]


def _ledger_row() -> pa.Table:
    from lf_dagster.destinations.ledger import LEDGER_SCHEMA

    row = {"partition_hour": HOUR.start, "event": "e", "event_id": "i", "status": "delivered", "written_at": HOUR.end}
    return pa.Table.from_pylist([{**dict.fromkeys(LEDGER_SCHEMA.names), **row}], LEDGER_SCHEMA)
