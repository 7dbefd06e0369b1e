"""What is known of the models without running or parsing them: `described.json`, written by `make docs`.

Describing the models takes the better part of a second, in every process of every run. So what comes out of it is kept
in a file, with the digest of the model files that it was made from: when any of them is another one, or DuckDB is, the
file is ignored and everything is found out again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb

_HERE = Path(__file__).parent
FILE = _HERE / "described.json"
_MODELS = _HERE / "models"
_CODE = (_HERE / "models.py", _HERE / "lineage.py")


def known(layer: str) -> list[dict[str, Any]] | None:
    """Descriptions of the layer's models in dependency order; None when the file is not about today's models."""
    held = _held()
    return held["layers"].get(layer) if held["digest"] == digest() else None


@functools.cache
def digest() -> str:
    """Of all model files, and of what describes them."""
    found = hashlib.sha256(duckdb.__version__.encode())
    for file in (*sorted(_MODELS.rglob("*.sql")), *_CODE):
        found.update(f"\0{file.relative_to(_HERE).as_posix()}\0{file.read_text(encoding='utf-8')}".encode())
    return found.hexdigest()


@functools.cache
def _held() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"digest": "", "layers": {}}


def render() -> str:
    """The file as it should be."""
    from lf_dagster.warehouse.models import describe_models  # which asks here first

    layers = {layer: [model.described for model in describe_models(layer)] for layer in ("typed", "apps", "questions")}
    return json.dumps({"digest": digest(), "layers": layers}, indent=1) + "\n"


def write() -> None:
    """Make the file what it should be."""
    FILE.write_text(render(), encoding="utf-8")
