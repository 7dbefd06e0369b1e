"""One-row reads of everything that an extract will ask for (contracts: source-apps LG-02)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lf_dagster.source.describe import SourceInfo
from lf_dagster.source.feeds import feed_of, streams_of
from lf_dagster.source.pages import parse_page

if TYPE_CHECKING:
    from lf_dagster.source.client import LangfuseClient


def newest_row_per_stream(client: LangfuseClient, source: SourceInfo) -> dict[str, datetime | None]:
    """Event time of one recent row of each stream, None for an empty stream; nothing is written.

    Asks each endpoint with the parameters of an extract, so that an endpoint that is closed, blocked or answers
    something else is found out before a run. Raises what `LangfuseClient.read` raises.
    """
    found: dict[str, datetime | None] = {}
    for stream in streams_of(source.read_path):
        feed = feed_of(stream, source.read_path, client.settings)
        page = client.read(
            feed.path, {**feed.params, "limit": 1}, lambda body, shape=feed.shape: parse_page(body, shape)
        )
        found[stream] = page.first_time if len(page) else None
    return found
