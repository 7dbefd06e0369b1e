"""How the warehouse's tables are stored: what is compressed how, and that it does not matter to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.warehouse import tables
from tests.warehouse.extracts import Project, hours_of, v2_row


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        v2_row(f"o{number:04}", f"t{number // 8}", "2026-11-21T05:00:00Z", name="step",
               parentObservationId=f"o{number // 8 * 8:04}" if number % 8 else None)
        for number in range(4000)
    ]  # fmt: skip


def compression(project: Project, column: str) -> set[str]:
    """How the texts of a column of `observations` are compressed."""
    found = project.query(
        "SELECT DISTINCT compression FROM pragma_storage_info('observations') "
        f"WHERE column_name = '{column}' AND segment_type = 'VARCHAR'"
    )
    return {row["compression"] for row in found}


def test_texts_that_differ_from_row_to_row_are_kept_without_a_dictionary(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    project = Project(tmp_path)
    project.extract_v2(rows, hours_of(rows))
    project.run(hours_of(rows))
    assert compression(project, "observation_id") == compression(project, "parent_observation_id") == {"ZSTD"}
    assert "ZSTD" not in compression(project, "type") | compression(project, "trace_id")


def test_a_file_whose_columns_are_compressed_otherwise_goes_on(
    tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Project(tmp_path / "old"), Project(tmp_path / "new")
    for project in (old, new):
        project.extract_v2(rows, hours_of(rows))
    with monkeypatch.context() as before:
        before.setattr(tables, "_UNLIKE", frozenset())
        old.run(hours_of(rows))
    assert "ZSTD" not in compression(old, "observation_id")
    assert old.run(hours_of(rows)).reshaped == ()
    new.run(hours_of(rows))
    assert old.table("observations") == new.table("observations")
