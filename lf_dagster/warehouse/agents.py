"""SQL functions that find an agent in a row, made from a project's settings (docs/agents.md)."""

from __future__ import annotations

from collections.abc import Iterable

from lf_dagster.agents import AgentSettings, agent_group
from lf_dagster.warehouse.database import literal

_ID_KEYS = ("agent_id", "agentId", "agent.id", "gen_ai.agent.id")
_VERSION_KEYS = ("agent_version", "agentVersion", "agent.version", "gen_ai.agent.version")


def agent_macros(settings: AgentSettings) -> str:
    """A script of two functions: `metadata_agent(metadata)`, a struct of name, id and version or NULL, and
    `named_agent(name)`, the agent that the name of a trace or observation tells or NULL."""
    words = {"agent", *(key.split(".")[0] for key in settings.metadata_keys if "agent" not in key)}
    # Most rows hold none of the words: a look at the text is cheaper than reading it.
    there = " OR ".join(f"contains(metadata, {literal(word)})" for word in sorted(words))
    fields = {"name": settings.metadata_keys, "id": _ID_KEYS, "version": _VERSION_KEYS}
    values = ", ".join(f"{field}: {_first_text(keys)}" for field, keys in fields.items())
    names = ", ".join(
        f"nullif(trim(regexp_extract(name, {literal(f'^(?:{pattern})$')}, {agent_group(pattern)})), '')"
        for pattern in settings.name_patterns
    )
    return (
        f"CREATE OR REPLACE TEMP MACRO metadata_agent(metadata) AS CASE WHEN {there} THEN {{{values}}} END;\n"
        f"CREATE OR REPLACE TEMP MACRO named_agent(name) AS coalesce({names or 'NULL'}, NULL::VARCHAR);\n"
    )


def _first_text(keys: Iterable[str]) -> str:
    paths = ", ".join(literal(path) for key in keys for path in _paths(key))
    return f"first_text(json_extract(metadata, [{paths}]))" if paths else "NULL::VARCHAR"


def _paths(key: str) -> list[str]:
    """Where a key may stand: as it is, as an attribute of a span (flattened or nested), and nested at its dots."""
    paths = [f'$."{key}"', f'$."attributes.{key}"', f'$.attributes."{key}"']
    if "." in key:
        paths.append("$" + "".join(f'."{part}"' for part in key.split(".")))
    return paths
