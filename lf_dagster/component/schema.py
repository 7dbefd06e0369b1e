"""The JSON schema of a component's attributes, made so that each mistake is told at its own line.

`dg check yaml` prints the outermost errors of a schema alone. For `anyOf`, which pydantic writes for everything that
may be left out, that is "not valid under any of the given schemas", at the line of the whole block. So alternatives
become conditions, whose errors are told one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_DEFINITIONS = "#/$defs/"


def with_errors_in_place(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same JSON schema without alternatives that hide where and why something is wrong.

    Fields that may be left out may not be empty (`null`), but for whole blocks, whose emptiness `ProjectAttributes`
    judges.
    """
    return {name: _rewritten(value) for name, value in schema.items()}


def _rewritten(value: Any) -> Any:
    if isinstance(value, list):
        return [_rewritten(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "anyOf" in value and isinstance(value["anyOf"], list):
        value = {**{name: item for name, item in value.items() if name != "anyOf"}, **_told_apart(value["anyOf"])}
    return {name: _rewritten(item) if name != "anyOf" else item for name, item in value.items()}


def _told_apart(choices: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What replaces `anyOf`: the only choice, a list of values, or a block's own schema where a block was given."""
    given = [choice for choice in choices if choice.get("type") != "null"]
    block = next((choice for choice in given if str(choice.get("$ref", "")).startswith(_DEFINITIONS)), None)
    if block is not None:
        # Any block passes the alternative, so that what is wrong inside is told by the condition.
        return {"anyOf": [*choices, {"type": "object"}], "if": {"type": "object"}, "then": dict(block)}
    if len(given) == 1:
        return dict(given[0])
    values = list(_values(given))
    return {"enum": values} if values else {"anyOf": choices}


def _values(choices: list[Mapping[str, Any]]) -> Iterator[Any]:
    """The values of choices that are switches or words; none when one of them is neither."""
    if not all(choice.get("type") == "boolean" or "const" in choice for choice in choices):
        return
    for choice in choices:
        yield from (choice["const"],) if "const" in choice else (True, False)
