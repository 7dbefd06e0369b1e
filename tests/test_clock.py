"""The clock that tells which hours are due."""

from datetime import datetime, timezone

import pytest

from lf_dagster.clock import CLOCK_VARIABLE, utc_now


def test_without_a_file_now_is_now(monkeypatch):
    monkeypatch.delenv(CLOCK_VARIABLE, raising=False)
    before = datetime.now(timezone.utc)
    assert before <= utc_now() <= datetime.now(timezone.utc)


def test_a_file_says_what_time_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv(CLOCK_VARIABLE, str(tmp_path / "clock"))
    for text in ("2026-11-01T05:30:00+00:00", "2026-11-01T06:30:00+01:00"):
        (tmp_path / "clock").write_text(text + "\n")
        assert utc_now() == datetime(2026, 11, 1, 5, 30, tzinfo=timezone.utc)
        assert utc_now().tzinfo is timezone.utc


def test_a_time_without_zone_is_refused(monkeypatch, tmp_path):
    (tmp_path / "clock").write_text("2026-11-01T05:30:00")
    monkeypatch.setenv(CLOCK_VARIABLE, str(tmp_path / "clock"))
    with pytest.raises(ValueError, match="without zone"):
        utc_now()
