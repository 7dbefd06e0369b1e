"""The bench measures every leg, counts what arrives, and says what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.results import Figure, Results
from bench.running import PEERS, REPOSITORY, Facts, run_leg, serving
from bench.worlds import World, build_store

HOUR = "2026-11-20-06:00"
OUT = ("results.json", "RESULTS.md", "growth.png")


def figures(folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    parts = json.loads((folder / "results.json").read_text())["parts"]
    found = [figure for part in parts.values() for figure in part["figures"]]
    return {(figure["part"], figure["shape"], figure["leg"]): figure for figure in found}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_quick_bench_writes_every_part_and_every_leg(tmp_path: Path):
    command = [sys.executable, "-m", "bench", "--quick", "--no-peers", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path)
    legs = {"extract", "model", "extract + model", "ship mixpanel", "ship posthog"}
    for shape in ("default", "24 small hours", "large metadata"):
        assert {leg for part, of, leg in found if (part, of) == ("legs", shape)} == legs
    assert found["legs", "default", "extract"]["rows"] >= 20_000
    assert {part for part, _, _ in found} == {"legs", "whole", "fixed", "backfill", "history"}
    for key, figure in found.items():
        assert figure["rows"] > 0, key
        assert figure["wall_seconds"]["median"] > 0, key
        if key[0] != "fixed":
            assert figure["cpu_seconds"]["median"] > 0, key
            assert figure["peak_mb"]["median"] > 50, key
    table = (tmp_path / "RESULTS.md").read_text()
    assert all(f"| {leg} |" in table for leg in (*legs, "whole", "launch to success"))
    assert [name for name in OUT if not (tmp_path / name).exists()] == []


def facts(rows: int, wall: float, cpu: float = 1.0, peak: float = 100.0) -> Facts:
    return Facts(rows, wall, cpu, peak)


def test_ratios_are_of_medians_and_per_row(tmp_path: Path):
    ours = [facts(1000, 9.0), facts(1000, 2.0, cpu=2.0), facts(1000, 1.0, cpu=4.0, peak=200.0)]
    peer = [facts(100, 1.0, cpu=0.5, peak=50.0)] * 3
    Results(tmp_path).put("legs", [Figure("legs", "default", "extract", "rows", ours, {"other": peer})])
    figure = figures(tmp_path)["legs", "default", "extract"]
    assert figure["wall_seconds"] == {"median": 2.0, "min": 1.0, "max": 9.0}
    [compared] = figure["peers"]
    # 10 ms a row beside 2 ms, 5 ms of CPU beside 2 ms; memory is not per row.
    assert (compared["wall_ratio"], compared["cpu_ratio"], compared["memory_ratio"]) == (5.0, 2.5, 0.5)
    row = "| default | extract | 1,000 rows | 2.00 | 500 | 2.00 | 100 |"
    beside = " other | 100 | 1.00 | 0.50 | 50 | 5.00 | 2.50 | 0.50 |"
    assert row + beside in (tmp_path / "RESULTS.md").read_text()


def test_a_part_that_is_measured_again_replaces_only_itself(tmp_path: Path):
    def figure(part: str, rows: int) -> Figure:
        return Figure(part, "default", "whole", "rows", [facts(rows, 1.0)])

    Results(tmp_path).put("whole", [figure("whole", 1)])
    Results(tmp_path).put("history", [figure("history", 2)])
    Results(tmp_path).put("whole", [figure("whole", 3)])
    assert {key[0]: found["rows"] for key, found in figures(tmp_path).items()} == {"whole": 3, "history": 2}


def test_missing_figures_stay_empty(tmp_path: Path):
    ours, peer = [Facts(1, 2.0)], [Facts(1, 1.0)]
    Results(tmp_path).put("fixed", [Figure("fixed", "empty hour", "launch", "run", ours, {"other": peer})])
    assert (
        "| empty hour | launch | 1 run | 2.00 |  |  |  | other | 1 | 1.00 |  |  | 0.50 |  |  |"
        in (tmp_path / "RESULTS.md").read_text()
    )


def test_two_legs_in_a_row_add_times_but_not_memory():
    assert facts(10, 1.0, 2.0, 300.0) + facts(10, 3.0, 4.0, 200.0) == facts(10, 4.0, 6.0, 300.0)
    assert (Facts(1, 1.0) + facts(1, 1.0)).cpu_seconds is None


@pytest.mark.parametrize(("hours", "shape"), [(1, "default"), (3, "default"), (1, "large metadata")])
def test_a_world_spreads_its_observations_over_its_hours(hours: int, shape: Any):
    world = World(HOUR, hours, 600, shape)
    versions = build_store(world).observations.versions
    assert len(versions) >= 600
    assert len({version.id for version in versions}) == len(versions)
    per_hour = [version.event_ms // 3_600_000 for version in versions]
    assert len(set(per_hour)) == hours
    sizes = [len(str(version.data["metadata"])) for version in versions[:50]]
    assert (min(sizes) > 7_000) == (shape == "large metadata")


@pytest.mark.slow
def test_an_event_that_did_not_arrive_is_noticed(tmp_path: Path):
    with serving(World(HOUR, 1, 50)) as served:
        for leg in ("extract", "model"):
            run_leg(leg, served, tmp_path)
        sent = run_leg("mixpanel", served, tmp_path).sent["mixpanel"]
        assert sent > 0
        served.check_arrived({"mixpanel": sent})
        with pytest.raises(RuntimeError, match=f"{sent + 1} events were sent to mixpanel, but {sent} arrived"):
            served.check_arrived({"mixpanel": sent + 1})


def test_the_sink_counts_what_mixpanels_own_client_sends():
    # As mixpanel-python writes it: a form with the events as one JSON text, spaces after colons.
    events = [{"event": "a", "properties": {"time": 1, "$insert_id": f"id-{number}"}} for number in range(3)]
    with serving(World(HOUR, 1, 0, "empty")) as served:
        form = {"data": json.dumps(events), "verbose": 1, "ip": 0}
        answer = httpx.post(f"{served.origins['mixpanel']}/import", data=form)
        assert answer.json() == {"error": None, "status": 1}
        served.check_arrived({"mixpanel": 3})


def test_peers_are_pinned_by_version_alone():
    lines = [line for line in (PEERS / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all("==" in line and "://" not in line for line in lines)
