"""Asking for less when Langfuse cannot complete a query: smaller pages, shorter windows, down to a floor."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from lf_dagster.errors import RequestTooLarge
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.feeds import Feed
from lf_dagster.source.work import Segment, Work

logger = logging.getLogger(__name__)

SHORTEST_WINDOW = timedelta(minutes=1)
SMALLEST_PAGE = 50
_SMALLEST_PAGE_WITH_CONTENT = 5
_TRIES_AT_THE_FLOOR = 3


class Shrinker:
    """Halves page and window of one walk; at the floor it waits and tries a few more times before it gives up."""

    def __init__(self, client: LangfuseClient, feed: Feed) -> None:
        self._client = client
        self._floor = min(feed.limit, _SMALLEST_PAGE_WITH_CONTENT if client.settings.content else SMALLEST_PAGE)
        self._tries_left = _TRIES_AT_THE_FLOOR

    def shrink(self, segment: Segment, reached: datetime, work: Work, error: RequestTooLarge) -> Segment:
        """What to ask for next; the older half of the window goes to `work` as a segment of its own.

        Raises the error with advice when nothing smaller is left to ask for.
        """
        limit = max(self._floor, segment.limit // 2)
        left = reached - segment.low
        smaller = replace(segment, limit=limit)
        if left > SHORTEST_WINDOW:
            middle = segment.low + left / 2
            middle = middle.replace(microsecond=middle.microsecond // 1000 * 1000)
            work.offer(replace(smaller, high=middle))
            smaller = replace(smaller, low=middle)
        if smaller == segment:
            self._wait(error, limit, left)
        logger.warning("asking for less: %d rows, %s of time (%s)", limit, left, error.message)
        return smaller

    def _wait(self, error: RequestTooLarge, limit: int, left: timedelta) -> None:
        if self._tries_left == 0:
            error.hint = (
                f"Even {limit} rows of {left.total_seconds():.0f} s are too much for this Langfuse. Switch `content` "
                "and `full_metadata` off if they are on, give ClickHouse more memory or time, or raise "
                "`timeout_seconds`."
            )
            raise error
        policy = self._client.http.retry
        self._client.sleep(policy.initial * policy.multiplier ** (_TRIES_AT_THE_FLOOR - self._tries_left))
        self._tries_left -= 1
