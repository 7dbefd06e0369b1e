"""`lf-dagster`: one module per command."""

from lf_dagster.cli.app import app, main

__all__ = ["app", "main"]
