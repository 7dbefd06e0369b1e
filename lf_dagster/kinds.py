"""Kinds of events, and which of them are shipped."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, WithJsonSchema

ExtraEvent = Literal[
    "agent_run", "session",
    "dify_workflow_run", "dify_workflow_node", "dify_message", "dify_moderation", "dify_retrieval", "dify_tool_call",
    "dify_suggested_questions", "dify_conversation_named",
    "librechat_turn", "librechat_tool_call", "librechat_conversation", "librechat_feedback",
]  # fmt: skip
"""Kinds of events that Langfuse's own integrations do not have; made on request."""
LlmEvent = Literal["ai_trace", "ai_generation", "ai_embedding", "ai_span", "ai_metric", "ai_feedback"]
"""Kinds of events that PostHog's LLM analytics knows; made with `posthog.llm_analytics`."""
EventKind = Literal["trace", "generation", "score", "observation", ExtraEvent, LlmEvent]
EXTRA_EVENTS: tuple[ExtraEvent, ...] = get_args(ExtraEvent)
LLM_EVENTS: tuple[LlmEvent, ...] = get_args(LlmEvent)
# YAML reads `off` as false.
LlmAnalytics = Annotated[
    Literal["off", "beside", "instead"],
    BeforeValidator(lambda value: "off" if value is False else value),
    WithJsonSchema({"enum": ["off", "beside", "instead", False]}),
]


def kinds_shipped(
    extra: Collection[ExtraEvent], *, observations: bool, llm_analytics: LlmAnalytics
) -> tuple[EventKind, ...]:
    """Kinds that a destination is sent, in the order of the catalogue.

    `extra` are asked for by name; `observations` adds one event per observation. `llm_analytics: instead` leaves out
    the kinds that LLM analytics has a form for.
    """
    own: tuple[EventKind, ...] = ("trace", "generation", "score")
    own = (*own, "observation") if observations else own
    own = () if llm_analytics == "instead" else own
    llm = () if llm_analytics == "off" else LLM_EVENTS
    return (*own, *(kind for kind in EXTRA_EVENTS if kind in extra), *llm)
