"""Where to look beyond Dagster: the projects at Langfuse and the destinations, and the page that explains an asset."""

from __future__ import annotations

import dagster as dg

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import app_address

DOCS = "docs"
"""Definition metadata of every asset: the page of the documentation that explains it."""
LANGFUSE_PROJECT = "langfuse_project"
"""Metadata of an extract: the project in Langfuse."""


def docs_page(page: str) -> dict[str, dg.MetadataValue]:
    """The page, such as `docs/tables.md#traces`, as definition metadata."""
    return {DOCS: dg.MetadataValue.path(page)}


def langfuse_link(host: str, project_id: str) -> dict[str, dg.MetadataValue]:
    """The project in Langfuse as metadata."""
    return {LANGFUSE_PROJECT: dg.MetadataValue.url(f"{host.rstrip('/')}/project/{project_id}")}


def destination_link(settings: ProjectSettings, destination: str) -> dict[str, dg.MetadataValue]:
    """The project at a destination as definition metadata `<destination>_project`."""
    return {f"{destination}_project": dg.MetadataValue.url(app_address(settings, destination))}
