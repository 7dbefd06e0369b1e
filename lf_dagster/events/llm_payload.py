"""What PostHog is sent as events of LLM analytics (posthog.md 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from lf_dagster.config import PosthogSettings
from lf_dagster.events.catalogue import Property, load_catalogue
from lf_dagster.events.ids import event_digest_sql, event_id_sql, llm_event_digest_sql
from lf_dagster.events.payload import TRUNCATED_PROPERTY
from lf_dagster.events.posthog_payload import PosthogPayload, PosthogV1Payload
from lf_dagster.kinds import EventKind
from lf_dagster.warehouse.database import literal

TWINS: dict[EventKind, tuple[EventKind, ...]] = {
    "ai_trace": ("trace",),
    "ai_generation": ("generation", "observation"),
    "ai_embedding": ("observation",),
    "ai_span": ("observation",),
    "ai_metric": ("score",),
    "ai_feedback": ("score",),
}
"""The kinds of the `langfuse ...` events of the same row."""


class LlmPayload(PosthogPayload):
    """An event of LLM analytics, which is an ordinary event to either protocol.

    Without user it has the anonymous distinct id of the row's `langfuse ...` event, so that both count as one user, and
    makes no person either.
    """

    anonymous_id: ClassVar[str] = "anonymous_id"

    @property
    def properties(self) -> list[Property]:
        """Those without which PostHog makes nothing of the event are always there; content is on request."""
        content = isinstance(self.settings, PosthogSettings) and self.settings.llm_content
        return [
            item
            for item in self.event.sent(self.compatibility)
            if (item.required or self.wants(item.name))
            and not (item.role == "user_url" and self.salt)
            and (content or not item.content)
        ]

    def skip_reason(self) -> str:
        needed = [item.name for item in self.event.properties if item.required]
        excluded = any(name in self.settings.exclude_properties for name in needed)
        if excluded or not all(map(self.wants, self.event.needs)):
            return f"coalesce({super().skip_reason()}, 'filtered:property')"
        return super().skip_reason()

    def value(self, item: Property) -> str:
        if item.role != "model_provider" or not isinstance(self.settings, PosthogSettings):
            return super().value(item)
        cases = [
            f"WHEN lower(ai_model) GLOB {literal(pattern.lower())} THEN {literal(provider)}"
            for pattern, provider in self.settings.llm_providers.items()
        ]
        return f"coalesce({super().value(item)}, CASE {' '.join(cases)} END)" if cases else super().value(item)

    # Ids

    def _counterpart(self) -> str:
        return event_id_sql(event_digest_sql(self.destination, self.project_id, "entity_id"))

    def digest(self) -> str:
        return llm_event_digest_sql(literal(self.event.names["posthog"]), self._counterpart())

    def values(self) -> Iterator[str]:
        yield from super().values()
        yield f"{self._counterpart()} AS anonymous_id"

    def payload_hash(self) -> str:
        """md5: PostHog shows AI events that are sent again twice, which a change of DuckDB's hash must not cause."""
        parts = ", ".join(f"coalesce(({value})::VARCHAR, ''), chr(0)" for value in self.hashed())
        return f"concat('md5-', md5(concat({parts})))"

    def kept_keys(self) -> str:
        """Events that PostHog has only as `langfuse ...` events get the key of those."""
        own = super().kept_keys()
        twins = [event.names["posthog"] for event in load_catalogue(TWINS[self.event.kind])]
        event_id = event_id_sql(llm_event_digest_sql(literal(self.event.names["posthog"]), "event_id"))
        of_twins = (
            f"SELECT hour, {event_id} AS event_id, identity AS key, time_ms AS kept_ms FROM {self.kept} "
            f"WHERE event IN ({', '.join(map(literal, twins))}) AND {self.may_stay()}"
        )
        return (
            f"SELECT * FROM (SELECT *, 1 AS rank FROM ({own}) UNION ALL SELECT *, 2 AS rank FROM ({of_twins})) "
            "QUALIFY row_number() OVER (PARTITION BY hour, event_id ORDER BY rank, key) = 1"
        )

    # What was cut

    def cut(self) -> str:
        cut = next((n for n, item in enumerate(self.properties) if item.name == TRUNCATED_PROPERTY), None)
        if cut is None:
            return super().cut()
        return f"SELECT * REPLACE (truncated || coalesce(p{cut}, []) AS truncated) FROM ({super().cut()})"

    def truncated_fragment(self) -> Iterator[str]:
        if self.wants(TRUNCATED_PROPERTY):
            key = literal(f',"{TRUNCATED_PROPERTY}":')
            yield f"CASE WHEN len(truncated) > 0 THEN {key} || to_json(truncated)::VARCHAR END"


class LlmV1Payload(LlmPayload, PosthogV1Payload):
    """The same in the form of Capture V1."""
