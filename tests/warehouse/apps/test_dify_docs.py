"""docs/dify.md shows what its queries really give; docs/tables.md lists what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.config import EXTRA_EVENTS
from lf_dagster.warehouse import load_models
from lf_dagster.warehouse.docs import render
from tests.warehouse.apps.samples import READ_PATHS, loaded, sample

DOCS = Path(__file__).parents[3] / "docs"
_QUERY = re.compile(r"```sql\n(?P<sql>.*?)```\n\n(?P<table>(?:\|[^\n]*\|\n)+)", re.DOTALL)


def as_table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(f"|{'|'.join(line)}|\n" if line[0] == "---" else f"| {' | '.join(line)} |\n" for line in lines)


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_the_queries_give_what_the_page_shows(read_path: str, tmp_path: Path) -> None:
    found = list(_QUERY.finditer((DOCS / "dify.md").read_text(encoding="utf-8")))
    assert len(found) == 3
    project = loaded(tmp_path, sample("dify"), read_path)
    for query in found:
        assert as_table(project.query(query["sql"])) == query["table"]


def test_the_page_names_every_table_and_event() -> None:
    page = (DOCS / "dify.md").read_text(encoding="utf-8")
    tables = {model.name for model in load_models("apps") if model.app == "dify"}
    kinds = {kind for kind in EXTRA_EVENTS if kind.startswith("dify_")}
    assert set(re.findall(r"^\| `(dify_\w+)` \|", page, re.MULTILINE)) == tables | kinds


def test_the_reference_of_tables_is_current() -> None:
    written = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert written == render(), "run: python -m lf_dagster.warehouse.docs > docs/tables.md"
