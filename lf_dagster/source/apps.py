"""Rows that source apps wrote: Dify and LibreChat (contracts: source-apps 5.3).

A page is looked at as bytes first, since most pages of most projects hold no such row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lf_dagster.config import SourceApp
from lf_dagster.source.marks import Mark

SESSION_KEYS = ("$mixpanel_session_id", "$posthog_session_id")
"""Metadata keys that feed event properties."""

APP_KEYS: Mapping[SourceApp, tuple[str, ...]] = {
    "dify": (
        "error",
        "tool_config",
        "embedding_models",
        "file_list",
        "external_trace_id",
        "parent_trace_context",
        "node_name",
    ),
    "librechat": ("agentName", "langgraph_node"),
}
"""Metadata keys that tables of source apps are made from and that can be long. Keys that hold content (`query`,
`preset_response`, `tool_inputs`, `tool_outputs`, `tool_parameters`) come whole with the rows' inputs and outputs."""

# What the bytes of an app's row have, whichever of the rules below it follows: the first mark where the row has one of
# APP_KEYS, else one of them. They begin with bytes that are rare in rows.
_MARKS: Mapping[SourceApp, tuple[Mark, ...]] = {
    "dify": (
        Mark(
            re.compile(
                rb'_(?:(?<="workflow_)run_id"|(?<="from_)source"|(?<="preset_)response"|(?<="tool_)config"'
                rb'|(?<="generate_)(?:conversation_)?name")'
            ),
            (b"_ru", b"_so", b"_re", b"_co", b"_na"),
        ),
        Mark(re.compile(rb'dify(?<="dify)'), (b"dif",)),
    ),
    "librechat": (
        Mark(re.compile(rb'messageId"(?<="messageId")'), (b"mes",)),
        Mark(re.compile(rb'hat"(?<="librechat")'), (b"hat",)),
    ),
}
_DIFY_TITLES = ("generate_conversation_name", "generate_name")
_LIBRECHAT_RUNS = ("AgentRun", "TitleRun", "MemoryRun")


class RowMarks(msgspec.Struct, rename="camel", gc=False):
    """What tells which app wrote a v2 row."""

    name: Any = None
    trace_name: Any = None
    tags: Any = None
    metadata: Any = None

    @property
    def keys(self) -> dict[str, Any]:
        return self.metadata if isinstance(self.metadata, dict) else {}


read_marks = msgspec.json.Decoder(RowMarks).decode


def marks_of(apps: Sequence[SourceApp], *, with_app_keys: bool = False) -> list[Mark]:
    """Every row of one of the apps has one of these; `with_app_keys`: every one that has APP_KEYS. Others may too."""
    return [mark for app in apps for mark in _MARKS[app][: 1 if with_app_keys else None]]


def app_of(row: RowMarks, apps: Sequence[SourceApp]) -> SourceApp | None:
    """Which of the apps wrote the row, by the marks that the row itself carries."""
    return next((app for app in apps if _RULES[app](row)), None)


def _is_dify(row: RowMarks) -> bool:
    keys = row.keys

    def has(*names: str) -> bool:
        return all(keys.get(name) is not None for name in names)

    return (
        (has("workflow_run_id") and (has("tenant_id") or has("node_execution_id")))
        or has("message_id", "from_source")
        or keys.keys() >= {"message_id", "action", "preset_response"}
        or keys.keys() >= {"tool_name", "tool_config", "time_cost"}
        or (row.name in _DIFY_TITLES and has("conversation_id", "tenant_id"))
        or keys.get("resourceAttributes.service.name") in ("dify", "dify-langfuse-app-trace")
        or any(key.startswith("dify.") for key in keys)
    )


def _is_librechat(row: RowMarks) -> bool:
    if isinstance(row.tags, list) and "librechat" in row.tags:
        return True
    # Before there were tags.
    name, keys = row.trace_name, row.keys
    named = isinstance(name, str) and (name in _LIBRECHAT_RUNS or name.startswith("LibreChat "))
    return named and "messageId" in keys and ("thread_id" in keys or "parentMessageId" in keys)


_RULES: Mapping[SourceApp, Callable[[RowMarks], bool]] = {"dify": _is_dify, "librechat": _is_librechat}
