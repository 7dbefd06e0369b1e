"""LG-03: bad credentials fail at once, in words that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.simulators.langfuse import ApiKey
from tests.automation.rows import Life
from tests.automation.works import KEY, works

HINTS = ("begins with pk-lf-", "same project", "revoked", "`host`")


@pytest.mark.parametrize("keys", [(), (ApiKey(KEY.public, KEY.secret, "organization"),)], ids=["revoked", "foreign"])
def test_lg03_a_run_with_bad_keys_fails_without_another_try(tmp_path: Path, keys: tuple[ApiKey, ...]) -> None:
    life = Life().span("root", "07T10:05")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        object.__setattr__(shop.store.project, "keys", keys)
        done = shop.rerun("2026-09-07T10")
        assert not done.success
        said = failure(done)
        assert said.startswith("Authentication failed: Invalid API credentials")
        assert shop.settings.langfuse.host.removeprefix("http://") in said
        assert f"...{KEY.public[-4:]}" in said
        for hint in HINTS:
            assert hint in said
        assert KEY.public not in said
        assert KEY.secret not in said
        assert shop.langfuse_requests() == ["/api/public/projects"]


def failure(done: object) -> str:
    """What Dagster shows of the step that failed."""
    (failed,) = done.filter_events(lambda event: event.is_step_failure)  # type: ignore[attr-defined]
    return failed.step_failure_data.user_failure_data.description
