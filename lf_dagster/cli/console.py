"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

out = Console()
errors = Console(stderr=True)


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
