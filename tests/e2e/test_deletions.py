"""A Langfuse that lost most of an hour: the run stops before anything is overwritten, and goes on when told so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.stack import recorded_store, run_cli, stand_ins

NOW_MS = round(time.time() * 1000)
SYNC = ["sync", "--from", "2026-11-21T00:00", "--to", "2026-11-21T01:00"]


@pytest.mark.slow
def test_an_hour_that_lost_most_rows_needs_a_word(tmp_path: Path):
    store = recorded_store()
    with stand_ins(store) as running:
        env = running.environment(tmp_path)
        assert run_cli(SYNC, env, tmp_path).returncode == 0
        for number, row in enumerate(store.visible_observations(NOW_MS).versions):
            if number % 8:
                store.delete_observation(row.id, at_ms=NOW_MS)

        refused = run_cli(SYNC, env, tmp_path)
        said = " ".join(refused.stderr.split())
        assert refused.returncode == 1
        assert "of 231 rows: nothing was written" in said
        assert "project=langfuse, stream=observations, hour=2026-11-21-00:00" in said
        assert "lf-dagster sync --accept-deletions" in said

        accepted = run_cli([*SYNC, "--accept-deletions"], env, tmp_path)
        assert accepted.returncode == 0, accepted.stderr
        assert "now marked as deleted" in accepted.stderr
