"""The bookkeeping of builds: written with the rows it speaks of, and telling what is behind."""

from __future__ import annotations

import re
from datetime import timedelta

import duckdb
import pytest

from lf_dagster.hours import Hour, hour_range, iso
from lf_dagster.warehouse import Build, builds_since, load_models, numbers_by_hour
from lf_dagster.warehouse.models import AUDIT_COLUMNS, staging_sql
from tests.warehouse.extracts import NOW, Project, hours_of, recorded, v2_row

H = Hour.from_key("2026-11-21-05:00")


def row(id_: str, hour: Hour, trace: str = "t", **changes: object) -> dict[str, object]:
    return v2_row(id_, trace, iso(hour.start), **changes)


def builds(project: Project, first: Hour = H, **options) -> dict[tuple[str, Hour], Build]:
    with project.warehouse.connect(read_only=True) as con:
        return {
            (build.layer, build.hour): build for build in builds_since(con, project.settings.name, first, **options)
        }


def test_a_run_records_what_it_was_built_from(project: Project):
    project.extract_v2([row("a", H)], [H])
    project.run([H])
    first = builds(project)["typed", H]
    assert (first.stale_since, first.built_at) == (None, NOW)
    project.run([H], now=NOW + timedelta(hours=1))
    second = builds(project)["typed", H]
    assert second.inputs == first.inputs
    assert second.build_id != first.build_id


def test_a_run_marks_the_hours_that_it_touched_and_their_rerun_takes_the_mark_away(project: Project):
    later = H.shift(1)
    hours = [H, later]
    project.extract_v2([row("root", H, userId="u1"), row("child", later)], hours)
    project.run([later])
    assert builds(project)["typed", later].stale_since is None
    touched = project.run([H]).touched_hours
    assert touched == {later}
    marked = builds(project)["typed", later].stale_since
    assert marked == NOW
    project.run([H], now=NOW + timedelta(hours=5))
    assert builds(project)["typed", later].stale_since == marked, "the first mark stays"
    project.run([later])
    assert builds(project)["typed", later].stale_since is None


def test_a_run_that_is_rolled_back_leaves_the_bookkeeping_as_it_was(project: Project, monkeypatch):
    project.extract_v2([row("a", H)], [H])
    project.run([H])
    before = builds(project)

    def broken(*_args, **_kwargs):
        raise duckdb.IOException("disk full")

    monkeypatch.setattr("lf_dagster.warehouse.typed.mark_stale", broken)
    with pytest.raises(duckdb.IOException):
        project.run([H])
    assert builds(project) == before


def test_older_hours_are_told_only_when_they_are_stale_or_behind(project: Project):
    hours = hour_range(H, H.shift(3))
    rows = [row(f"o{number}", hour, f"t{number}") for number, hour in enumerate(hours)]
    project.extract_v2(rows, hours)
    project.run(hours)
    last = hours[-1]
    assert {hour for _, hour in builds(project, last)} == set(hours), "their events were never made"
    with project.warehouse.connect() as con:
        con.execute(
            f"INSERT INTO warehouse.{project.settings.name}.model_hours BY NAME "
            f"SELECT 'events' AS layer, partition_hour, 'e' AS build_id, build_id AS inputs, built_at "
            f"FROM warehouse.{project.settings.name}.model_hours"
        )
    assert {hour for _, hour in builds(project, last)} == {last}
    assert {hour for _, hour in builds(project, last, others=[hours[0]])} == {last, hours[0]}
    project.run([hours[1]])
    assert {hour for _, hour in builds(project, last)} == {last, hours[1]}


def test_the_numbers_of_the_typed_tables_are_those_of_the_recorded_server(project: Project):
    rows = recorded()["v2_observations"]
    hours = hours_of(rows)
    project.extract_v2(rows, hours, recorded()["v3_scores"])
    project.run(hours)
    found = numbers_by_hour(project.warehouse, project.settings.name, hours)
    assert sum(numbers["observations"] for numbers in found.values()) == 1320
    assert sum(numbers["cost"] for numbers in found.values()) == pytest.approx(0.802981249991, abs=1e-12)
    kinds = [score["dataType"] for score in recorded()["v3_scores"]]
    for name, kind in (("numeric", "NUMERIC"), ("boolean", "BOOLEAN"), ("categorical", "CATEGORICAL")):
        assert sum(numbers.get(f"{name}_scores", 0) for numbers in found.values()) == kinds.count(kind)


def test_a_warehouse_without_tables_has_no_builds_and_no_numbers(project: Project):
    with project.warehouse.connect() as con:
        con.execute(f"CREATE SCHEMA warehouse.{project.settings.name}")
    assert builds(project) == {}
    assert numbers_by_hour(project.warehouse, project.settings.name, [H]) == {}


def test_a_run_compares_every_column_of_a_trace_to_tell_the_hours_that_it_touched():
    """One that is left out here would stay as it was in a trace whose rows changed in another hour."""
    [traces] = [model for model in load_models("typed") if model.name == "traces"]
    follow = {"trace_id", "duration_s", *AUDIT_COLUMNS}
    compared = set(re.findall(r"\bn\.(\w+)", staging_sql("stale_hours")))
    assert {column.name for column in traces.columns} - follow <= compared
