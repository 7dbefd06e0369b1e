"""docs/tables.md: the reference of tables and columns, generated from the models.

python -m lf_dagster.warehouse.docs > docs/tables.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lf_dagster.warehouse.models import AUDIT_COLUMNS, Column, Model, load_models

_INTRODUCTION = """# Tables

Generated from `lf_dagster/warehouse/models/` by `python -m lf_dagster.warehouse.docs`; do not edit.

Each project has a schema of its name in the warehouse, with these tables and views. Views are computed from the tables
at the moment of the query: they are always current and need no run. Inputs and outputs, and what is taken out of them,
are NULL unless the project reads content.

The views at the end, from `daily_usage` to `weekly_retention`, answer what is asked most. They are there in
`lf-dagster sql` ([docs/sql.md](sql.md)), not in the file.
"""

_APPS = {"dify": "Dify: [docs/dify.md](dify.md)", "librechat": "LibreChat: [docs/librechat.md](librechat.md)"}


def render() -> str:
    """The whole document."""
    return "\n".join([_INTRODUCTION, *_lines()]).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield "## Columns of every table\n"
    yield from _columns([Column(name, kind, text) for name, (kind, text) in AUDIT_COLUMNS.items()])
    yield "Views over many hours (sessions, users and the like) have none of them; the views of source apps have those"
    yield "of the row that theirs stands for.\n"
    for model in sorted((*load_models("typed"), *load_models("apps")), key=_place):
        yield from _model(model)
    for model in load_models("questions"):
        yield from _model(model)


def _place(model: Model) -> tuple[str, str]:
    return model.app or "", model.name


def _model(model: Model) -> Iterator[str]:
    yield f"## {model.name}\n"
    of_app = f" {_APPS.get(model.app, model.app)}." if model.app else ""
    yield f"{model.description} {model.kind.capitalize()}.{of_app}\n"
    yield from _columns([column for column in model.columns if column.name not in AUDIT_COLUMNS])


def _columns(columns: list[Column]) -> Iterator[str]:
    yield "| Column | Type | Unit | Meaning |"
    yield "|---|---|---|---|"
    for column in columns:
        kind = column.type.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        yield f"| `{column.name}` | {kind} | {column.unit or ''} | {column.description.replace('|', '&#124;')} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(render())
