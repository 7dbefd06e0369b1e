"""`python -m lf_dagster.simulators`: Langfuse with a generated world, Mixpanel and PostHog on local ports."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from lf_dagster.simulators.langfuse import MODES, create_app, load_recorded
from lf_dagster.simulators.langfuse.store import Project, Store
from lf_dagster.simulators.server import serve_forever
from lf_dagster.simulators.world import WorldSettings, build_world


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the chosen stand-ins until interrupted. Port 0 leaves one out."""
    chosen = _parser().parse_args(arguments)
    store = _store(chosen)
    made: list[tuple[str, Callable[[], Any], int]] = [
        ("langfuse", lambda: create_app(store, mode=chosen.mode), chosen.langfuse_port),
        ("mixpanel", lambda: _app_of("mixpanel"), chosen.mixpanel_port),
        ("posthog", lambda: _app_of("posthog"), chosen.posthog_port),
    ]
    served = [(name, build(), port) for name, build, port in made if port]
    key = store.project.keys[0]
    print(f"keys of project {store.project.name}: {key.public} / {key.secret}")  # noqa: T201
    for name, _, port in served:
        print(f"{name}: http://{chosen.host}:{port}")  # noqa: T201
    serve_forever([(app, chosen.host, port) for _, app, port in served])


def _app_of(name: str) -> Any:
    return importlib.import_module(f"lf_dagster.simulators.{name}").create_app()


def _store(chosen: argparse.Namespace) -> Store:
    if chosen.recorded:
        return load_recorded(chosen.recorded)
    this_hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    settings = WorldSettings(
        seed=chosen.seed,
        start=this_hour - timedelta(hours=chosen.past_hours),
        hours=chosen.past_hours + chosen.coming_hours,
        traces_per_hour=chosen.traces_per_hour,
        project=Project(id="proj-demo", name="Demo shop"),
    )
    return build_world(settings).store


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lf_dagster.simulators", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--langfuse-port", type=int, default=3300)
    parser.add_argument("--mixpanel-port", type=int, default=3301)
    parser.add_argument("--posthog-port", type=int, default=3302)
    parser.add_argument("--mode", choices=sorted(MODES), default="v4-dual", help="what kind of Langfuse deployment")
    parser.add_argument("--recorded", metavar="FILE", help="serve recorded rows (json.gz) instead of a generated world")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--past-hours", type=int, default=24, help="hours of history before the current hour")
    parser.add_argument("--coming-hours", type=int, default=24, help="hours that fill up while the server runs")
    parser.add_argument("--traces-per-hour", type=int, default=40)
    return parser


if __name__ == "__main__":
    main()
