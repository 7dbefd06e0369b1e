"""What is kept of the event tables is what they are; anything else is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lf_dagster.config import load_project
from lf_dagster.events import described, event_models, load_catalogue
from lf_dagster.events.tables import _models, describe_events


def test_the_file_is_about_today_s_events() -> None:
    assert described.FILE.read_text(encoding="utf-8") == described.render(), "run: make docs"
    assert described.known() == describe_events()
    assert list(describe_events()) == [event.kind for event in load_catalogue()]


def test_a_file_about_other_events_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "described.json"
    other.write_text(json.dumps({"digest": "of something else", "events": {}}))
    monkeypatch.setattr(described, "FILE", other)
    described._held.cache_clear()
    _models.cache_clear()
    try:
        assert described.known() is None
        settings = load_project({"name": "demo", "data": str(tmp_path)})
        assert [model.name for model in event_models(settings)] == ["trace_events", "generation_events", "score_events"]
    finally:
        monkeypatch.undo()
        described._held.cache_clear()
        _models.cache_clear()


def test_a_kind_is_found_in_whichever_file_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {event.kind: event for event in load_catalogue()}
    assert [load_catalogue([event.kind]) for event in every.values()] == [(event,) for event in every.values()]
    # As a new kind is, of whose name nobody told where it stands.
    monkeypatch.setattr("lf_dagster.events.catalogue._AGENTS", ())
    assert load_catalogue(["trace", "agent_run"]) == (every["trace"], every["agent_run"])
