"""What Mixpanel is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from lf_dagster.events.cutting import MAX_CHARACTERS
from lf_dagster.events.ids import DestinationName
from lf_dagster.events.keys import mixpanel_time
from lf_dagster.events.nobody import MIXPANEL_DENIED_IDS
from lf_dagster.events.payload import Payload
from lf_dagster.warehouse.database import literal


class MixpanelPayload(Payload):
    """An event of `/import`: everything inside `properties` (mixpanel.md 3, 4)."""

    destination: ClassVar[DestinationName] = "mixpanel"
    session_property: ClassVar[str] = "session_id"

    @property
    def bad_ids(self) -> tuple[str, ...]:
        return MIXPANEL_DENIED_IDS

    def session(self) -> str:
        own, langfuse = self.context("mixpanel_session_id"), self.context("session_id")
        return f"coalesce(nullif({own}, ''), nullif({langfuse}, ''))"

    def distinct_id(self) -> str:
        return "coalesce(user_sent, '')"

    def identity(self) -> str:
        return "concat(distinct_id, '|', time_ms)"

    def kept_id(self, identity: str) -> str:
        return f"left({identity}, -1 - length({mixpanel_time(identity)}))"

    def kept_values(self) -> dict[str, str]:
        kept_id = self.kept_id("key")
        return {
            "distinct_id": kept_id,
            "user_sent": f"nullif({kept_id}, '')",
            "time_ms": f"try_cast({mixpanel_time('key')} AS BIGINT)",
        }

    def cuttable(self) -> dict[str, tuple[str, str, int]]:
        columns = super().cuttable()
        columns["session_sent"] = (self.session_property, "string", MAX_CHARACTERS)
        for number, item in enumerate(self.properties):
            if item.type in ("string", "list", "map"):
                columns[f"p{number}"] = (item.name, item.type, MAX_CHARACTERS)
        return columns

    def body(self) -> Iterator[str]:
        yield """'"time":', time_ms, ',"distinct_id":', to_json(distinct_id)"""
        yield """',"$insert_id":"', event_id, '"'"""
        yield """',"$user_id":' || to_json(user_sent)::VARCHAR"""
        if self.wants(self.session_property):
            yield """',"session_id":' || to_json(session_sent)::VARCHAR"""
        if self.documented:
            yield """',"ip":"0"'"""  # else every user gets the place of this machine (mixpanel.md 4.6)
        yield from self.property_fragments()
        yield from self.time_fragment()
        yield from self.truncated_fragment()

    def hashed(self) -> Iterator[str]:
        yield "body"

    def head(self) -> Iterator[str]:
        yield literal(f'{{"event":"{self.event.names["mixpanel"]}","properties":{{')

    def tail(self) -> Iterator[str]:
        yield "'}}'"
