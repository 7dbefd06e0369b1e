"""LG-02: testing the connection says what answers, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.cli.check import check_project
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.langfuse import MODES, Limits
from lf_dagster.source import inspect_deployment
from tests.automation.rows import Life
from tests.automation.works import works
from tests.source.conftest import Connect, Standin, World


@pytest.mark.parametrize(
    ("mode", "write_mode", "why", "served"),
    [
        ("v3-legacy", "legacy", "v2 observations are not served", {"legacy"}),
        ("v4-legacy", "legacy", "v2 observations are not served", {"legacy"}),
        ("v4-legacy-with-opt-in", "legacy", "v2 metrics are not served", {"v2", "legacy"}),
        ("v4-dual", "dual", "both APIs are served", {"v2", "legacy"}),
        ("v4-events_only", "events_only", "the server says so", {"v2"}),
        ("cloud-new-org", "unknown", "the legacy API is closed", {"v2"}),
        ("cloud-sunset", "unknown", "the legacy API is closed", {"v2"}),
    ],
)
def test_lg02_the_write_mode_is_guessed_from_what_is_served(
    standin: Standin, connect: Connect, mode: str, write_mode: str, why: str, served: set[str]
) -> None:
    standin.use(World().observation("o", 5).trace("t", 5), mode=mode)
    found = inspect_deployment(connect())
    assert (found.write_mode, {path for path, error in found.served.items() if error is None}) == (write_mode, served)
    assert why in found.why


def test_lg02_what_cannot_be_found_out_is_unknown_and_no_failure(standin: Standin, connect: Connect) -> None:
    standin.use(World().observation("o", 5)).faults.add(Fault(path="/api/public/traces", status=500, times=None))
    found = inspect_deployment(connect())
    assert found.write_mode == "unknown"
    assert "the server failed (500)" in (found.served["legacy"] or "")
    standin.use(World().observation("o", 5), limits=Limits.of(1, 3600, bucket="public-api-v2-metrics"))
    assert inspect_deployment(connect()).write_mode == "dual", "a spent quota belongs to an endpoint that exists"


def test_lg02_check_names_the_project_tries_each_endpoint_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life().span("root", "07T10:05").score("s", "07T10:06", 1.0)
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        assert check_project(shop.settings) == [True, True, True]
        said = " ".join(capsys.readouterr().out.split())
        assert f"Connection successful: project LF Project (proj-lf) at {shop.settings.langfuse.host}" in said
        assert f"Langfuse {MODES['v4-dual'].version}, read path v2" in said
        assert "Newest rows: observations 2026-09-07T10:05:00.000Z, scores 2026-09-07T10:06:00.000Z" in said
        assert "Read paths: v2 works, legacy works" in said
        assert "Write mode of the server, a guess: dual" in said
        one_row = [item for item in shop.langfuse.state.faults.requests("/api/") if "limit=" in item.query]
        assert all("limit=1&" in f"{item.query}&" for item in one_row)
        assert {item.path for item in one_row} >= {"/api/public/v2/observations", "/api/public/v3/scores"}
        assert shop.mixpanel_events() == shop.posthog_events() == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clock"], "no lake, no warehouse"


def test_lg02_an_endpoint_that_is_closed_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Life().span("root", "07T10:05")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        shop.langfuse.state.faults.add(Fault(path="/api/public/v3/scores", status=404, body="<html>", times=None))
        assert check_project(shop.settings) == [False, True, True]
    assert "GET v3/scores" in capsys.readouterr().err
