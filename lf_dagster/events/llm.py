"""SQL functions behind the events of PostHog's LLM analytics: ids, metrics as text, and content (posthog.md 14).

Content is whatever an application logged. It is passed on as JSON where it is JSON, and as text where it is not, where
a strict reader would refuse it, or where it is too long.
"""

from __future__ import annotations

from lf_dagster.events.ids import NAMESPACES, event_id_sql

MOST_CONTENT_BYTES = 400_000
"""JSON of one input or output. An event of 1 MB is refused (posthog.md 6), and has two of them beside the rest."""

_CUT_CHARACTERS = (300_000, 60_000)
"""What is kept of a longer one; the second where escapes make the first too long (a character is at most 6 bytes)."""

# Letters, digits and some marks: what PostHog takes in ids of traces and sessions (posthog.md 14.2).
_ID = "[A-Za-z0-9_~.@()!'':|-]+"
_JSON_STRING = r'"(?:[^"\\]|\\.)*"'

_NO_CONTENT = """
        CREATE OR REPLACE TEMP MACRO llm_messages(text, speaker) AS NULL::JSON;
        CREATE OR REPLACE TEMP MACRO llm_state(text) AS NULL::JSON;
        CREATE OR REPLACE TEMP MACRO llm_cut(names) AS NULL::VARCHAR[];
        CREATE OR REPLACE TEMP MACRO llm_cut_messages(name, text, speaker) AS NULL::VARCHAR;
        CREATE OR REPLACE TEMP MACRO llm_cut_state(name, text) AS NULL::VARCHAR;
"""

# PostHog's parser gives up at 128 levels, the event's own included. A pass takes 16 levels out of a text of brackets.
_PASSES, _LEVELS = 6, 16


def llm_macros_sql(*, content: bool) -> str:
    """Temporary macros that the catalogue's expressions call. Without `content`, every input and output is NULL."""
    digest = f"sha1(from_hex('{NAMESPACES['posthog'].hex}') || encode(id))"
    return f"""
        {_content_macros() if content else _NO_CONTENT}
        CREATE OR REPLACE TEMP MACRO llm_id(id) AS
            CASE WHEN regexp_full_match(id, '{_ID}') THEN id WHEN id <> '' THEN {event_id_sql(digest)} END;
        CREATE OR REPLACE TEMP MACRO llm_seconds(seconds) AS
            CASE WHEN seconds >= 0 AND isfinite(seconds::DOUBLE) THEN seconds::DOUBLE END;
        CREATE OR REPLACE TEMP MACRO llm_number(number) AS CASE
            WHEN NOT isfinite(number) THEN NULL
            WHEN number = trunc(number) AND abs(number) < 1e15 THEN number::BIGINT::VARCHAR
            ELSE number::VARCHAR END;
        CREATE OR REPLACE TEMP MACRO llm_metric(data_type, value_num, value_bool, value_str) AS CASE
            WHEN data_type = 'BOOLEAN' THEN value_bool::VARCHAR
            WHEN data_type = 'NUMERIC' THEN llm_number(value_num)
            ELSE coalesce(nullif(value_str, ''), llm_number(value_num)) END;
        CREATE OR REPLACE TEMP MACRO llm_feedback(data_type, value_str, comment) AS
            coalesce(CASE WHEN data_type = 'TEXT' THEN nullif(trim(value_str), '') END, nullif(trim(comment), ''));
    """


