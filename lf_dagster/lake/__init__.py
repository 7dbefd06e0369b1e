"""The lake: Parquet extracts and ledgers, per project and UTC hour, in a folder or behind an fsspec URL."""

from lf_dagster.lake.broken import UnreadableFile, is_broken
from lf_dagster.lake.deletions import DeletionRule
from lf_dagster.lake.lake import Lake
from lf_dagster.lake.liveness import hold, is_dead
from lf_dagster.lake.schema import EXTRACT_SCHEMA, STREAMS
from lf_dagster.lake.workspace import Workspace
from lf_dagster.lake.writer import ExtractFile, ExtractWriter

__all__ = [
    "EXTRACT_SCHEMA",
    "STREAMS",
    "DeletionRule",
    "ExtractFile",
    "ExtractWriter",
    "Lake",
    "UnreadableFile",
    "Workspace",
    "hold",
    "is_broken",
    "is_dead",
]
