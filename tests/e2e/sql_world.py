"""The warehouse that docs/sql.md asks: three mornings, a week apart, of a small shop that a generated Langfuse has."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

from lf_dagster.cli import main
from lf_dagster.simulators.world import WorldSettings, build_world
from tests.e2e.stack import stand_ins

SETTINGS = WorldSettings(
    seed=5, start=datetime(2026, 11, 2, 9, tzinfo=timezone.utc), hours=14 * 24 + 2, traces_per_hour=12, users=12
)
MORNINGS = ("2026-11-02", "2026-11-09", "2026-11-16")
NOW = "2026-11-20T12:00:00+00:00"


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: object
    out: str
    err: str


@contextmanager
def shop(folder: Path) -> Iterator[dict[str, str]]:
    """Synchronises the mornings; gives the variables of the project. Mixpanel takes few properties, so it rejects."""
    clock = folder / "clock"
    clock.write_text(NOW)
    world = build_world(SETTINGS)
    with stand_ins(world.store, clock=lambda: SETTINGS.settled_seconds) as outside:
        standin = outside.mixpanel.state.standin
        standin.limits = dataclasses.replace(standin.limits, properties=28)
        env = outside.environment(folder, LANGFUSE_START="2026-11-02-00:00", LF_DAGSTER_CLOCK=str(clock))
        for day in MORNINGS:
            done = call(env, "sync", "--from", f"{day}T09:00", "--to", f"{day}T11:00")
            assert done.code in {0, 3}, done.err
        yield env


def call(env: Mapping[str, str], *arguments: str, stdin: io.StringIO | None = None) -> Answer:
    """`lf-dagster ...`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, env),
        mock.patch.object(sys, "argv", ["lf-dagster", *arguments]),
        mock.patch.object(sys, "stdin", stdin or io.StringIO()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            return Answer(ended.code or 0, out.getvalue(), err.getvalue())
    raise AssertionError("the command line did not exit")
