"""`lf-dagster demo`: the main job on embedded stand-ins, and the UI on what it left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from lf_dagster.cli.console import errors, out, show_progress, show_table
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, FatalError
from lf_dagster.hours import Hour, hour_range

_STARTED = "demo-start.txt"
_KEYS = ("pk-lf-demo", "sk-lf-demo")  # throw-away keys of the stand-ins
_TOKENS = {"mixpanel": "mp-demo", "posthog": "phc_demo"}


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo keeps its data.")] = Path(".demo"),
    hours: Annotated[int, typer.Option("--hours", min=1, max=72, help="Hours of history to ship.")] = 12,
    traces: Annotated[int, typer.Option("--traces", min=1, max=5000, help="Traces per hour.")] = 60,
    ui: Annotated[bool, typer.Option("--ui", help="Open the Dagster UI on the demo's data instead.")] = False,
    port: Annotated[int, typer.Option("--port", help="Port of the UI.")] = 3000,
) -> None:
    """Ship a generated Langfuse project to stand-ins of Mixpanel and PostHog, or look at it in the UI."""
    show_progress()
    folder = folder.absolute()
    if not ui or not (folder / _STARTED).exists():
        _begin(folder, hours)
    first = Hour.from_key((folder / _STARTED).read_text())
    with _stand_ins(first, hours, traces) as world, _environment(folder, first, world.origins):
        code = 0
        if not ui or not (folder / "data").exists():
            code = _ship(folder, world, hour_range(first, first.shift(hours - 1)))
        if ui:
            code = _open_ui(port)
    raise typer.Exit(code)


@dataclass(frozen=True)
class DemoWorld:
    """The running stand-ins."""

    origins: Mapping[str, str]
    mixpanel: Any
    posthog: Any


def _begin(folder: Path, hours: int) -> None:
    """Makes the folder anew; ConfigError when what is in it is not of a demo."""
    if folder.exists() and not (folder / _STARTED).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} holds something else than a demo", hint="Name a folder that is new, or empty.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    first = Hour.containing(datetime.now(timezone.utc)).shift(-hours)
    (folder / _STARTED).write_text(first.key)


@contextmanager
def _stand_ins(first: Hour, hours: int, traces: int) -> Iterator[DemoWorld]:
    """Langfuse with a world that began at `first` and goes on for two days, strict Mixpanel, PostHog."""
    from lf_dagster.simulators import langfuse, mixpanel, posthog
    from lf_dagster.simulators.server import serve_all
    from lf_dagster.simulators.world import WorldSettings, build_world

    key = langfuse.ApiKey(*_KEYS)
    project = langfuse.Project(id="proj-demo", name="Demo shop", keys=(key,))
    world = WorldSettings(
        seed=7, start=first.start, hours=hours + 48, traces_per_hour=traces, project=project, absurd_usage=False
    )
    apps: dict[str, Any] = {
        "langfuse": langfuse.create_app(build_world(world).store),
        "mixpanel": mixpanel.create_app(tokens={_TOKENS["mixpanel"]: 1}),
        "posthog": posthog.create_app(tokens={_TOKENS["posthog"]: 1}),
    }
    with serve_all(apps) as origins:
        yield DemoWorld(origins, apps["mixpanel"], apps["posthog"])


@contextmanager
def _environment(folder: Path, first: Hour, origins: Mapping[str, str]) -> Iterator[None]:
    """Points the shipped project at the stand-ins, as a user's `.env` would."""
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(_project_file("dagster.yaml").read_text())
    variables = {
        "LANGFUSE_HOST": origins["langfuse"],
        "LANGFUSE_PUBLIC_KEY": _KEYS[0],
        "LANGFUSE_SECRET_KEY": _KEYS[1],
        "LANGFUSE_START": first.key,
        "MIXPANEL_PROJECT_TOKEN": _TOKENS["mixpanel"],
        "MIXPANEL_HOST": origins["mixpanel"],
        "POSTHOG_API_KEY": _TOKENS["posthog"],
        "POSTHOG_HOST": origins["posthog"],
        "LF_DAGSTER_DATA": str(folder / "data"),
        # A history that is made up at once is not late.
        "LF_DAGSTER_FRESH_MINUTES": str(48 * 60),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _project_file(name: str) -> Path:
    """A file of the shipped project's top level, which a wheel has in the package."""
    package = Path(__file__).parents[1]
    for place in (package, package.parent):
        if (place / name).exists():
            return place / name
    raise FatalError(f"there is no {name} in {package}", hint="Install lf_dagster again: its package is not whole.")


def _ship(folder: Path, world: DemoWorld, hours: list[Hour]) -> int:
    from lf_dagster.cli.projects import dagster_instance, load_definitions, projects_of
    from lf_dagster.cli.sync import INTERRUPTED, result_table, summary, sync_hours

    definitions = load_definitions("lf_dagster.definitions")
    [settings] = projects_of(definitions, "langfuse")
    destinations = list(settings.destinations)
    with dagster_instance() as instance:
        result = sync_hours(definitions, instance, settings, hours, destinations=destinations)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    show_table(result_table("demo", result, destinations))
    out.print(summary("demo", result, destinations, len(hours)), highlight=False)
    for failure in result.failures:
        errors.print(failure, style="red", markup=False, highlight=False)
    _say_where_to_look(folder, world, settings)
    return 1 if result.failures else 0


def _say_where_to_look(folder: Path, world: DemoWorld, settings: ProjectSettings) -> None:
    at_mixpanel = len(world.mixpanel.state.standin.store.events(view="query"))
    at_posthog = len(world.posthog.state.standin.store.events(view="merged"))
    lines = [
        f"The stand-ins now hold {at_mixpanel} events (Mixpanel) and {at_posthog} events (PostHog).",
        "",
        "Where to look:",
        "  lf-dagster demo --ui           lineage, partitions, backfills in the browser",
        f"  {folder.name}/data/warehouse.duckdb    typed tables and events, schema {settings.name}",
        f"  {folder.name}/data/raw                 extracts, Parquet",
        f"  {folder.name}/data/ledger              what each destination has, Parquet",
    ]
    out.print("\n".join(lines), highlight=False)


def _open_ui(port: int) -> int:
    program = Path(sys.executable).with_name("dagster")
    out.print(f"Dagster UI: http://127.0.0.1:{port} (Ctrl-C ends it and the stand-ins)", highlight=False)
    workspace = _project_file("workspace.yaml")
    command = [str(program), "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0
