"""Traces being drawn, and how they become stored rows on both ingestion paths (contract 10 and 11.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lf_dagster.simulators.langfuse import rows, traces
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.values import iso, stored_text

_SDK_METADATA = {
    "scope.name": "langfuse-sdk",
    "scope.version": "4.18.0",
    "scope.attributes.public_key": "pk-lf-local",
    "resourceAttributes.service.name": "shop-assistant",
    "resourceAttributes.telemetry.sdk.language": "python",
}
_DIRECT_DELAY_MS = 800
DUAL_DELAY_MS = 12 * 60_000


@dataclass
class Span:
    """One observation. `end_ms` None: still open; `usage` and `cost` are raw buckets; `own` is its own metadata."""

    id: str
    parent: str | None
    type: str
    name: str
    start_ms: int
    end_ms: int | None
    level: str = "DEFAULT"
    status: str = ""
    first_token_ms: int | None = None
    model: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    prompt: tuple[str, str, int] | None = None
    own: dict[str, Any] = field(default_factory=dict)
    input: str | None = None
    output: str | None = None
    version: str = ""
    app_root: bool = False

    @property
    def last_ms(self) -> int:
        return max(self.start_ms, self.end_ms or self.start_ms)


@dataclass
class Draft:
    """One trace. `direct`: through OpenTelemetry; `propagate`: its attributes reach every span, not only the root.
    `late_ms`: how much later than usual everything arrives."""

    id: str
    start_ms: int
    name: str
    user_id: str
    session_id: str
    environment: str
    tags: list[str]
    release: str
    version: str
    public: bool
    bookmarked: bool
    metadata: dict[str, Any]
    direct: bool
    propagate: bool
    spans: list[Span] = field(default_factory=list)
    late_ms: int = 0

    @property
    def last_ms(self) -> int:
        return max([self.start_ms, *(span.last_ms for span in self.spans)])

    def arrival_ms(self, span: Span) -> int:
        """When the new generation shows this span: at its end, and later through the staging of the legacy path."""
        if self.direct:
            return span.last_ms + _DIRECT_DELAY_MS + self.late_ms
        return self.last_ms + DUAL_DELAY_MS + self.late_ms


def commit(draft: Draft, store: Store) -> None:
    """Store the trace and its observations, visible from the moments at which they arrive."""
    for span in draft.spans:
        arrival = draft.arrival_ms(span)
        store.put_observation(observation_row(draft, span, store.project.id, arrival), at_ms=arrival)
    if draft.direct and not draft.spans:
        return
    arrival = min([draft.arrival_ms(span) for span in draft.spans], default=draft.last_ms + DUAL_DELAY_MS)
    store.put_trace(trace_row(draft, store.project.id, arrival), at_ms=arrival)
    if not draft.direct:
        store.put_observation(synthetic_root(draft, store.project.id, arrival), at_ms=arrival)


def observation_row(draft: Draft, span: Span, project_id: str, written_ms: int) -> dict[str, Any]:
    """Stored columns of a span as of the moment it was written."""
    root = span.parent is None or span.app_root
    shares = draft.propagate or root or not draft.direct
    parent = span.parent if span.parent is not None or draft.direct else f"t-{draft.id}"
    merged = {**(draft.metadata if shares else {}), **span.own}
    texts = {key: stored_text(value) for key, value in merged.items()}
    if draft.direct:
        texts.update(_SDK_METADATA)
    prompt = span.prompt or ("", "", None)
    created = written_ms if draft.direct else written_ms - written_ms % 1000
    return rows.observation(
        id=span.id,
        trace_id=draft.id,
        start_time=iso(span.start_ms),
        project_id=project_id,
        parentObservationId=parent,
        type=span.type,
        name=span.name,
        endTime=None if span.end_ms is None else iso(span.end_ms),
        level=span.level,
        statusMessage=span.status,
        version=span.version or (draft.version if shares else ""),
        environment=draft.environment,
        completionStartTime=None if span.first_token_ms is None else iso(span.first_token_ms),
        createdAt=iso(created),
        updatedAt=iso(written_ms),
        input=span.input,
        output=span.output,
        metadata=texts,
        usageDetails=span.usage,
        costDetails=span.cost,
        promptId=prompt[0],
        promptName=prompt[1],
        promptVersion=prompt[2],
        traceName=_trace_name(draft, span, shares=shares, root=root),
        isRootObservation=root and draft.direct,
        traceMetadataKeys=[key for key in draft.metadata if key not in span.own],
        legacy=None if draft.direct else {"version": span.version or None},
        **(_shared(draft) if shares else {}),
        **span.model,
    )


def synthetic_root(draft: Draft, project_id: str, written_ms: int) -> dict[str, Any]:
    """The `t-` row that the dual write path makes of a trace."""
    return rows.observation(
        id=f"t-{draft.id}",
        trace_id=draft.id,
        start_time=iso(draft.start_ms),
        project_id=project_id,
        name=draft.name,
        version=draft.version,
        environment=draft.environment,
        createdAt=iso(written_ms - written_ms % 1000),
        updatedAt=iso(written_ms),
        metadata={key: stored_text(value) for key, value in draft.metadata.items()},
        modelParameters={},
        traceName=draft.name or None,
        isRootObservation=True,
        bookmarked=draft.bookmarked,
        public=draft.public,
        **_shared(draft),
    )


def trace_row(draft: Draft, project_id: str, written_ms: int) -> dict[str, Any]:
    """Stored columns of the legacy trace."""
    root = next((span for span in draft.spans if span.parent is None or span.app_root), None)
    metadata = {**draft.metadata, **(root.own if root and draft.direct else {})}
    return traces.trace(
        id=draft.id,
        timestamp=iso(draft.start_ms),
        project_id=project_id,
        name=draft.name or (root.name if root and draft.direct else None),
        environment=draft.environment,
        tags=sorted(draft.tags),
        bookmarked=draft.bookmarked,
        release=draft.release or None,
        version=draft.version or None,
        userId=draft.user_id or None,
        sessionId=draft.session_id or None,
        public=draft.public,
        createdAt=iso(written_ms - written_ms % 1000),
        updatedAt=iso(written_ms),
        metadata={key: stored_text(value) for key, value in metadata.items()},
        input=root.input if root else None,
        output=root.output if root else None,
    )


def _shared(draft: Draft) -> dict[str, Any]:
    return {
        "userId": draft.user_id,
        "sessionId": draft.session_id,
        "tags": list(draft.tags),
        "release": draft.release,
    }


def _trace_name(draft: Draft, span: Span, *, shares: bool, root: bool) -> str | None:
    if shares and draft.name:
        return draft.name
    return span.name or None if root else None
