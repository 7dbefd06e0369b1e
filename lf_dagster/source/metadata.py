"""Metadata values beyond 200 characters, and inputs and outputs of source apps, read again where they matter.

v2/observations cuts each metadata value to 200 code points unless asked for it, which is slow, or for inputs and
outputs too (contracts: langfuse 4.4, 4.5). A few keys feed event properties and tables; where one of them has exactly
200 characters, as a text or as what is left of an object, the rows of its trace are asked for again, whole.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa

from lf_dagster.config import SourceApp
from lf_dagster.source.apps import APP_KEYS, SESSION_KEYS, RowMarks, app_of, marks_of, read_marks
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.feeds import CONTENT_LIMIT, Feed
from lf_dagster.source.marks import Mark
from lf_dagster.source.reread import with_rows_read_again
from lf_dagster.source.work import Work

CUT_LENGTH = 200
_ROWS_PER_CALL = 200


def with_what_matters(
    client: LangfuseClient, feed: Feed, rows: pa.RecordBatch, work: Work, *, limit: int
) -> pa.RecordBatch:
    """A page of v2/observations with content and whole metadata values as far as the feed wants them.

    `limit` is the walk's page size, which shrinks where the server cannot take more.
    """
    page = PageText(rows.column("json"))
    whole: frozenset[int] = frozenset()
    if feed.app_content and (wanted := rows_of_apps(page, feed.source_apps)):
        fields = f"{feed.params['fields']},io"
        rows, whole = with_rows_read_again(
            client, feed, rows, wanted, work, fields=fields, limit=min(limit, CONTENT_LIMIT)
        )
    if feed.cuts_metadata and (cut := rows_with_cut_value(page, feed.source_apps, but_not=whole)):
        keys = ",".join(feed.whole_keys)
        rows, _ = with_rows_read_again(client, feed, rows, cut, work, expandMetadata=keys, limit=_ROWS_PER_CALL)
    return rows


class PageText:
    """The JSON texts of a page (one at least) as one piece of memory, for cheap looks at all of them."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = texts
        _, offsets, data = texts.buffers()
        self._offsets = memoryview(offsets or b"").cast("i")[texts.offset : texts.offset + len(texts) + 1]
        self._first = self._offsets[0]
        self._bytes = memoryview(data or b"")[self._first : self._offsets[-1]]

    def has(self, marks: Iterable[Mark]) -> bool:
        return any(True for _ in self._places(marks))

    def rows_with(self, marks: Iterable[Mark]) -> set[int]:
        """Rows in which one of the marks is found."""
        return {bisect.bisect_right(self._offsets, place + self._first) - 1 for place in self._places(marks)}

    def _places(self, marks: Iterable[Mark]) -> Iterator[int]:
        return itertools.chain.from_iterable(mark.places(self._bytes) for mark in marks)

    def marks(self, rows: Collection[int]) -> Iterator[tuple[int, RowMarks]]:
        """These rows, ascending, with what tells their writer."""
        return ((row, read_marks(self._texts[row].as_py())) for row in sorted(rows))


def rows_of_apps(page: PageText, apps: Sequence[SourceApp]) -> list[int]:
    """Rows that one of the apps wrote."""
    return [row for row, found in page.marks(page.rows_with(marks_of(apps))) if app_of(found, apps)]


def rows_with_cut_value(page: PageText, apps: Sequence[SourceApp], *, but_not: Collection[int] = ()) -> list[int]:
    """Rows whose metadata has a value that matters with exactly 200 characters, other than rows that are whole."""
    long = page.rows_with([_LONG_SESSION])
    if page.has(marks_of(apps, with_app_keys=True)):
        long |= page.rows_with([_long_value(tuple(key for app in apps for key in APP_KEYS[app]))])
    return [row for row, found in page.marks(long.difference(but_not)) if _has_cut_value(found, apps)]


def _key_with_long_text(key: bytes, keys: Sequence[str]) -> re.Pattern[bytes]:
    """A text of 200 code points or more, each of which takes at least a byte or an escape."""
    names = b"|".join(re.escape(name.encode()) for name in keys)
    # Most texts are short and plain: a run of plain bytes is cheap to count.
    long = rb'(?:[^"\\]{%d}|(?=[^"]*\\)(?:[^"\\]|\\.){%d})' % (CUT_LENGTH, CUT_LENGTH)
    return re.compile(rb'%b":"%b' % (key % names, long), re.DOTALL)


_LONG_SESSION = Mark(
    _key_with_long_text(rb'(?<=")(?:%b)', SESSION_KEYS), tuple(key[:3].encode() for key in SESSION_KEYS)
)


@functools.cache
def _long_value(keys: tuple[str, ...]) -> Mark:
    """One of the keys with a long text."""
    return Mark(_key_with_long_text(rb'"(?:%b)', keys), tuple({f'"{key}"'[:3].encode() for key in keys}))


def _has_cut_value(row: RowMarks, apps: Sequence[SourceApp]) -> bool:
    def is_cut(key: str) -> bool:
        value = row.keys.get(key)
        return isinstance(value, str) and len(value) == CUT_LENGTH

    if any(map(is_cut, SESSION_KEYS)):
        return True
    app = app_of(row, apps)
    return app is not None and any(map(is_cut, APP_KEYS[app]))
