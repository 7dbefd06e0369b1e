"""What a reader finds on a report's page."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Key figures, tables (also those of numbers below charts), charts, and empty cards, by their keys."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.figures: dict[str, float | None] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.charts: set[str] = set()
        self.empty: dict[str, str] = {}
        self.tags: list[str] = []
        self.text = ""
        self._table: list[list[str]] | None = None
        self._cell = False
        self._empty: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if (key := found.get("data-kpi")) is not None:
            value = found.get("data-value")
            self.figures[key] = float(value) if value else None
        for name in ("data-table", "data-numbers"):
            if (key := found.get(name)) is not None:
                self._table = self.tables.setdefault(key, [])
        if (key := found.get("data-chart")) is not None:
            self.charts.add(key)
        if (key := found.get("data-empty")) is not None:
            self._empty = key
            self.empty[key] = ""
        if self._table is not None and tag == "tr":
            self._table.append([])
        if self._table is not None and tag in ("td", "th"):
            self._table[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        if tag == "table":
            self._table = None
        if tag == "section":
            self._empty = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._table and self._cell:
            self._table[-1][-1] += data
        if self._empty:
            self.empty[self._empty] += data

    def rows(self, key: str) -> list[dict[str, str]]:
        """A table's rows by the names of its columns."""
        head, *rows = self.tables[key]
        return [dict(zip(head, row, strict=True)) for row in rows]
