"""Markdown for metadata entries that the open-source UI shows where they stand, without a click.

It does so below 1,000 characters. Cells are texts from outside: as code they can be no link, image or markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from lf_dagster.warehouse import FirstRows

SHOWN_INLINE = 999
"""Characters up to which the UI shows Markdown in the table of metadata."""


def preview_table(shown: FirstRows) -> str:
    """The first rows as a Markdown table, as many as are shown inline, at least one."""
    head = [_row(shown.columns), "|" + "---|" * len(shown.columns)]
    body = [_row([_cell(cell) for cell in row]) for row in shown.rows]
    while len(body) > 1 and len("\n".join([*head, *body])) > SHOWN_INLINE:
        body.pop()
    return "\n".join([*head, *body])


def _row(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"


def _cell(text: str | None) -> str:
    if not text:
        return ""
    return f"`{text.replace('`', chr(39)).replace('|', '/')}`"
