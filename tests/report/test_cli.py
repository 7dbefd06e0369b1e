"""`lf-dagster report`: a file, or one sentence about why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.cli import main
from tests.report.conftest import Shop
from tests.report.page import Page
from tests.warehouse.extracts import hours_of, v2_row


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped project with a trace on each of two days; it is the second day's noon."""
    rows = [v2_row(f"o{day}", f"t{day}", f"2026-11-{day}T10:00:00.000Z", isRootObservation=True) for day in (20, 21)]
    shop = Shop(tmp_path / "data", name="langfuse")
    shop.extract_v2(rows, hours_of(rows))
    shop.run(hours_of(rows))
    clock = tmp_path / "clock"
    clock.write_text("2026-11-21T12:00:00+00:00")
    monkeypatch.setenv("LF_DAGSTER_CLOCK", str(clock))
    monkeypatch.setenv("LF_DAGSTER_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Runs the command line in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["lf-dagster", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_it_writes_the_days_that_were_asked_for(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    arguments = ["--project", "langfuse", "--from", "2026-11-20", "--to", "2026-11-21", "--out", "out/two.html"]
    assert call(monkeypatch, *arguments) == 0
    assert capfd.readouterr().out == "langfuse: 2 of 48 hours are in the warehouse: out/two.html\n"
    assert Page((data / "out" / "two.html").read_text()).figures["traces"] == 2
    assert call(monkeypatch, "--from", "2026-11-21", "-o", "one.html") == 0
    assert Page((data / "one.html").read_text()).figures["traces"] == 1


def test_without_options_it_is_what_the_daily_report_would_be_today(data: Path, monkeypatch: pytest.MonkeyPatch):
    assert call(monkeypatch) == 0
    file = data / "langfuse-2026-10-25-2026-11-21.html"
    assert "2026-10-25 to 2026-11-21" in Page(file.read_text()).text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "yesterday"], "not a day: 'yesterday'"),
        (["--from", "2026-11-22", "--to", "2026-11-21"], "is before the first day 2026-11-22"),
        (["--from", "2025-01-01", "--to", "2026-11-21"], "690 days are too many for a report"),
        (["--from", "2026-11-21", "--out", "clock/x.html"], "cannot write clock/x.html"),
        (["--project", "nope"], "no project 'nope'"),
    ],
)
def test_a_wrong_call_is_answered_in_one_sentence(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    assert call(monkeypatch, *arguments) == 1
    error = capfd.readouterr().err.replace("\n", " ")
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("folder", "said"), [("none", "does not exist yet"), ("other", "has no tables of langfuse yet")]
)
def test_a_project_that_was_never_run_has_no_report(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: str, said: str
):
    if folder == "other":
        other = Shop(data / folder, name="other")
        hours = hours_of([v2_row("o", "t", "2026-11-20T10:00:00.000Z")])
        other.extract_v2([], hours)
        other.run(hours)
    monkeypatch.setenv("LF_DAGSTER_DATA", str(data / folder))
    assert call(monkeypatch) == 1
    assert said in capfd.readouterr().err.replace("\n", " ")
