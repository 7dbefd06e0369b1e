"""The outside world of an end-to-end test: the three stand-ins, and an environment that points at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lf_dagster.simulators import langfuse, mixpanel, posthog
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.server import serve_all

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "data" / "langfuse" / "recorded.json.gz"
RECORDED_FROM, RECORDED_TO = "2026-11-21T00:00", "2026-11-21T07:00"

SECRETS = {
    "LANGFUSE_SECRET_KEY": "sk-lf-7d1f0c55-secret",
    "MIXPANEL_PROJECT_TOKEN": "mp-9b2e4a10-secret",
    "POSTHOG_API_KEY": "phc_3c8d6f21secret",
}


@dataclass
class StandIns:
    """Running stand-ins of Langfuse, Mixpanel and PostHog."""

    langfuse: Any
    mixpanel: Any
    posthog: Any
    origins: dict[str, str]

    def environment(self, folder: Path, **extra: str) -> dict[str, str]:
        """Variables of the default project, with its data and Dagster's history below `folder`."""
        home = folder / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "dagster.yaml", home)
        return {
            **SECRETS,
            "LANGFUSE_PUBLIC_KEY": "pk-lf-test",
            "LANGFUSE_HOST": self.origins["langfuse"],
            "LANGFUSE_START": "2026-11-20-00:00",
            "MIXPANEL_HOST": self.origins["mixpanel"],
            "POSTHOG_HOST": self.origins["posthog"],
            "LF_DAGSTER_DATA": str(folder / "data"),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            # Runs are asked for by each test; what the sensor asks for has tests of its own.
            "LF_DAGSTER_RECONCILE": "0",
            **extra,
        }

    def forget_events(self) -> None:
        """Empties both destinations."""
        self.mixpanel.state.standin.store.reset()
        self.posthog.state.standin.store.reset()

    def mixpanel_events(self) -> list[dict[str, Any]]:
        """What a Mixpanel report counts: one event per identity, without the times at which it arrived."""
        events = self.mixpanel.state.standin.store.events(view="query")
        arrival = ("$mp_api_timestamp_ms", "mp_processing_time_ms")
        return [
            {**event, "properties": {key: value for key, value in event["properties"].items() if key not in arrival}}
            for event in events
        ]

    def posthog_events(self) -> list[dict[str, Any]]:
        """What PostHog holds once it has merged."""
        return self.posthog.state.standin.store.events(view="merged")


@contextmanager
def stand_ins(store: Store, **langfuse_options: Any) -> Iterator[StandIns]:
    """Serves the three stand-ins until the block ends; `store` gets the key pair of the test environment."""
    key = langfuse.ApiKey("pk-lf-test", SECRETS["LANGFUSE_SECRET_KEY"])
    store.project = langfuse.Project(id=store.project.id, name=store.project.name, keys=(key,))
    apps = {
        "langfuse": langfuse.create_app(store, **langfuse_options),
        "mixpanel": mixpanel.create_app(tokens={SECRETS["MIXPANEL_PROJECT_TOKEN"]: 1}),
        "posthog": posthog.create_app(tokens={SECRETS["POSTHOG_API_KEY"]: 1}),
    }
    with serve_all(apps) as origins:
        yield StandIns(**apps, origins=origins)


def recorded_store() -> Store:
    """The rows recorded from a real Langfuse: 1,320 observations, 319 traces, 235 scores."""
    return langfuse.load_recorded(RECORDED)


def command(*arguments: str) -> list[str]:
    """`lf-dagster ...` as a command line."""
    return [sys.executable, "-m", "lf_dagster.cli", *arguments]


def run_cli(
    arguments: Sequence[str], environment: dict[str, str], cwd: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs `lf-dagster` in a process of its own and waits for it."""
    return subprocess.run(
        command(*arguments),
        env={**_inherited(), **environment, "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
