"""Reading Langfuse: which read path a deployment serves, and whole hours of its streams into the lake."""

from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.counts import MOST_HOURS, HourNumbers, legacy_numbers, v2_numbers
from lf_dagster.source.deployment import Deployment, inspect_deployment
from lf_dagster.source.describe import ProjectInfo, SourceInfo
from lf_dagster.source.explain import Emptiness, explain_empty
from lf_dagster.source.extract import HourExtract, extract_hours, streams_of
from lf_dagster.source.first_rows import COLUMNS as SHOWN_COLUMNS
from lf_dagster.source.probe import newest_row_per_stream

__all__ = [
    "MOST_HOURS",
    "SHOWN_COLUMNS",
    "Deployment",
    "Emptiness",
    "HourExtract",
    "HourNumbers",
    "LangfuseClient",
    "ProjectInfo",
    "SourceInfo",
    "explain_empty",
    "extract_hours",
    "inspect_deployment",
    "legacy_numbers",
    "newest_row_per_stream",
    "streams_of",
    "v2_numbers",
]
