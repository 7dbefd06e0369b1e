"""The list endpoints: one description per stream and read path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lf_dagster.config import LangfuseSettings, ReadPath
from lf_dagster.errors import ConfigError
from lf_dagster.source import pages
from lf_dagster.source.pages import RowShape

# Metadata keys that feed event properties; longer values are cut to 200 code points (contracts: langfuse 4.4).
SESSION_KEYS = ("$mixpanel_session_id", "$posthog_session_id")

_OBSERVATION_FIELDS = "core,basic,time,metadata,model,usage,prompt,trace_context"
_CONTENT_LIMIT = 50
"""Rows with inputs and outputs can be megabytes each (contracts: langfuse 16.19)."""
_LEGACY_LIMIT = 100


@dataclass(frozen=True)
class Feed:
    """A list endpoint: its path, time bounds (inclusive `low`, exclusive `high`), page size and fixed parameters.

    `ties_by_cursor`: whether versions of one row can be parted by a page break, so that cursors must be built here.
    `one_instant`: extra parameters for the rows of one millisecond.
    """

    stream: str
    path: str
    shape: RowShape
    low: str
    high: str
    limit: int
    params: Mapping[str, Any] = field(default_factory=dict)
    ties_by_cursor: bool = False
    one_instant: Mapping[str, Any] = field(default_factory=dict)


def feed_of(stream: str, read_path: ReadPath, settings: LangfuseSettings) -> Feed:
    """The endpoint that serves a stream; raises ConfigError for a stream that the read path does not have."""
    known = _V2 if read_path == "v2" else _LEGACY
    if stream not in known:
        raise ConfigError(f"the {read_path} read path has no stream {stream!r}", hint=f"It has: {', '.join(known)}.")
    return known[stream](settings)


def streams_of(read_path: ReadPath) -> tuple[str, ...]:
    """Streams that a read path serves."""
    return tuple(_V2 if read_path == "v2" else _LEGACY)


def _v2_observations(settings: LangfuseSettings) -> Feed:
    fields = _OBSERVATION_FIELDS + (",io" if settings.content else "")
    params = {"fields": fields}
    if settings.full_metadata:
        # Any key makes the server return all values whole (contracts: langfuse 4.1).
        params["expandMetadata"] = ",".join(SESSION_KEYS)
    limit = min(settings.page_size, _CONTENT_LIMIT) if settings.content else settings.page_size
    shape = pages.V2_OBSERVATIONS
    return Feed(
        "observations", "v2/observations", shape, "fromStartTime", "toStartTime", limit, params, ties_by_cursor=True
    )


def _v3_scores(settings: LangfuseSettings) -> Feed:
    params = {"fields": "core,details,subject,annotation"}
    limit = min(settings.page_size, 100)
    return Feed("scores", "v3/scores", pages.V3_SCORES, "fromTimestamp", "toTimestamp", limit, params)


def _legacy_traces(settings: LangfuseSettings) -> Feed:
    # Metadata comes with group io only (contracts: langfuse 8.1).
    params = {"fields": "core,io,metrics", "orderBy": "timestamp.desc"}
    limit = min(settings.page_size, _LEGACY_LIMIT)
    shape = pages.LEGACY_TRACES
    # Within one instant only the id is an order at all (contracts: langfuse 20).
    by_id = {"orderBy": "id.asc"}
    return Feed("traces", "traces", shape, "fromTimestamp", "toTimestamp", limit, params, one_instant=by_id)


def _legacy_observations(settings: LangfuseSettings) -> Feed:
    limit = min(settings.page_size, _LEGACY_LIMIT)
    return Feed("observations", "observations", pages.LEGACY_OBSERVATIONS, "fromStartTime", "toStartTime", limit)


def _legacy_scores(settings: LangfuseSettings) -> Feed:
    # Without group trace: with it, scores of missing traces are left out (contracts: langfuse 20).
    params = {"fields": "score"}
    limit = min(settings.page_size, _LEGACY_LIMIT)
    return Feed("scores", "v2/scores", pages.LEGACY_SCORES, "fromTimestamp", "toTimestamp", limit, params)


_V2 = {"observations": _v2_observations, "scores": _v3_scores}
_LEGACY = {"observations": _legacy_observations, "scores": _legacy_scores, "traces": _legacy_traces}
