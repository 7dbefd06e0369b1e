"""SQL predicates over a prepared event's JSON text, shared by the destinations' local rules.

Exact checks work on the structure of the JSON (its text without strings and scalars) and are dear, so each stands
behind a cheap test that nearly every event passes.
"""

from __future__ import annotations

from collections.abc import Sequence

from lf_dagster.destinations.base import INVALID, Rule
from lf_dagster.events.nobody import bare

_STRUCTURE = r"""regexp_replace(payload, '"(?:[^"\\]|\\.)*"', '', 'g')"""
_FLAT_CONTAINER = r"[\[{][^\[\]{}]*[\]}]"
_DEEPEST = 3


def bytes_over(limit: int) -> str:
    """More than `limit` bytes of JSON."""
    return f"payload_bytes > {limit}"


def not_json() -> str:
    """Not JSON, a lone surrogate (cannot become UTF-8), or NaN and Infinity, which DuckDB's JSON lets pass."""
    spelled = " OR ".join(f"contains(payload, '{word}')" for word in ("NaN", "Inf", "nan", "inf"))
    bare = rf"regexp_matches({_STRUCTURE}, '(?i)[:,\[]\s*-?(nan|inf)')"
    return f"NOT coalesce(json_valid(payload), false) OR {_guarded(spelled, bare)}"


def deeper_than(depth: int) -> str:
    """A property whose value nests containers deeper than `depth`, at most 3: the event and its `properties` apart."""
    left = _without_containers(depth + 2)
    opening = "len(string_split(payload, '{')) + len(string_split(payload, '[')) - 2"
    return _guarded(f"{opening} > {depth + 2}", f"regexp_matches({left}, '[\\[{{]')")


def container_over(elements: int) -> str:
    """An object or array (the properties themselves included) with more than `elements` members.

    A container can be counted once those inside it are gone, so the innermost ones are taken out round by round.
    Wants events that `deeper_than` lets pass.
    """
    wide = rf"[\[{{](?:[^\[\]{{}},]*,){{{elements}}}"
    rounds = [f"regexp_matches({_without_containers(level)}, '{wide}')" for level in range(_DEEPEST + 2)]
    return _guarded(f"len(string_split(payload, ',')) > {elements}", " OR ".join(rounds))


def _without_containers(layers: int) -> str:
    text = _STRUCTURE
    for _ in range(layers):
        text = f"regexp_replace({text}, '{_FLAT_CONTAINER}', '', 'g')"
    return text


def _guarded(cheap: str, exact: str) -> str:
    """CASE and not AND: only CASE keeps DuckDB from evaluating the exact test for every row."""
    return f"CASE WHEN {cheap} THEN {exact} ELSE false END"


def one_of(column: str, values: Sequence[str]) -> str:
    """Equal to one of the values, case and surrounding blanks apart."""
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"list_contains([{listed}], lower({bare(column)}))"


def first_reason(rules: Sequence[Rule]) -> str:
    """SQL for the reason of the first rule that holds, NULL when none does."""
    if not rules:
        return "NULL::VARCHAR"
    cases = " ".join(f"WHEN {rule.predicate} THEN '{_quoted(rule.reason)}'" for rule in rules)
    return f"CASE {cases} END"


def invalid(what: str, predicate: str, *, of_form: bool = False) -> Rule:
    """A local rule; `what` ends up in the ledger behind `invalid:`."""
    return Rule(f"{INVALID}:{what}", predicate, of_form)


def _quoted(text: str) -> str:
    return text.replace("'", "''")
