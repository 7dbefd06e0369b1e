"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import logging

from rich.cells import cell_len
from rich.console import Console
from rich.logging import RichHandler
from rich.measure import Measurement
from rich.table import Table

out = Console()
errors = Console(stderr=True)
_WIDEST = 1000


def show_table(table: Table) -> None:
    """A table on stdout, whole: where its columns that do not wrap need more than the terminal, or the 80 characters
    of a pipe, lines are longer, since a number that is cut looks like another one."""
    for column in table.columns:
        if column.no_wrap:
            lines = [line for cell in (column.header, *column.cells) for line in str(cell).split("\n")]
            column.min_width = max(map(cell_len, lines))
    needed = Measurement.get(out, out.options.update(width=_WIDEST), table).minimum
    Console(width=max(out.width, needed)).print(table)


def show_progress() -> None:
    """lf_dagster's own INFO lines, and nobody else's, on stderr."""
    handler = RichHandler(
        console=errors, show_path=False, show_level=False, omit_repeated_times=False, log_time_format="%H:%M:%S"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("lf_dagster")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
