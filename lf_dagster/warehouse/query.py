"""Questions to the warehouse: SQL over one project's schema, every text on a short read-only connection of its own.

A DuckDB file that one process writes can be read by no other, and the other way round. So nothing here holds the file
between texts, rows are handed over while it is held and looked at afterwards, and a text that runs too long is stopped:
writers wait for readers within bounds (`Warehouse`).
"""

from __future__ import annotations

import glob
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, FatalError, WarehouseLocked
from lf_dagster.lake import Lake
from lf_dagster.warehouse.database import ALIAS, Warehouse, file_literal, identifier, literal
from lf_dagster.warehouse.models import LEDGER_COLUMNS, load_models
from lf_dagster.warehouse.tables import schema_of

QUERY_SECONDS = 60.0
"""How long a text may run by default: half of what a writer waits for the file."""

_ROWS_AT_ONCE = 1000
_LEDGER_FILE = re.compile(r"/(data|part-[^/]*)\.parquet$")


class QueryStopped(FatalError):
    """The text was stopped, by the person who asked or because it ran too long."""


@dataclass(frozen=True)
class Heading:
    """A column of a result, with its type as DuckDB writes it."""

    name: str
    type: str


Row = tuple[Any, ...]
Take = Callable[[Sequence[Heading], Iterator[Row]], None]
"""Takes a result. The file is held until it returns, so it must not wait for anybody."""


class Questions:
    """Runs SQL texts over the warehouse of one project, whose tables and views need no prefix.

    `timeout_seconds` bounds a text from the moment that it has the file. `on_wait` hears who holds the file when it has
    to be waited for, as one sentence. Beside the project's own tables there are the views of the layer `questions`.
    """

    def __init__(
        self,
        settings: ProjectSettings,
        lake: Lake,
        *,
        timeout_seconds: float = QUERY_SECONDS,
        on_wait: Callable[[str], None] = lambda _who: None,
    ) -> None:
        self._settings = settings
        self._lake = lake
        self._timeout = timeout_seconds
        self._on_wait = on_wait

    def run(self, text: str, take: Take) -> None:
        """Run the statements of a text in order; `take` gets the result of each that has one.

        Raises FatalError, in one sentence, for what DuckDB refuses, QueryStopped for a text that ran too long or was
        interrupted (Ctrl-C), WarehouseLocked when the file does not become free, ConfigError when there is none.
        """
        with self.connect(text) as con:
            for statement in con.extract_statements(text):
                found = con.execute(statement)
                if statement.expected_result_type == [duckdb.ExpectedResultType.QUERY_RESULT]:
                    take([Heading(name, str(kind)) for name, kind, *_ in found.description], _rows(found))

    def columns(self, table: str) -> list[Heading]:
        """Columns of a table or view, by its name. Raises as `run`."""
        found: list[Heading] = []

        def take(_headings: Sequence[Heading], rows: Iterator[Row]) -> None:
            found.extend(Heading(name, kind) for name, kind, *_ in rows)

        self.run(f"DESCRIBE {identifier(table)}", take)
        return found

    def tables(self) -> list[str]:
        """Names of the tables and views that there are, sorted."""
        with self.connect() as con:
            return sorted(schema_of(con, self._settings.name) | {model.name for model in load_models("questions")})

    @contextmanager
    def connect(self, text: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection that is ready for a text: in the project's schema, with the views that it names."""
        with _explained(self._timeout), ExitStack() as stack:
            con = self._open(stack)
            stack.enter_context(self._bounded(con))
            if not schema_of(con, self._settings.name):
                raise ConfigError(
                    f"the warehouse has nothing of project {self._settings.name} yet",
                    hint="Sync an hour first: `lf-dagster sync`.",
                )
            con.execute(f"SET search_path = {literal(f'{ALIAS}.{self._settings.name}')}")
            self._lake.register(con)
            self._add_views(con, text)
            yield con

    def _open(self, stack: ExitStack) -> duckdb.DuckDBPyConnection:
        hasty = Warehouse.of(self._settings, self._lake, lock_timeout_seconds=0)
        try:
            return stack.enter_context(hasty.connect(read_only=True))
        except WarehouseLocked as locked:
            self._on_wait(locked.message)
        patient = Warehouse.of(self._settings, self._lake)
        return stack.enter_context(patient.connect(read_only=True))

    def _add_views(self, con: duckdb.DuckDBPyConnection, text: str) -> None:
        """Only those that the text can mean: the ledger has a file per hour, whose footers would all be read."""
        words = set(re.findall(r"\w+", text.lower()))
        for model in load_models("questions"):
            if model.name in words:
                if "ledger" in model.depends_on:
                    con.execute(f"CREATE TEMP VIEW ledger AS {self._ledger(con)}")
                con.execute(f"CREATE TEMP VIEW {identifier(model.name)} AS {model.sql}")

    def _ledger(self, con: duckdb.DuckDBPyConnection) -> str:
        """SQL for all rows of the project's ledgers, merged files and parts; without files no rows."""
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in LEDGER_COLUMNS.items())
        rows = f"SELECT {nothing} WHERE false"
        root = glob.escape(self._lake.root)
        pattern = f"{root}/ledger/project={self._settings.name}/destination=*/date=*/hour=*/*.parquet"
        found = [path for (path,) in con.execute("SELECT file FROM glob(?)", [pattern]).fetchall()]
        if files := [file_literal(path) for path in found if _LEDGER_FILE.search(path.replace("\\", "/"))]:
            rows += (
                f" UNION ALL BY NAME SELECT * FROM read_parquet([{', '.join(files)}], union_by_name = true, "
                "hive_partitioning = true, hive_types_autocast = false)"
            )
        return f"SELECT {', '.join(LEDGER_COLUMNS)} FROM ({rows})"

    @contextmanager
    def _bounded(self, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Stops what runs too long, and what still runs when somebody has given up."""
        timer = threading.Timer(self._timeout, con.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except BaseException:
            con.interrupt()
            raise
        finally:
            timer.cancel()


@contextmanager
def _explained(timeout: float) -> Iterator[None]:
    """Puts what DuckDB says into one line, and Ctrl-C into an error like others."""
    try:
        yield
    except duckdb.InterruptException:
        raise QueryStopped(
            f"stopped after {timeout:g} s",
            hint="No run can write to the warehouse while it is read. Narrow the query, or allow more time.",
        ) from None
    except duckdb.Error as error:
        raise FatalError(one_line(str(error)), hint=_advice(error)) from None
    except (KeyboardInterrupt, RuntimeError) as error:
        # DuckDB's client turns Ctrl-C into a RuntimeError.
        if isinstance(error, RuntimeError) and "interrupted" not in str(error):
            raise
        raise QueryStopped("cancelled") from None


def one_line(text: str) -> str:
    """What DuckDB says, without the drawing of where in the text it happened."""
    return " ".join(text.partition("\n\nLINE ")[0].split())


def is_whole(text: str) -> bool:
    """Whether the last statement of a text is ended, by a `;` that is in no quotes and no comment."""
    raw = text.encode()
    tokens = duckdb.tokenize(text)
    return bool(tokens) and raw[tokens[-1][0] :].startswith(b";")


def _rows(found: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    while rows := found.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _advice(error: duckdb.Error) -> str | None:
    text = str(error)
    if "read-only mode" in text:
        return "The warehouse is only read here. Save results with --format csv or json."
    if isinstance(error, duckdb.IOException):
        return "If a delivery replaced a file meanwhile, run the query again."
    return None
