"""What is kept of the models' descriptions is what they are; anything else is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lf_dagster.warehouse import described, load_models
from lf_dagster.warehouse.models import describe_models


def test_the_file_is_about_today_s_models() -> None:
    assert described.FILE.read_text(encoding="utf-8") == described.render(), "run: make docs"
    for layer in ("typed", "apps"):
        assert load_models(layer) == describe_models(layer)


def test_a_file_about_other_models_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "described.json"
    other.write_text(json.dumps({"digest": "of something else", "layers": {"typed": []}}))
    monkeypatch.setattr(described, "FILE", other)
    for function in (described._held, load_models):
        function.cache_clear()
    try:
        assert load_models("typed") == describe_models("typed")
    finally:
        monkeypatch.undo()
        for function in (described._held, load_models):
            function.cache_clear()
