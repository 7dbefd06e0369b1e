"""The prompt of `lf-dagster sql`: a line editor around the same questions, with a few commands of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from lf_dagster.cli.console import out
from lf_dagster.cli.rows import FORMATS, write_table
from lf_dagster.cli.sql import Printer, note_aside, say_failure
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, LfDagsterError
from lf_dagster.events import event_models
from lf_dagster.warehouse import Model, load_models
from lf_dagster.warehouse.query import Heading, Questions, Row, is_whole

_HELP = """\
A query ends with `;` and may have many lines. It is run on the warehouse as it is now; nothing can be changed.
.tables          tables and views, with what they hold
.schema NAME     columns of one of them
.format FORMAT   table, csv, json or markdown
.limit N         rows per result
.quit            leave (as Ctrl-D)"""

_OTHERS = {"model_hours": "When the models of each hour were built, and from which extracts"}


def prompt(questions: Questions, printer: Printer, settings: ProjectSettings) -> None:
    """Asks until the end of input. Ctrl-C drops what is typed, or cancels the query that runs."""
    shell = Shell(questions, printer, settings)
    session: PromptSession[str] = PromptSession(
        history=_history(),
        lexer=PygmentsLexer(SqlLexer),
        completer=WordCompleter(shell.words(), ignore_case=True),
        complete_while_typing=False,
        multiline=Condition(lambda: not is_finished(get_app().current_buffer.text)),
        prompt_continuation=lambda width, _line, _wrapped: "... ".rjust(width),
    )
    note_aside(f"{settings.name}: SQL over the warehouse, read only. .help says what else there is.")
    while not shell.left:
        try:
            shell.enter(session.prompt("sql> "))
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def is_finished(text: str) -> bool:
    """Whether Enter sends what is typed: a command, nothing, or a text that ends with `;`."""
    text = text.strip()
    return not text or text.startswith(".") or is_whole(text)


class Shell:
    """What the prompt does with each entry; `left` after `.quit`. Errors are told in one line."""

    def __init__(self, questions: Questions, printer: Printer, settings: ProjectSettings) -> None:
        self.left = False
        self._questions = questions
        self._printer = printer
        self._models = {model.name: model for model in _models(settings)}
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": self._tables,
            ".schema": self._schema,
            ".format": self._format,
            ".limit": self._limit,
            ".help": lambda _rest: out.print(_HELP, markup=False, highlight=False),
            ".quit": self._quit,
            ".exit": self._quit,
        }

    def words(self) -> list[str]:
        """What can be completed: commands, tables and their columns."""
        columns = {column.name for model in self._models.values() for column in model.columns}
        return [*self._commands, *self._models, *sorted(columns - self._models.keys())]

    def enter(self, text: str) -> None:
        """Answers one entry."""
        text = text.strip()
        try:
            if text.startswith("."):
                name, _, rest = text.partition(" ")
                self._command(name)(rest.strip().rstrip(";").strip())
            elif text:
                self._printer.ask(self._questions, text)
        except LfDagsterError as error:
            say_failure(error)

    def _command(self, name: str) -> Callable[[str], None]:
        if name.rstrip(";") not in self._commands:
            raise ConfigError(f"there is no {name}", hint=".help lists what there is.")
        return self._commands[name.rstrip(";")]

    def _tables(self, _rest: str) -> None:
        described = ((name, self._about(name)) for name in self._questions.tables())
        _write([Heading("name", "VARCHAR"), Heading("what it holds", "VARCHAR")], described)

    def _about(self, name: str) -> str:
        model = self._models.get(name)
        return _OTHERS.get(name, "") if model is None else model.description.partition(". ")[0].rstrip(".")

    def _schema(self, rest: str) -> None:
        if not rest:
            raise ConfigError("which table?", hint=".schema traces")
        model = self._models.get(rest)
        documented = {column.name: column for column in model.columns} if model else {}
        rows: Iterator[Row] = (
            (column.name, column.type, known.unit or "", known.description)
            if (known := documented.get(column.name))
            else (column.name, column.type, "", "")
            for column in self._questions.columns(rest)
        )
        _write([Heading(name, "VARCHAR") for name in ("column", "type", "unit", "meaning")], rows)

    def _format(self, rest: str) -> None:
        chosen = next((known for known in FORMATS if known == rest), None)
        if chosen is None:
            raise ConfigError(f"there is no format {rest!r}", hint=f"One of {', '.join(FORMATS)}.")
        self._printer = replace(self._printer, output=chosen)

    def _limit(self, rest: str) -> None:
        if not rest.isdecimal() or int(rest) < 1:
            raise ConfigError(f"not a number of rows: {rest!r}", hint=".limit 100")
        self._printer = replace(self._printer, limit=int(rest))

    def _quit(self, _rest: str) -> None:
        self.left = True


def _models(settings: ProjectSettings) -> list[Model]:
    return [*load_models("typed"), *load_models("apps"), *load_models("questions"), *event_models(settings)]


def _write(headings: Sequence[Heading], rows: Iterator[Row]) -> None:
    write_table(headings, rows, out.file, width=out.width)  # type: ignore[arg-type]


def _history() -> History:
    """Earlier entries of this user, readable by nobody else; of this session alone where nothing can be kept."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = state / "lf-dagster" / "sql_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
