"""What is known of the event tables without running or parsing them: `described.json`, written by `make docs`.

As with the models of the warehouse (`warehouse.described`): the file has a digest of everything that it was made from,
and is ignored when anything of that has changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from lf_dagster.warehouse import Model
from lf_dagster.warehouse.described import digest as warehouse_digest

_HERE = Path(__file__).parent
FILE = _HERE / "described.json"
_CODE = ("catalogue.py", "inputs.py", "llm.py", "tables.py")


def known() -> dict[str, Model] | None:
    """Every kind's table in catalogue order; None when the file is not about today's events."""
    held = _held()
    if held["digest"] != digest():
        return None
    return {kind: Model.of("events", facts) for kind, facts in held["events"].items()}


@functools.cache
def digest() -> str:
    """Of the catalogue, of what makes tables of it, and of the tables that those read."""
    found = hashlib.sha256(warehouse_digest().encode())
    for file in (*sorted(_HERE.glob("kinds/*.yaml")), *sorted(_HERE.glob("*.sql")), *(_HERE / name for name in _CODE)):
        found.update(f"\0{file.relative_to(_HERE).as_posix()}\0{file.read_text(encoding='utf-8')}".encode())
    return found.hexdigest()


@functools.cache
def _held() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"digest": "", "events": {}}


def render() -> str:
    """The file as it should be."""
    from lf_dagster.events.tables import describe_events  # which asks here first

    events = {kind: {"sql": model.sql, **model.described} for kind, model in describe_events().items()}
    return json.dumps({"digest": digest(), "events": events}, indent=1) + "\n"


def write() -> None:
    """Make the file what it should be."""
    FILE.write_text(render(), encoding="utf-8")
