"""traces, observations and v2/scores: by time, never by page number where that can lose rows.

Offset paging shifts when rows arrive or vanish, and rows of one sort value may change places between two pages, so
that a walk serves some rows twice and others never while `totalItems` stays right (contracts: langfuse 8, 20). Here
every request is page 1 of what is left: the next window ends with the instant of the last row, which is served again,
whole. Only when one millisecond has more rows than a page are its pages walked by number, as often as it takes.
`totalItems` alone proves nothing: it counts unmerged versions that are never served.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lf_dagster.errors import ServiceUnavailable
from lf_dagster.hours import iso
from lf_dagster.lake import EXTRACT_SCHEMA
from lf_dagster.source.pages import Page
from lf_dagster.source.walk import MILLISECOND, NewestFirstWalker, Position
from lf_dagster.source.work import Segment, Work

_SMALLEST_LIMIT = 30
_MOST_WALKS = 20
"""Each walk breaks its pages elsewhere; thousands of rows in one millisecond are found well before this."""


class TimeWalker(NewestFirstWalker):
    """Walks a feed of the legacy generation."""

    def bounds(self, at: Position) -> dict[str, Any]:
        # Everything above `reached` is done; the instant itself is only done when the segment ends there.
        high = min(at.segment.high, at.reached + MILLISECOND)
        return {self.feed.low: iso(at.segment.low), self.feed.high: iso(high), "page": 1}

    def take(self, page: Page, at: Position, work: Work) -> bool:
        if len(page) < at.limit or page.total_items == len(page):
            work.add(_by_time_and_id(page.rows))
            return False
        last = page.last_time
        newer = pc.call_function("greater", [page.rows.column("event_time"), pa.scalar(last)])
        certain = page.rows.filter(newer)
        if certain.num_rows:
            work.add(_by_time_and_id(certain))
            at.reached = last
            return True
        self._walk_instant(last, at.segment, work)
        return self._step_below(at, last)

    def _step_below(self, at: Position, instant: datetime) -> bool:
        at.reached = instant - MILLISECOND
        return at.reached >= at.segment.low

    def _walk_instant(self, instant: datetime, segment: Segment, work: Work) -> None:
        """Add all rows of one millisecond that has more of them than fit into a page.

        Raises ServiceUnavailable when no number of walks serves all of them.
        """
        alone = replace(segment, low=instant, high=instant + MILLISECOND)
        found = _Found()
        for number in range(_MOST_WALKS):
            if self._walk_pages(alone, found, number, work):
                work.add(_by_time_and_id(*found.batches))
                return
        raise ServiceUnavailable(
            f"the legacy API serves the same {len(found.texts)} rows again and others never",
            hint="Rows of this instant are changing right now. Run the hour again later, or use the v2 read path if "
            "this Langfuse has it.",
            **self.where(alone),
        )

    def _walk_pages(self, segment: Segment, found: _Found, number: int, work: Work) -> bool:
        """All pages of a window by number; whether every row was seen by now.

        A walk to the end serves as many rows as there are. When that many different ones are known and the server's
        count did not change on the way, none is missing.
        """
        # Another page size breaks the pages elsewhere, so that rows hidden at one break show up.
        limit = max(_SMALLEST_LIMIT, segment.limit) - number
        window = {**self.feed.one_instant, self.feed.low: iso(segment.low), self.feed.high: iso(segment.high)}
        served, totals, page_number = 0, set[int | None](), 1
        while True:
            page = self.fetch({**window, "page": page_number}, limit, work)
            found.add(page)
            served += len(page)
            totals.add(page.total_items)
            if len(page) < limit:
                return len(totals) == 1 and len(found.texts) == served
            page_number += 1


@dataclass
class _Found:
    """Different rows over all walks; a row is known by its text, so that versions of one id count apart."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)

    def add(self, page: Page) -> None:
        texts = page.rows.column("json").to_pylist()
        fresh = [row for row, text in enumerate(texts) if text not in self.texts]
        self.texts.update(texts)
        self.batches.append(page.rows.take(pa.array(fresh, pa.int64())))


def _by_time_and_id(*batches: pa.RecordBatch) -> pa.RecordBatch:
    """One batch by event time, then id, both descending: the same whatever order ties came in."""
    table = pa.Table.from_batches(batches, EXTRACT_SCHEMA)
    ordered = table.sort_by([("event_time", "descending"), ("id", "descending")]).combine_chunks()
    return next(iter(ordered.to_batches()), pa.RecordBatch.from_pylist([], schema=EXTRACT_SCHEMA))
