"""Event tables, ids and the generated reference."""

from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.config import EXTRA_EVENTS
from lf_dagster.events import event_id, event_models, load_catalogue
from lf_dagster.events.docs import render
from lf_dagster.events.ids import event_digest_sql, event_id_sql
from lf_dagster.hours import Hour
from lf_dagster.kinds import LLM_EVENTS
from tests.events.events import EventProject
from tests.warehouse.extracts import hours_of, recorded

HOUR = Hour.from_key("2026-11-21-05:00")


@pytest.mark.parametrize(
    ("destination", "entity", "expected"),
    [
        ("mixpanel", "trace-1", "facb6810-ce0b-5b08-9d50-155bc268d566"),
        ("posthog", "trace-1", "98e6ed3e-de7c-53c4-9eb6-ad7e0614e01f"),
        ("mixpanel", "obs-1", "a997aee9-d74e-5de4-9953-26ce9654c782"),
        ("posthog", "obs-1", "18676913-6f6c-5a9c-a0e2-7e7c6b8094e4"),
        ("mixpanel", "score-1", "33de1c58-2aa4-5788-bfb1-199965246220"),
        ("posthog", "score-1", "a8b8ca6e-67ea-5126-87e4-cd412ec8a882"),
    ],
)
def test_event_ids_are_those_of_langfuse(destination, entity: str, expected: str) -> None:
    assert event_id(destination, "proj-1", entity) == expected


IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=40))
@settings(deadline=None, max_examples=30)
def test_sql_and_python_form_equal_event_ids(pairs: list[tuple[str, str]]) -> None:
    with duckdb.connect() as con:
        for project, entity in pairs:
            digest = event_digest_sql("posthog", project, "entity")
            [formed] = con.execute(
                f"SELECT {event_id_sql('digest')} FROM (SELECT {digest} AS digest FROM (SELECT ?::VARCHAR AS entity))",
                [entity],
            ).fetchone() or [None]
            assert formed == event_id("posthog", project, entity)
            assert uuid.UUID(formed).version == 5


@pytest.mark.slow
def test_a_rerun_of_the_events_gives_equal_rows(tmp_path: Path) -> None:
    project = EventProject(tmp_path, observation_events=True)
    rows = recorded()["v2_observations"]
    hours = hours_of(rows)
    project.extract_v2(rows, hours, recorded()["v3_scores"])
    project.run(hours)
    first = project.run_events(hours)
    names = [model.name for model in event_models(project.settings)]
    before = {name: project.table(name) for name in names}
    assert {name: sum(first.rows[name].values()) for name in names} == {
        "trace_events": 319, "generation_events": 153, "score_events": 235, "observation_events": 1320,
    }  # fmt: skip
    for hour in reversed(hours):
        project.run_events([hour], run_id="second")
    assert {name: project.table(name) for name in names} == before
    project.run_events([hours[0], hours[3]])
    assert {name: project.table(name) for name in names} == before


def test_events_before_any_typed_rows_are_empty(tmp_path: Path) -> None:
    run = EventProject(tmp_path).run_events([HOUR])
    assert run.rows == {name: {HOUR: 0} for name in ("trace_events", "generation_events", "score_events")}


def test_event_models_are_documented_and_know_their_lineage(tmp_path: Path) -> None:
    models = {model.name: model for model in event_models(EventProject(tmp_path, observation_events=True).settings)}
    assert models["generation_events"].depends_on == ("generations", "observations")
    assert models["score_events"].depends_on == ("scores",)
    assert models["trace_events"].lineage["langfuse_latency"] == [
        ("traces", "duration_s"),
        ("traces", "n_observations"),
    ]
    for model in models.values():
        assert all(column.description for column in model.columns)
        assert {"project_id", "partition_hour", "run_id", "event_kind", "entity_id"} <= set(model.schema)


def test_the_catalogue_names_every_event_for_both_destinations() -> None:
    events = load_catalogue()
    assert [event.kind for event in events[:4]] == ["trace", "generation", "score", "observation"]
    assert sorted(event.kind for event in events[4:]) == sorted((*EXTRA_EVENTS, *LLM_EVENTS))
    for event in events:
        assert set(event.names) == ({"posthog"} if event.is_llm else {"mixpanel", "posthog"})
        names = [item.name for item in event.properties]
        assert len(names) == len(set(names))
        own = ("langfuse_", "lf_", "$ai_") if event.is_llm else ("langfuse_", "lf_", "dify_", "librechat_", "timestamp")
        assert all(name.startswith(own) for name in names)


def test_the_reference_is_generated_from_the_catalogue() -> None:
    written = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    assert written == render(), "run: python -m lf_dagster.events.docs > docs/events.md"
