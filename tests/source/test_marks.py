"""A mark is found where its expression is."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.config import SourceApp
from lf_dagster.source.apps import SESSION_KEYS, marks_of
from lf_dagster.source.marks import Mark
from lf_dagster.source.metadata import CUT_LENGTH, PageText, rows_with_cut_value

AB = Mark(re.compile(rb"ab(?<=xab)c?"), (b"abc", b"abd"))


@given(st.text("abcdx", max_size=60).map(str.encode))
def test_places_are_those_of_the_expression(text: bytes) -> None:
    expected = [at.start() for at in AB.pattern.finditer(text) if text[at.start() :][:3] in AB.begins]
    assert list(AB.places(memoryview(text))) == expected


@pytest.mark.parametrize("begins", [(), (b"ab",), (b"abc", b"xbc")])
def test_a_mark_begins_with_one_byte(begins: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        Mark(re.compile(b"abc"), begins)


@pytest.mark.parametrize(
    ("app", "word"),
    [
        *[("dify", word) for word in ("workflow_run_id", "from_source", "preset_response", "tool_config", "dify")],
        *[("dify", word) for word in ("generate_name", "generate_conversation_name")],
        *[("librechat", word) for word in ("messageId", "librechat")],
    ],
)
def test_every_word_of_an_app_is_found_from_its_rare_byte_on(app: SourceApp, word: str) -> None:
    assert PageText(pa.array([f'{{"{word}":1}}'])).rows_with(marks_of([app])) == {0}
    assert PageText(pa.array([f'{{"x{word[:-1]}":1}}'])).rows_with(marks_of([app])) == set()


VALUES = st.text(st.sampled_from('a"\\\n\u00e9\U0001f389,:{}'), min_size=0, max_size=8).flatmap(
    lambda text: st.sampled_from([text, text.ljust(CUT_LENGTH, "x"), text.ljust(CUT_LENGTH + 1, "y"), text.ljust(199)])
)
ROWS = st.fixed_dictionaries(
    {
        "id": VALUES,
        "metadata": st.dictionaries(st.sampled_from([*SESSION_KEYS, "other", "a$mixpanel_session_id"]), VALUES),
    }
)


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.booleans())
def test_rows_with_a_cut_value_are_those_whose_json_says_so(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    """Whatever is escaped in them and around them."""
    texts = [json.dumps(row, ensure_ascii=ascii_only, separators=(",", ":")) for row in rows]
    cut = [
        number
        for number, row in enumerate(rows)
        if any(len(row["metadata"].get(key, "")) == CUT_LENGTH for key in SESSION_KEYS)
    ]
    page = PageText(pa.array(["ahead", *texts], pa.string())[1:])
    assert sorted(rows_with_cut_value(page, ())) == cut
