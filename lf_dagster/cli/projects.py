"""Which projects there are: read from Dagster definitions, so that the command line sees what Dagster sees."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, LfDagsterError

ProjectOption = Annotated[str | None, typer.Option("--project", "-p", help="Only this project.")]
ModuleOption = Annotated[
    str,
    typer.Option(
        "--module",
        "-m",
        envvar="LF_DAGSTER_MODULE",
        help="Python module with the Dagster definitions.",
        show_default=True,
    ),
]
DEFAULT_MODULE = "lf_dagster.definitions"


def load_environment() -> None:
    """Reads `.env` of the current folder, as `dagster dev` does; variables that are set already win."""
    from dotenv import load_dotenv

    file = Path.cwd() / ".env"
    try:
        load_dotenv(file)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error.reason}", hint="Save it as UTF-8.") from None


def load_definitions(module: str) -> Any:
    """The Dagster definitions of a module."""
    import dagster as dg

    load_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = _import(module)
        found = getattr(loaded, "defs", None)
        if found is None:
            raise ConfigError(f"module {module} has no `defs`", hint="Name the module that Dagster loads, with -m.")
        return found if isinstance(found, dg.Definitions) else _load(found)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # It is there, and imports what is not.
        hint = "Name the module that Dagster loads, with -m or LF_DAGSTER_MODULE; Python has to find it from here."
        raise ConfigError(f"there is no module {module}", hint=hint) from None


_JUDGES = ("dagster", "dagster_shared", "pydantic_core", "yaml")
"""Packages whose errors say what is wrong with a document, and where."""


def _load(definitions: Callable[[], Any]) -> Any:
    """Loads what `@dg.definitions` made lazy; what is wrong with a document comes out without Dagster's wrapping."""
    try:
        return definitions()
    except Exception as error:
        causes = list(_causes(error))
        if ours := next((cause for cause in causes if isinstance(cause, LfDagsterError)), None):
            raise ours from None
        judged = [cause for cause in causes if type(cause).__module__.partition(".")[0] in _JUDGES]
        if len(judged) < len(causes):
            raise
        lines = [line for line in str(judged[-1]).splitlines() if "errors.pydantic.dev" not in line]
        raise ConfigError(
            "the definitions do not load: " + "\n".join(lines), hint="`dg check defs` shows the lines."
        ) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def projects_of(definitions: Any, only: str | None = None) -> list[ProjectSettings]:
    """The Langfuse projects in some definitions, as their source assets describe themselves."""
    from lf_dagster.assets.common import SETTINGS_METADATA

    found = [
        _settings_in(spec.metadata)
        for spec in definitions.resolve_all_asset_specs()
        if SETTINGS_METADATA in spec.metadata
    ]
    chosen = [project for project in found if only in (None, project.name)]
    if not chosen:
        known = ", ".join(project.name for project in found) or "none"
        raise ConfigError(f"no project {only!r}" if only else "no Langfuse project", hint=f"Known projects: {known}.")
    return chosen


def _settings_in(metadata: Mapping[str, Any]) -> ProjectSettings:
    from lf_dagster.assets.common import SETTINGS_METADATA, SOURCES_METADATA

    settings = ProjectSettings.model_validate(metadata[SETTINGS_METADATA].value)
    sources = metadata[SOURCES_METADATA].value if SOURCES_METADATA in metadata else {}
    return settings.with_sources({name: tuple(found) for name, found in sources.items()})


def dagster_instance() -> Any:
    """The instance that the UI shows: DAGSTER_HOME, else the current folder if it has a dagster.yaml.

    Without either, history is kept only for this process.
    """
    import dagster as dg

    if not os.environ.get("DAGSTER_HOME") and (Path.cwd() / "dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    if home := os.environ.get("DAGSTER_HOME"):
        if not (Path(home).expanduser().is_absolute() and Path(home).expanduser().is_dir()):
            hint = "Set it to the absolute path of a folder that is there, such as that of this project."
            raise ConfigError(f"DAGSTER_HOME is no folder, or no absolute path: {home!r}", hint=hint)
        return dg.DagsterInstance.get()
    return dg.DagsterInstance.ephemeral()
