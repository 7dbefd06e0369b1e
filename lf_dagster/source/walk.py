"""Walking a list endpoint from new to old through a time window, whatever moves it from page to page."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lf_dagster.errors import ProtocolError, RequestTooLarge
from lf_dagster.hours import iso
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.feeds import Feed
from lf_dagster.source.pages import Page, parse_page
from lf_dagster.source.shrink import Shrinker
from lf_dagster.source.work import Segment, Work

MILLISECOND = timedelta(milliseconds=1)


@dataclass
class Position:
    """Where a walk stands: event times [segment.low, reached] are left, the newest of them only in part."""

    segment: Segment
    reached: datetime
    limit: int
    cursor: str | None = None
    cursors: set[str] = field(default_factory=set)
    """Cursors used at the instant `reached`."""


class NewestFirstWalker(ABC):
    """Reads one feed. Guards the contract: rows inside the window, by descending time, every step further down."""

    def __init__(self, client: LangfuseClient, feed: Feed) -> None:
        self.client = client
        self.feed = feed

    def whole(self, low: datetime, high: datetime) -> Segment:
        return Segment(low, high, self.feed.limit)

    def walk(self, segment: Segment, work: Work) -> None:
        """Add every row of the segment to `work`, parts of it handed to other workers excepted.

        Raises ProtocolError when rows or cursors contradict the contract, RequestTooLarge when even the smallest
        request is too much, and what the client raises.
        """
        at = Position(segment, segment.high, segment.limit)
        shrinker = Shrinker(self.client, self.feed)
        while True:
            try:
                page = self.fetch(self.bounds(at), at.limit, work)
                self._check(page, at)
                more = self.take(page, at, work)
            except RequestTooLarge as error:
                at.segment = shrinker.shrink(at.segment, at.reached, work, error)
                at.limit = at.segment.limit
                continue
            if not more:
                return
            self._share(page, at, work)
            work.pace()

    @abstractmethod
    def bounds(self, at: Position) -> dict[str, Any]:
        """Parameters that select what is left."""

    @abstractmethod
    def take(self, page: Page, at: Position, work: Work) -> bool:
        """Add what is certain of the page, move on; False when nothing is left."""

    def fetch(self, bounds: dict[str, Any], limit: int, work: Work) -> Page:
        """One page."""
        feed = self.feed
        page = self.client.read(
            feed.path,
            {**feed.params, "limit": limit, **bounds},
            lambda body: parse_page(body, feed.shape),
            stats=work.stats,
            cancelled=work.cancelled,
        )
        work.saw_lateness(page.max_lateness)
        return page

    def broken(self, text: str, segment: Segment, value: str) -> ProtocolError:
        """The error for an answer that cannot be right."""
        hint = "Langfuse, or something between, answers against its own contract; nothing was written."
        return ProtocolError(text, hint=hint, **self.where(segment), value=value)

    def where(self, segment: Segment) -> dict[str, str]:
        """Facts for errors."""
        window = f"{iso(segment.low)} .. {iso(segment.high)}"
        return {"host": self.client.http.host, "endpoint": f"GET {self.feed.path}", "window": window}

    def _check(self, page: Page, at: Position) -> None:
        if not len(page):
            return
        newest, oldest = page.first_time, page.last_time
        if not page.is_newest_first:
            text = "rows are not in descending order of time"
            raise self.broken(text, at.segment, f"{iso(newest)} .. {iso(oldest)}")
        if oldest < at.segment.low or newest >= at.segment.high:
            value = iso(oldest if oldest < at.segment.low else newest)
            raise self.broken("a row lies outside of the window that was asked for", at.segment, value)
        if newest > at.reached:
            raise self.broken("a row lies above the cursor", at.segment, iso(newest))

    def _share(self, page: Page, at: Position, work: Work) -> None:
        """Hand what is left, down to a fair share, to workers that have nothing to do."""
        left = at.reached - at.segment.low
        if not len(page) or left <= MILLISECOND:
            return
        density = len(page) / max(page.first_time - page.last_time, MILLISECOND).total_seconds()
        pages_left = density * left.total_seconds() / at.segment.limit
        parts = min(work.idle_workers() + 1, math.floor(pages_left))
        if parts < 2:
            return
        older = cut_evenly(replace(at.segment, high=at.reached), parts)[:-1]
        for segment in reversed(older):
            work.offer(segment)
        if older:
            at.segment = replace(at.segment, low=older[-1].high)


def cut_evenly(segment: Segment, parts: int) -> list[Segment]:
    """The segment in up to `parts` parts of equal time, oldest first, cut at whole milliseconds."""
    span = (segment.high - segment.low) // MILLISECOND
    cuts = sorted({segment.low + span * n // parts * MILLISECOND for n in range(1, parts)} - {segment.low})
    bounds = [segment.low, *cuts, segment.high]
    return [replace(segment, low=low, high=high) for low, high in itertools.pairwise(bounds)]
