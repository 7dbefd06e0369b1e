"""v2/observations and v3/scores: by cursor (contracts: langfuse 4.3, 4.5, 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from lf_dagster.hours import iso
from lf_dagster.source.cursors import observation_cursor, place_of, rows_at_last_place
from lf_dagster.source.metadata import with_what_matters
from lf_dagster.source.pages import Page
from lf_dagster.source.walk import NewestFirstWalker, Position
from lf_dagster.source.work import Work

_MOST_ROWS = 1000


class CursorWalker(NewestFirstWalker):
    """Walks a feed of the new generation."""

    def bounds(self, at: Position) -> dict[str, Any]:
        window = {self.feed.low: iso(at.segment.low), self.feed.high: iso(at.segment.high)}
        return window if at.cursor is None else {**window, "cursor": at.cursor}

    def take(self, page: Page, at: Position, work: Work) -> bool:
        if page.cursor is None:
            self._add(page, at, work)
            return False
        if not self.feed.ties_by_cursor or not len(page):
            self._add(page, at, work)
            self._move(at, page.cursor, page.last_time if len(page) else at.reached)
            return True
        kept = len(page) - rows_at_last_place(page.rows)
        if kept:
            above = place_of(page.rows, kept - 1)
            self._add(replace(page, rows=page.rows.slice(0, kept)), at, work)
            self._move(at, observation_cursor(above), above.time)
        elif at.limit < _MOST_ROWS:
            # The whole page is versions of one row: look further before leaving any behind.
            at.limit = min(_MOST_ROWS, at.limit * 2)
        else:
            self._add(page, at, work)
            self._move(at, page.cursor, page.last_time)
        return True

    def _add(self, page: Page, at: Position, work: Work) -> None:
        rows = page.rows
        if self.feed.ties_by_cursor and rows.num_rows:
            rows = with_what_matters(self.client, self.feed, rows, work, limit=at.limit)
        work.add(rows)
        at.limit = at.segment.limit

    def _move(self, at: Position, cursor: str, reached: datetime) -> None:
        if reached != at.reached:
            at.cursors.clear()
        if cursor in at.cursors:
            raise self.broken("the cursor does not move", at.segment, cursor)
        at.cursors.add(cursor)
        at.cursor, at.reached = cursor, reached
