"""The list endpoints: one description per stream and read path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lf_dagster.config import LangfuseSettings, ReadPath, SourceApp
from lf_dagster.errors import ConfigError
from lf_dagster.source import pages
from lf_dagster.source.apps import APP_KEYS, SESSION_KEYS
from lf_dagster.source.pages import RowShape

_OBSERVATION_FIELDS = "core,basic,time,metadata,model,usage,prompt,trace_context"
CONTENT_LIMIT = 50
"""Rows with inputs and outputs can be megabytes each (contracts: langfuse 16.19)."""
_LEGACY_LIMIT = 100


@dataclass(frozen=True)
class Feed:
    """A list endpoint: its path, time bounds (inclusive `low`, exclusive `high`), page size and fixed parameters.

    `ties_by_cursor`: whether versions of one row can be parted by a page break, so that cursors must be built here.
    `one_instant`: extra parameters for the rows of one millisecond. `source_apps`: apps whose rows are wanted with
    more in them; `app_content`: with inputs and outputs, which the feed's own parameters do not ask for.
    `cuts_metadata`: whether values beyond 200 characters come cut (contracts: langfuse 4.4).
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
    source_apps: tuple[SourceApp, ...] = ()
    app_content: bool = False
    cuts_metadata: bool = False

    @property
    def whole_keys(self) -> tuple[str, ...]:
        """Metadata keys whose values are wanted whole."""
        return (*SESSION_KEYS, *(key for app in self.source_apps for key in APP_KEYS[app]))


def feed_of(
    stream: str, read_path: ReadPath, settings: LangfuseSettings, *, source_apps: Sequence[SourceApp] = ()
) -> Feed:
    """The endpoint that serves a stream; raises ConfigError for a stream that the read path does not have.

    `source_apps`: apps of whose rows more is read where the endpoint gives less than they need.
    """
    known = _V2 if read_path == "v2" else _LEGACY
    if stream not in known:
        raise ConfigError(f"the {read_path} read path has no stream {stream!r}", hint=f"It has: {', '.join(known)}.")
    feed = known[stream](settings)
    return replace(feed, source_apps=tuple(source_apps)) if feed.ties_by_cursor else feed


def streams_of(read_path: ReadPath) -> tuple[str, ...]:
    """Streams that a read path serves."""
    return tuple(_V2 if read_path == "v2" else _LEGACY)


def _v2_observations(settings: LangfuseSettings) -> Feed:
    content = settings.content is True
    params = {"fields": _OBSERVATION_FIELDS + (",io" if content else "")}
    if settings.full_metadata:
        # Any key makes the server return all values whole (contracts: langfuse 4.1).
        params["expandMetadata"] = ",".join(SESSION_KEYS)
    return Feed(
        "observations",
        "v2/observations",
        pages.V2_OBSERVATIONS,
        "fromStartTime",
        "toStartTime",
        min(settings.page_size, CONTENT_LIMIT) if content else settings.page_size,
        params,
        ties_by_cursor=True,
        app_content=settings.content == "source_apps",
        # With inputs and outputs metadata comes whole.
        cuts_metadata=not (content or settings.full_metadata),
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
