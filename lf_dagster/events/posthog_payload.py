"""What PostHog is sent, in the forms of its two protocols; events of LLM analytics: `llm_payload`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import ClassVar

from lf_dagster.events.cutting import POSTHOG_MAX_DISTINCT_ID
from lf_dagster.events.ids import DestinationName
from lf_dagster.events.keys import LIBRARY, iso, posthog_id, posthog_time
from lf_dagster.events.nobody import POSTHOG_ILLEGAL_IDS
from lf_dagster.events.payload import Payload
from lf_dagster.warehouse.database import literal


class PosthogPayload(Payload):
    """An event of `/batch/` (posthog.md 3); `PosthogV1Payload` has the same content in the V1 form."""

    destination: ClassVar[DestinationName] = "posthog"
    session_property: ClassVar[str] = "$session_id"
    max_distinct_id: ClassVar[int] = POSTHOG_MAX_DISTINCT_ID

    @property
    def bad_ids(self) -> tuple[str, ...]:
        return POSTHOG_ILLEGAL_IDS if self.documented else ()

    def session(self) -> str:
        session = self.context("posthog_session_id")
        return session if self.documented else f"coalesce({session}, '')"

    anonymous_id: ClassVar[str] = "event_id"
    """Column with the distinct id of an event without user."""

    def distinct_id(self) -> str:
        return f"coalesce(user_sent, {self.anonymous_id})"

    def identity(self) -> str:
        # The day in UTC; `timezone` would ask a calendar, which takes as long as all the rest of a key.
        return "concat(distinct_id, '|', make_timestamp(epoch_us(event_time))::DATE)"

    def kept_id(self, identity: str) -> str:
        return posthog_id(identity)

    def kept_values(self) -> dict[str, str]:
        """Within its day an event may move; a person's id stays one, and the anonymous one stays without person."""
        kept_id = self.kept_id("key")
        return {
            "distinct_id": kept_id,
            "identified": f"if({kept_id} = distinct_id, identified, {kept_id} <> {self.anonymous_id})",
            "time_ms": f"if(right(key, 10) = right(identity, 10), time_ms, {posthog_time('key', 'kept_ms')})",
        }

    def body(self) -> Iterator[str]:
        yield """'"$geoip_disable":true'"""  # else every user gets the place of this machine (posthog.md 3)
        yield from self.property_fragments()
        url = next((n for n, item in enumerate(self.properties) if item.role == "user_url"), None)
        if url is not None and self.wants("$set"):
            # Only of the person that the event belongs to: under a kept id the link is someone else's.
            link = f"CASE WHEN identified AND distinct_id = user_sent THEN to_json(p{url})::VARCHAR END"
            yield f"""',"$set":{{"langfuse_user_url":' || {link} || '}}'"""
        yield from self.time_fragment()
        yield from self.truncated_fragment()

    def hashed(self) -> Iterator[str]:
        yield from ("distinct_id", "time_ms", "session_sent", "body")

    def keys(self) -> Iterator[str]:
        """Fragments of what both protocols begin an event with."""
        yield literal(f'{{"event":"{self.event.names["posthog"]}","distinct_id":')
        yield """to_json(distinct_id), ',"uuid":"', event_id, '","timestamp":"'"""
        yield iso("time_ms")

    def head(self) -> Iterator[str]:
        yield from self.keys()
        yield """'","properties":{'"""

    def tail(self) -> Iterator[str]:
        if self.wants(self.session_property):
            yield """',"$session_id":' || to_json(session_sent)::VARCHAR"""
        yield """CASE WHEN NOT identified THEN ',"$process_person_profile":false' END"""
        yield literal(f',"$lib":"{LIBRARY}","$lib_version":"{version("lf-dagster")}"}}}}')


class PosthogV1Payload(PosthogPayload):
    """An event of Capture V1 (posthog.md 8.1): session and options on top level, sender in the request's header."""

    def head(self) -> Iterator[str]:
        yield from self.keys()
        if self.wants(self.session_property):
            yield """'","session_id":' || to_json(nullif(session_sent, ''))::VARCHAR || ',"options":{'"""
            yield """CASE WHEN nullif(session_sent, '') IS NULL THEN '","options":{' END"""
        else:
            yield """'","options":{'"""
        yield """'"disable_skew_correction":true'"""
        yield """CASE WHEN NOT identified THEN ',"process_person_profile":false' END"""
        yield """'},"properties":{'"""

    def tail(self) -> Iterator[str]:
        yield "'}}'"
