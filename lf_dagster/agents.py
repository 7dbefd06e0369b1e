"""How agents are recognised in traces (docs/agents.md).

Settings alone; `lf_dagster.warehouse.agents` makes SQL of them.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAME_KEYS = ("agent_name", "agentName", "agent.name", "gen_ai.agent.name")
NAME_PATTERNS = (r"LibreChat Agent: (?P<agent>.+)", r"invoke_agent (?P<agent>.+)")


class AgentSettings(BaseModel):
    """Where an agent's name is looked for beside tags `agent:<name>`, which come first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metadata_keys: tuple[str, ...] = Field(
        default=NAME_KEYS, description="Metadata keys that hold an agent's name, the first that is there wins."
    )
    name_patterns: tuple[Annotated[str, Field(json_schema_extra={"pattern": r"\(\?P<agent>"})], ...] = Field(
        default=NAME_PATTERNS,
        description="Regular expressions (RE2) for the whole name of a trace or of one of its observations, each with "
        "a group named `agent`. `(?P<agent>.+) run` is not among the default ones.",
    )

    @field_validator("metadata_keys")
    @classmethod
    def _keys_are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [key for key in value if not key.strip() or '"' in key or "\\" in key]:
            raise ValueError(f"metadata keys, not empty, without quotation marks and backslashes, not {bad[0]!r}")
        return value

    @field_validator("name_patterns")
    @classmethod
    def _patterns_run(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            _check_pattern(pattern)
        return value


def agent_group(pattern: str) -> int:
    """Number of the group `agent` in a pattern; ValueError when there is none."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {pattern!r} ({error})") from None
    if "agent" not in groups:
        raise ValueError(f"no group named agent, as in '(?P<agent>.+) run': {pattern!r}")
    return groups["agent"]


@functools.cache
def _check_pattern(pattern: str) -> None:
    """The engine that runs the pattern is DuckDB's RE2, which knows less than Python (no look-around)."""
    import duckdb

    group = agent_group(pattern)
    # As a literal: for a parameter DuckDB would import pandas, in every process that loads the settings.
    quoted = pattern.replace("'", "''")
    try:
        with duckdb.connect(":memory:") as con:
            con.execute(f"SELECT regexp_extract('', '{quoted}', {group})")
    except duckdb.Error as error:
        raise ValueError(f"not a regular expression of RE2: {pattern!r} ({error})") from None
