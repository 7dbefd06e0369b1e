"""SIGKILL, crashes and broken files at any point: a rerun ends in the right state (I7)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.destinations import recording
from lf_dagster.errors import FatalError
from lf_dagster.lake import Lake, Workspace
from lf_dagster.simulators.faults import Fault
from tests.destinations.killed import OPTIONS
from tests.destinations.world import HOUR, Event, World, balanced, events, mixpanel_events, only

ROOT = Path(__file__).parents[2]
IN_FLIGHT = OPTIONS["batch_events"] * OPTIONS["parallel_requests"]


class Crash(BaseException):
    """The process ends here, as far as the code can tell."""


@pytest.mark.parametrize("killed_after", [1, 60, 150])
def test_a_killed_delivery_is_taken_up_by_the_next_run(mixpanel: World, mixpanel_app: Any, killed_after: int) -> None:
    mixpanel.options = dict(OPTIONS)
    mixpanel.put(events(200))
    mixpanel_app.state.faults.add(Fault(path="/import", delay_seconds=0.03, times=None))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.destinations.killed", str(mixpanel.folder), mixpanel.origin], cwd=ROOT
    )
    _wait_until(lambda: len(mixpanel_events(mixpanel_app, "raw")) >= killed_after)
    process.kill()
    assert process.wait() == -9
    mixpanel_app.state.faults.clear()

    acknowledged = len(mixpanel.rows())
    assert len(mixpanel_events(mixpanel_app, "raw")) - acknowledged <= IN_FLIGHT
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.delivered, result.unchanged, result.sent) == (200, acknowledged, 200 - acknowledged)
    assert len(mixpanel_events(mixpanel_app, "query")) == 200
    assert len(mixpanel_events(mixpanel_app, "raw")) <= 200 + IN_FLIGHT
    assert not mixpanel.ledger.unfinished(HOUR)
    assert list((mixpanel.folder / "lake" / "spool").iterdir()) == []


def _wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError("the delivery did not get that far")
        time.sleep(0.002)


def _crash_at(monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool) -> list[str]:
    """Crash before or after the step-th change to the lake; returns the list of changes made so far."""
    made: list[str] = []

    def crashing(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: Any) -> None:
            if len(made) == step and not after:
                raise Crash
            change(*args)
            made.append(str(args[-1]))
            if len(made) == step + 1 and after:
                raise Crash

        return changed

    monkeypatch.setattr(recording, "WRITE_SECONDS", 0.0)  # a part per answer
    monkeypatch.setattr(Workspace, "commit", crashing(Workspace.commit))
    monkeypatch.setattr(Lake, "remove", crashing(Lake.remove))
    return made


def _first_state() -> list[Event]:
    return [*events(7), Event(entity="f", skip_reason="filtered:tag", offset_ms=50)]


def _second_state() -> list[Event]:
    """Against the first: e0 gone, e1 changed, e2 with a late user, f no longer filtered, n new, bad invalid."""
    kept = events(7)[3:]
    return [
        *kept,
        Event(entity="e1", offset_ms=1, properties={"cost": 1}),
        Event(entity="e2", offset_ms=2, user="user-2", properties={"langfuse_user_id": "user-2"}),
        Event(entity="f", offset_ms=50),
        Event(entity="n", offset_ms=60),
        Event(entity="bad", offset_ms=70, event=""),
    ]


SETTLED = {
    **{f"e{number}": "delivered" for number in (1, 3, 4, 5, 6)},
    "e2": "delivered|identity_changed",
    "f": "delivered",
    "n": "delivered",
    "bad": "rejected|invalid:event_name",
}


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_a_crash_at_any_change_of_the_lake_is_healed_by_a_rerun(
    mixpanel: World, mixpanel_app: Any, step: int, after: bool
) -> None:
    mixpanel.options = {"batch_events": 2, "parallel_requests": 1}
    mixpanel.put(_first_state())
    mixpanel.deliver()
    mixpanel.put(_second_state())
    with pytest.MonkeyPatch.context() as patch:
        made = _crash_at(patch, step, after=after)
        try:
            mixpanel.deliver(run="crashed")
        except Crash:
            pass
        else:
            assert len(made) <= step
    result = only(mixpanel.deliver(run="run-3"))
    assert balanced(result)
    assert mixpanel.statuses() == SETTLED
    assert (result.gone, result.events) == (1, 9)
    assert len(mixpanel_events(mixpanel_app, "query")) == 9
    # 7 events at first, 4 new or changed ones, and at most the batch of 2 in flight once more.
    assert len(mixpanel_events(mixpanel_app, "raw")) <= 7 + 4 + 2
    assert not mixpanel.ledger.unfinished(HOUR)
    assert only(mixpanel.deliver(run="run-4")).sent == 0


def test_a_part_that_a_crash_left_broken_is_sent_again(
    mixpanel: World, mixpanel_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mixpanel.options = {"batch_events": 2, "parallel_requests": 1}
    mixpanel.put(events(8))
    with pytest.MonkeyPatch.context() as patch:
        _crash_at(patch, 2, after=True)
        with pytest.raises(Crash):
            mixpanel.deliver()
    parts = mixpanel.ledger.files(HOUR).parts
    assert len(parts) == 3
    Path(parts[0]).write_bytes(Path(parts[0]).read_bytes()[:40])
    Path(parts[1]).write_bytes(b"")
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.unchanged, result.sent, result.delivered) == (2, 6, 8)
    assert "left this ledger part broken" in caplog.text
    assert len(mixpanel_events(mixpanel_app)) == 8
    assert not mixpanel.ledger.unfinished(HOUR)


def test_answers_in_quick_succession_share_a_part_and_are_written_soon(
    mixpanel: World, mixpanel_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    commit = Workspace.commit

    def noted(workspace: Workspace, name: str, target: str) -> None:
        written.append(target)
        commit(workspace, name, target)

    monkeypatch.setattr(Workspace, "commit", noted)
    mixpanel.options = {"batch_events": 1, "parallel_requests": 1}
    mixpanel.put(events(40))
    mixpanel_app.state.faults.add(Fault(path="/import", delay_seconds=0.01, times=None))
    mixpanel.deliver()
    parts = [path for path in written if "/part-" in path]
    assert 1 <= len(parts) <= 20
    assert written[-1].endswith("/data.parquet")


def test_an_hour_that_is_done_at_once_is_written_once(mixpanel: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    commit = Workspace.commit

    def noted(workspace: Workspace, name: str, target: str) -> None:
        written.append(target)
        commit(workspace, name, target)

    monkeypatch.setattr(Workspace, "commit", noted)
    monkeypatch.setattr(recording, "WRITE_SECONDS", 60.0)
    mixpanel.put([*events(3), Event(entity="f", skip_reason="filtered:tag", offset_ms=50)])
    assert only(mixpanel.deliver()).delivered == 3
    assert len(written) == 1


def test_an_unreadable_ledger_is_an_error_that_says_what_to_do(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    path = mixpanel.ledger.files(HOUR).data
    assert path is not None
    Path(path).write_bytes(b"PAR1 no more")
    with pytest.raises(FatalError, match="ledger cannot be read") as caught:
        mixpanel.deliver(run="run-2")
    assert path in str(caught.value)
    assert len(mixpanel_events(mixpanel_app, "raw")) == 2


def test_a_clock_that_runs_backwards_does_not_revive_old_rows(mixpanel: World) -> None:
    from datetime import timedelta

    from tests.destinations.world import NOW

    mixpanel.put(events(2))
    mixpanel.deliver(clock=lambda: NOW + timedelta(hours=5))
    mixpanel.put([*events(1), Event(entity="e1", offset_ms=1, properties={"cost": 1})])
    assert only(mixpanel.deliver(run="run-2", clock=lambda: NOW)).sent == 1
    mixpanel.put(events(1))
    assert only(mixpanel.deliver(run="run-3", clock=lambda: NOW - timedelta(hours=5))).gone == 1
    assert only(mixpanel.deliver(run="run-4", clock=lambda: NOW)).sent == 0


def test_the_spool_is_removed_also_after_an_error(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(2))
    mixpanel_app.state.faults.add(Fault(status=401, body="{}", content_type="application/json"))
    with pytest.raises(FatalError):
        mixpanel.deliver()
    assert list((mixpanel.folder / "lake" / "spool").iterdir()) == []
