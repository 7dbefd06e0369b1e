"""The main job on rows recorded from a real Langfuse: nothing lost, nothing twice, reruns send nothing."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.e2e.stack import RECORDED_FROM, RECORDED_TO, REPOSITORY, StandIns, run_cli

TRUTH = REPOSITORY / "tests" / "data" / "langfuse" / "truth.json.gz"


def sync(
    standins: StandIns, folder: Path, *options: str, expect: int = 0, environment: dict[str, str] | None = None
) -> str:
    env = environment or standins.environment(folder)
    done = run_cli(["sync", "--from", RECORDED_FROM, "--to", RECORDED_TO, *options], env, folder)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(folder / "data" / "warehouse.duckdb"), read_only=True) as con:
        return con.sql(sql).fetchall()


def ids(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Event name and id of every event, sorted; the same for both destinations' shapes."""
    return sorted((event["event"], event.get("uuid") or event["properties"]["$insert_id"]) for event in events)


@pytest.mark.slow
def test_every_recorded_row_arrives_once_and_a_second_sync_sends_nothing(recorded: StandIns, tmp_path: Path):
    first = sync(recorded, tmp_path)
    truth = json.loads(gzip.decompress(TRUTH.read_bytes()))

    assert query(tmp_path, "SELECT count(*), count(DISTINCT observation_id) FROM langfuse.observations") == [
        (1320, 1320)
    ]
    assert query(tmp_path, "SELECT count(*) FROM langfuse.scores") == [(235,)]
    stored = {row[0] for row in query(tmp_path, "SELECT observation_id FROM langfuse.observations")}
    assert stored == set(truth["observations"])
    assert {row[0] for row in query(tmp_path, "SELECT score_id FROM langfuse.scores")} == set(truth["scores"])
    assert {row[0] for row in query(tmp_path, "SELECT trace_id FROM langfuse.traces")} == set(truth["traces"])
    [(cost,)] = query(tmp_path, "SELECT sum(total_cost) FROM langfuse.observations")
    assert abs(cost - Decimal("0.802981249991")) <= Decimal("1e-12")

    held = recorded.mixpanel_events(), recorded.posthog_events()
    assert ids(held[0]) != []
    assert len(ids(held[0])) == len(set(ids(held[0]))) == len(held[1])
    assert f"mixpanel: {len(held[0])} events sent" in first
    assert f"posthog: {len(held[1])} events sent" in first

    second = sync(recorded, tmp_path)
    assert "mixpanel: 0 events sent" in second
    assert "posthog: 0 events sent" in second
    assert (recorded.mixpanel_events(), recorded.posthog_events()) == held

    third = sync(recorded, tmp_path, "--resend")
    assert f"mixpanel: {len(held[0])} events sent" in third
    assert ids(recorded.mixpanel_events()) == ids(held[0])
    assert ids(recorded.posthog_events()) == ids(held[1])
    assert sorted(recorded.mixpanel_events(), key=repr) == sorted(held[0], key=repr)


@pytest.mark.slow
def test_the_legacy_read_path_ends_with_the_same_scores_traces_and_observations(recorded: StandIns, tmp_path: Path):
    truth = json.loads(gzip.decompress(TRUTH.read_bytes()))
    sync(recorded, tmp_path, environment=recorded.environment(tmp_path, LF_DAGSTER_READ_PATH="legacy"))
    # The v4 events table has a synthetic row per legacy trace; the legacy tables do not.
    real = {row for row in truth["observations"] if not row.startswith("t-")}
    assert {row[0] for row in query(tmp_path, "SELECT observation_id FROM langfuse.observations")} == real
    assert {row[0] for row in query(tmp_path, "SELECT score_id FROM langfuse.scores")} == set(truth["scores"])
    assert {row[0] for row in query(tmp_path, "SELECT trace_id FROM langfuse.traces")} == set(truth["traces"])


@pytest.mark.parametrize("destination", ["mixpanel", pytest.param("posthog", marks=pytest.mark.slow)])
def test_one_destination_can_be_synced_alone(recorded: StandIns, tmp_path: Path, destination: str):
    done = run_cli(
        ["sync", "--from", RECORDED_FROM, "--to", "2026-11-21T01", "--destination", destination],
        recorded.environment(tmp_path),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    shipped = {"mixpanel": recorded.mixpanel_events(), "posthog": recorded.posthog_events()}
    assert shipped.pop(destination) != []
    assert list(shipped.values()) == [[]]
    assert f"{destination}: " in done.stdout
