"""The command line: what it offers, and how errors and exit codes look."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from lf_dagster.cli import check, dashboard, demo, lexicon, llm_report, preview, profiles, sql, status, sync
from lf_dagster.cli.console import errors
from lf_dagster.errors import LfDagsterError

app = typer.Typer(
    name="lf-dagster",
    help="Langfuse to Mixpanel and PostHog, exactly.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(check.check)
app.command()(sync.sync)
app.command()(status.status)
app.command()(preview.preview)
app.command()(sql.sql)
app.command()(lexicon.mixpanel_lexicon)
app.command()(profiles.mixpanel_profiles)
app.command()(dashboard.posthog_dashboard)
app.command()(llm_report.report)


def main() -> None:
    """Entry point: 0 all well, 1 something failed, 2 unknown options or arguments, 3 done but events were rejected."""
    try:
        app()
    except LfDagsterError as error:
        _end(error)
    except OSError as error:
        if error.filename is None:
            raise
        # A folder that may only be read, a disk that is full: no fault of the program.
        _end(error)


def _end(error: Exception) -> NoReturn:
    # The terminal wraps it: a path that is broken here can be neither copied nor searched for.
    errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)
