"""LG-26: new keys of the same project change nothing; keys of another project are noticed before they do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.cli.check import check_project
from lf_dagster.simulators import langfuse
from tests.automation.rows import Life
from tests.automation.works import KEY, works


def test_lg26_rotated_keys_keep_history_and_a_foreign_key_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life().span("root", "07T10:05")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        assert shop.rerun("2026-09-07T10").success
        before = shop.posthog_events()
        assert before
        fresh = langfuse.ApiKey("pk-lf-fresh", "sk-lf-fresh")
        own = langfuse.Project(id="proj-lf", name="LF Project", keys=(fresh,))
        shop.store.project = own

        assert not shop.rerun("2026-09-07T10").success, "the old keys are revoked"
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", fresh.public)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", fresh.secret)
        assert shop.rerun("2026-09-07T10").success
        assert shop.posthog_events() == before
        assert all(check_project(shop.settings))
        assert "warns" not in capsys.readouterr().err

        shop.store.project = langfuse.Project(id="proj-other", name="Other", keys=(fresh,))
        assert all(check_project(shop.settings)), "a warning, not a failure"
        said = " ".join(capsys.readouterr().err.split())
        assert "These keys open the project Other (proj-other), but the hours held here are of" in said
        assert "LF Project (proj-lf)" in said
        assert not shop.rerun("2026-09-07T10").success, "nothing is mixed"
        assert shop.posthog_events() == before
        assert KEY.secret not in said
