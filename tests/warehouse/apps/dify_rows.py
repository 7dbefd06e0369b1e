"""Rows of Dify in the shape of its legacy writer, for `samples.sent`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

UUID = "00000000-0000-4000-8000-0000000000{:02d}"
RUN, NODE, LOG, TENANT, MESSAGE = (UUID.format(number) for number in range(5))
DAY = "2026-11-20T"


def at(text: str) -> datetime:
    """A time of the day that all rows are of."""
    return datetime.fromisoformat(f"{DAY}{text}").replace(tzinfo=timezone.utc)


def node(id_: str = NODE, *, run: str = RUN, trace: str = RUN, **changes: Any) -> dict[str, Any]:
    """A workflow node."""
    metadata = {
        "workflow_run_id": run, "node_execution_id": id_, "tenant_id": TENANT, "app_id": "app", "node_name": "Step",
        "node_type": "code", "status": "succeeded", **changes.pop("metadata", {}),
    }  # fmt: skip
    row = {"id": id_, "traceId": trace, "name": "Step", "startTime": f"{DAY}09:00:00Z", "endTime": f"{DAY}09:00:01Z"}
    return {**row, "metadata": metadata, **changes}


def run_metadata(run: str = RUN, **changes: Any) -> dict[str, Any]:
    """What Dify says of a run, on its trace and its span."""
    return {
        "workflow_run_id": run, "workflow_id": "flow", "tenant_id": TENANT, "app_id": "app", "status": "succeeded",
        "elapsed_time": 1.5, "total_tokens": 30, "workflow_app_log_id": LOG, **changes,
    }  # fmt: skip


def run_trace(*, run: str = RUN, trace: str = RUN, **changes: Any) -> dict[str, Any]:
    """The trace of a workflow app's run."""
    metadata = run_metadata(run, **changes.pop("metadata", {}))
    row = {"id": trace, "name": "workflow", "timestamp": f"{DAY}09:00:05Z", "tags": ["workflow"], "userId": "u"}
    return {**row, "metadata": metadata, **changes}


def run_span(run: str = RUN, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """The span of a chatflow's run."""
    metadata = run_metadata(run, conversation_id="c", workflow_app_log_id=None, **changes.pop("metadata", {}))
    row = {"id": run, "traceId": trace, "name": "workflow", "startTime": f"{DAY}09:00:00Z"}
    return {**row, "endTime": f"{DAY}09:00:02Z", "metadata": metadata, **changes}


def message_metadata(message: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """What Dify says of a message, on its trace and its generation."""
    return {
        "message_id": message, "conversation_id": "c", "ls_provider": "openai", "ls_model_name": "gpt-4",
        "status": "normal", "from_end_user_id": "e", "from_account_id": None, "agent_based": False,
        "workflow_run_id": None, "from_source": "api", **changes,
    }  # fmt: skip


def message_trace(message: str = MESSAGE, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """The trace of a chat message."""
    metadata = message_metadata(message, **changes.pop("metadata", {}))
    row = {"id": trace, "name": "message", "timestamp": f"{DAY}09:00:05Z", "tags": ["message", "chat"], "userId": "u"}
    return {**row, "metadata": metadata, **changes}


def llm(message: str = MESSAGE, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """The generation of a chat message."""
    metadata = message_metadata(message, **changes.pop("metadata", {}))
    row = {
        "id": f"llm-{message}", "traceId": trace, "name": "llm", "type": "GENERATION", "model": "gpt-4",
        "startTime": f"{DAY}09:00:00Z", "endTime": f"{DAY}09:00:02Z",
        "usageDetails": {"input": 5, "output": 7, "total": 12}, "costDetails": {"total": 0.25},
    }  # fmt: skip
    return {**row, "metadata": metadata, **changes}


def moderation(message: str = MESSAGE, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """A moderation."""
    metadata = {"message_id": message, "action": "direct_output", "preset_response": "no", "query": "q"}
    row = {"id": f"moderation-{message}", "traceId": trace, "name": "moderation", "startTime": f"{DAY}08:59:59Z"}
    return {**row, "endTime": f"{DAY}08:59:59.5Z", "metadata": {**metadata, **changes.pop("metadata", {})}, **changes}


def suggestion(message: str = MESSAGE, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """Suggested questions, whose usage counts characters."""
    metadata = message_metadata(message, **changes.pop("metadata", {}))
    row = {
        "id": f"suggestion-{message}", "traceId": trace, "name": "suggested_question", "type": "GENERATION",
        "startTime": f"{DAY}09:00:03Z", "endTime": f"{DAY}09:00:04Z",
        "usageDetails": {"input": 1, "output": 3, "total": 84},
    }  # fmt: skip
    return {**row, "metadata": metadata, **changes}


def tool(message: str = MESSAGE, *, trace: str = MESSAGE, **changes: Any) -> dict[str, Any]:
    """A tool call of an agent."""
    metadata = {
        "message_id": message, "tool_name": "weather", "tool_inputs": {"city": "Oslo"}, "tool_outputs": "rain",
        "tool_config": {"tool_provider": "w", "tool_provider_type": "api"}, "time_cost": 0.5, "error": None,
        **changes.pop("metadata", {}),
    }  # fmt: skip
    row = {"id": f"tool-{message}", "traceId": trace, "name": "weather", "startTime": f"{DAY}09:00:01Z"}
    return {**row, "metadata": metadata, **changes}
