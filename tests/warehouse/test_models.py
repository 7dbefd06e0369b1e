"""Models are documented, and what is derived from their SQL is right."""

from __future__ import annotations

import pytest

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.warehouse import Model, load_models
from lf_dagster.warehouse.models import AUDIT_COLUMNS
from tests.warehouse.extracts import Project, v2_row

HOUR = Hour.from_key("2026-11-21-05:00")
MODELS = {model.name: model for model in load_models("typed")}


def test_the_typed_layer_has_its_tables_and_views() -> None:
    kinds = {name: model.kind for name, model in MODELS.items()}
    assert kinds == {
        **dict.fromkeys(("observations", "traces", "generations", "scores", "deletions"), "table"),
        **dict.fromkeys(("agents", "sessions", "users"), "view"),
    }


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_column_is_documented_and_typed(model: Model) -> None:
    assert model.description
    for column in model.columns:
        assert column.description, column.name
        assert column.type != "NULL", column.name
    if model.kind == "table":
        assert set(AUDIT_COLUMNS) <= set(model.schema)


def test_units_and_types_come_out_of_comments_and_sql() -> None:
    columns = {column.name: column for column in MODELS["observations"].columns}
    assert (columns["latency_s"].type, columns["latency_s"].unit) == ("DOUBLE", "s")
    assert columns["total_cost"].type == "DECIMAL(18,12)"
    assert columns["usage"].type == "MAP(VARCHAR, BIGINT)"
    assert columns["start_time"].type == "TIMESTAMP WITH TIME ZONE"


def test_dependencies_and_lineage_pass_through_staging() -> None:
    assert MODELS["observations"].depends_on == ("raw_observations", "raw_traces")
    assert MODELS["generations"].depends_on == ("raw_observations",)
    assert MODELS["scores"].depends_on == ("raw_observations", "raw_scores", "raw_traces")
    assert MODELS["sessions"].depends_on == ("traces",)
    assert MODELS["deletions"].depends_on == ("raw_observations", "raw_scores", "raw_traces")
    assert MODELS["observations"].lineage["observation_id"] == [("raw_observations", "id")]
    assert MODELS["scores"].lineage["comment"] == [("raw_scores", "json.comment")]
    assert ("raw_traces", "json.userId") in MODELS["traces"].lineage["user_id"]
    assert ("raw_observations", "json.userId") in MODELS["traces"].lineage["user_id"]
    assert ("raw_traces", "json.sessionId") not in MODELS["traces"].lineage["user_id"]
    assert MODELS["sessions"].lineage["total_cost"] == [("traces", "total_cost")]
    for model in MODELS.values():
        undetermined = {name for name, sources in model.lineage.items() if not sources}
        # count(*) and the name of a stream read no column.
        assert undetermined <= {"n_traces", "stream"}, model.name


def alter(project: Project, statement: str) -> None:
    with project.warehouse.connect() as con:
        con.execute(f"SET search_path = 'warehouse.{project.settings.name}'")
        con.execute(statement)


def test_a_changed_model_reshapes_its_table_and_keeps_other_hours(project: Project) -> None:
    later = HOUR.shift(1)
    project.extract_v2(
        [v2_row("a", "t1", "2026-11-21T05:00:00Z", userId="u"), v2_row("b", "t2", "2026-11-21T06:00:00Z", userId="u")],
        [HOUR, later],
    )
    project.run([HOUR, later])
    alter(project, "ALTER TABLE observations DROP COLUMN own_user_id")
    alter(project, "ALTER TABLE observations ADD COLUMN left_over INTEGER DEFAULT 1")
    alter(project, "ALTER TABLE traces ALTER COLUMN n_observations SET DATA TYPE INTEGER")
    run = project.run([HOUR])
    assert set(run.reshaped) == {"observations", "traces"}
    rows = {row["observation_id"]: row for row in project.table("observations")}
    assert (rows["a"]["own_user_id"], rows["b"]["own_user_id"]) == ("u", None)
    assert "left_over" not in rows["a"]
    assert project.run([HOUR]).reshaped == ()


def test_rows_that_do_not_fit_a_changed_type_say_what_to_do(project: Project) -> None:
    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z")], [HOUR])
    project.run([HOUR])
    alter(project, "ALTER TABLE traces ALTER COLUMN n_observations SET DATA TYPE VARCHAR")
    alter(project, "UPDATE traces SET n_observations = 'many'")
    with pytest.raises(ConfigError, match="Drop the table and rerun"):
        project.run([HOUR])


def test_views_work_for_somebody_who_opens_the_file_directly(project: Project) -> None:
    import duckdb

    project.extract_v2([v2_row("a", "t1", "2026-11-21T05:00:00Z", userId="u")], [HOUR])
    project.run([HOUR])
    with duckdb.connect(project.warehouse.location, read_only=True) as con:
        assert con.execute("SELECT user_id, n_traces FROM demo.users").fetchall() == [("u", 1)]