def _content_macros() -> str:
    long, short = (f"left(text, {characters})" for characters in _CUT_CHARACTERS)
    return f"""
        -- DuckDB takes NaN and Infinity for JSON, which nobody else does.
        CREATE OR REPLACE TEMP MACRO llm_is_json(text) AS CASE
            WHEN NOT regexp_matches(text, '^\\s*[\\[{{]') OR try_cast(text AS JSON) IS NULL THEN false
            WHEN regexp_matches(text, '(?i)nan|inf')
                THEN NOT regexp_matches(regexp_replace(text, '{_JSON_STRING}', '', 'g'), '(?i)nan|inf')
            ELSE true END;
        CREATE OR REPLACE TEMP MACRO llm_is_deep(text) AS
            CASE WHEN len(string_split(text, '[')) + len(string_split(text, '{{')) > {_PASSES * _LEVELS}
                THEN contains({_shallow()}, '[') ELSE false END;
        CREATE OR REPLACE TEMP MACRO llm_json(text) AS
            CASE WHEN llm_is_json(text) AND NOT llm_is_deep(text) THEN try_cast(text AS JSON) END;
        CREATE OR REPLACE TEMP MACRO llm_are_messages(value) AS coalesce(json_type(value) = 'ARRAY'
            AND json_array_length(value) > 0 AND len(list_filter(json_extract(value, '$[*].role'),
                lambda role: json_type(role) = 'VARCHAR')) = json_array_length(value), false);
        CREATE OR REPLACE TEMP MACRO llm_as_message(text, speaker) AS
            to_json([{{'role': speaker, 'content': text}}]);
        CREATE OR REPLACE TEMP MACRO llm_whole_messages(value, text, speaker) AS CASE
            WHEN llm_are_messages(value) THEN value
            WHEN llm_are_messages(json_extract(value, '$.messages')) THEN json_extract(value, '$.messages')
            WHEN json_type(value, '$.role') = 'VARCHAR' THEN to_json([value])
            WHEN json_type(value, '$.choices[0].message.role') = 'VARCHAR'
                THEN to_json(json_extract(value, '$.choices[*].message'))
            ELSE llm_as_message(text, speaker) END;
        CREATE OR REPLACE TEMP MACRO llm_beginning(text) AS CASE
            WHEN strlen(to_json({long})::VARCHAR) < {MOST_CONTENT_BYTES - 100} THEN {long} ELSE {short} END;
        CREATE OR REPLACE TEMP MACRO llm_is_long(value) AS
            coalesce(strlen(value::VARCHAR) > {MOST_CONTENT_BYTES}, false);

        CREATE OR REPLACE TEMP MACRO llm_any_messages(text, speaker) AS
            CASE WHEN text IS NOT NULL THEN llm_whole_messages(llm_json(text), text, speaker) END;
        CREATE OR REPLACE TEMP MACRO llm_any_state(text) AS
            CASE WHEN text IS NOT NULL THEN coalesce(llm_json(text), to_json(text)) END;
        CREATE OR REPLACE TEMP MACRO llm_messages(text, speaker) AS
            CASE WHEN llm_is_long(llm_any_messages(text, speaker))
                THEN llm_as_message(llm_beginning(text), speaker)
                ELSE llm_any_messages(text, speaker) END;
        CREATE OR REPLACE TEMP MACRO llm_state(text) AS
            CASE WHEN llm_is_long(llm_any_state(text)) THEN to_json(llm_beginning(text))
                ELSE llm_any_state(text) END;
        CREATE OR REPLACE TEMP MACRO llm_cut_messages(name, text, speaker) AS
            CASE WHEN llm_is_long(llm_any_messages(text, speaker)) THEN name END;
        CREATE OR REPLACE TEMP MACRO llm_cut_state(name, text) AS
            CASE WHEN llm_is_long(llm_any_state(text)) THEN name END;
        CREATE OR REPLACE TEMP MACRO llm_cut(names) AS
            nullif(list_filter(names, lambda name: name IS NOT NULL), []);
    """


def _shallow() -> str:
    """SQL: what is left of the brackets of `text`, all of one kind, once so many levels are taken out of it."""
    brackets = f"regexp_replace(regexp_replace(text, '{_JSON_STRING}', '', 'g'), '[^\\[\\]{{}}]', '', 'g')"
    left, levels = f"translate({brackets}, '{{}}', '[]')", ""
    for _ in range(_LEVELS):
        levels = f"\\[({levels})*\\]"
    for _ in range(_PASSES):
        left = f"regexp_replace({left}, '{levels}', '', 'g')"
    return left
