"""`lf-dagster sql`: questions to the warehouse, one by one or at a prompt."""

from __future__ import annotations

import functools
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from lf_dagster.cli.console import errors
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.cli.rows import FORMATS, Cut, Format, write_csv, write_json, write_markdown, write_table
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, LfDagsterError
from lf_dagster.lake import Lake
from lf_dagster.warehouse.query import QUERY_SECONDS, Heading, Questions, Row

MOST_ROWS = 1000
"""Rows that are shown of a result, unless somebody says otherwise; CSV and JSON have all."""
_IN_MEMORY = 32 << 20


def sql(
    query: Annotated[str | None, typer.Argument(help="SQL; without it, a prompt (or what comes on stdin).")] = None,
    project: ProjectOption = None,
    output: Annotated[str, typer.Option("--format", "-f", help=f"{', '.join(FORMATS)}.")] = "table",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help=f"Rows per result; table and markdown: {MOST_ROWS}.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds after which a query is stopped.")
    ] = QUERY_SECONDS,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Ask the warehouse in SQL (DuckDB's). It is only read, and held no longer than a query runs."""
    if output not in FORMATS:
        raise typer.BadParameter(f"one of {', '.join(FORMATS)}", param_hint="--format")
    settings = _only_one(projects_of(load_definitions(module), project))
    questions = Questions(settings, Lake(settings.data), timeout_seconds=timeout, on_wait=_say_who_is_waited_for)
    printer = Printer(output, limit)
    if query is None and sys.stdin.isatty():
        from lf_dagster.cli.sql_prompt import prompt

        prompt(questions, printer, settings)
        return
    try:
        printer.ask(questions, sys.stdin.read() if query is None else query)
    except LfDagsterError as error:
        say_failure(error)
        raise typer.Exit(1) from None


def _only_one(projects: Sequence[ProjectSettings]) -> ProjectSettings:
    if len(projects) > 1:
        names = ", ".join(found.name for found in projects)
        raise ConfigError("there are several projects", hint=f"Say which one with --project: {names}.")
    return projects[0]


def _say_who_is_waited_for(who: str) -> None:
    errors.print(f"{who}; waiting for it ...", style="dim", markup=False, highlight=False, soft_wrap=True)


@dataclass
class Printer:
    """How results are written: `limit` rows of each, None for the format's own limit."""

    output: Format
    limit: int | None = None

    def ask(self, questions: Questions, text: str) -> None:
        """Runs a text and writes its results to stdout once the warehouse is free again. Raises as `Questions.run`."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, mode="w+", encoding="utf-8", newline="") as spool:
            cuts: list[str] = []
            try:
                questions.run(text, functools.partial(self._take, spool, cuts))
            finally:
                # What came before an error is an answer, too.
                spool.seek(0)
                shutil.copyfileobj(spool, sys.stdout)
                sys.stdout.flush()
        for note in cuts:
            note_aside(note)

    def _take(self, spool: Any, cuts: list[str], headings: Sequence[Heading], rows: Iterator[Row]) -> None:
        limit = self.limit or (MOST_ROWS if self.output in {"table", "markdown"} else None)
        kept = Cut(rows, limit)
        self._writer()(headings, iter(kept), spool)
        if kept.more:
            cuts.append(f"the first {limit:,} rows; there are more (--limit)")

    def _writer(self) -> Callable[[Sequence[Heading], Iterator[Row], io.TextIOBase], None]:
        if self.output == "table":
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            return functools.partial(write_table, width=width)
        return {"csv": write_csv, "json": write_json, "markdown": write_markdown}[self.output]


def note_aside(text: str) -> None:
    """A remark that is no part of the result."""
    errors.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def say_failure(error: LfDagsterError) -> None:
    """What went wrong and what to do, in one line."""
    text = " ".join(str(error).split())
    errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
