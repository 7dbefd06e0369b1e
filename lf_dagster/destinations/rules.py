"""SQL predicates over a prepared event's JSON text, shared by the destinations' local rules.

Exact checks work on the structure of the JSON (its text without strings and scalars) and are dear, so each stands
behind a cheap test that nearly every event passes.
"""

from __future__ import annotations

from collections.abc import Sequence

from lf_dagster.destinations.base import INVALID, Rule

_WITHOUT_STRINGS = r"""regexp_replace(payload, '"(?:[^"\\]|\\.)*"', '', 'g')"""
_BRACKETS = rf"regexp_replace({_WITHOUT_STRINGS}, '[^\[\]{{}}]', '', 'g')"


def bytes_over(limit: int) -> str:
    """More than `limit` bytes of JSON."""
    return f"strlen(payload) > {limit}"


def not_json() -> str:
    """Not JSON, a lone surrogate (cannot become UTF-8), or NaN and Infinity, which DuckDB's JSON lets pass."""
    spelled = " OR ".join(f"contains(payload, '{word}')" for word in ("NaN", "Inf", "nan", "inf"))
    bare = rf"regexp_matches({_WITHOUT_STRINGS}, '(?i)[:,\[]\s*-?(nan|inf)')"
    return f"NOT coalesce(json_valid(payload), false) OR (({spelled}) AND {bare})"


def deeper_than(depth: int) -> str:
    """A property whose value nests containers deeper than `depth`.

    Each round takes the innermost empty containers out of the bracket text; what is left after the event, its
    `properties` and `depth` levels is too deep.
    """
    text = _BRACKETS
    for _ in range(depth + 2):
        text = rf"regexp_replace({text}, '\{{\}}|\[\]', '', 'g')"
    nested = " OR ".join(f"payload LIKE '{pattern}'" for pattern in ("%{%{%{%", "%[%[%"))
    return f"(({nested}) AND {text} <> '')"


def container_over(elements: int) -> str:
    """An object or array (the properties themselves included) with more than `elements` members."""
    commas = f"len(string_split(payload, ',')) > {elements}"
    widest = "(SELECT max(n) FROM (SELECT count(*) AS n FROM json_tree(payload) GROUP BY parent))"
    return f"({commas} AND {widest} > {elements})"


def one_of(column: str, values: Sequence[str]) -> str:
    """Equal to one of the values, case and surrounding blanks apart."""
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"lower(trim({column})) IN ({listed})"


def first_reason(rules: Sequence[Rule]) -> str:
    """SQL for the reason of the first rule that holds, NULL when none does."""
    if not rules:
        return "NULL::VARCHAR"
    cases = " ".join(f"WHEN {rule.predicate} THEN '{_quoted(rule.reason)}'" for rule in rules)
    return f"CASE {cases} END"


def invalid(what: str, predicate: str) -> Rule:
    """A local rule; `what` ends up in the ledger behind `invalid:`."""
    return Rule(f"{INVALID}:{what}", predicate)


def _quoted(text: str) -> str:
    return text.replace("'", "''")
