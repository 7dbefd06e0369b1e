"""What a PostHog stand-in can be told: limits, choices where servers differ, strictness beyond the real server."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DEMO_TOKENS = MappingProxyType({"phc_demo": 1})
"""Project token -> project id of a stand-in that is told nothing."""


ALL_SCOPES = ("dashboard:write", "insight:write")
"""Scopes of the private API that the stand-in knows; writing includes reading."""


@dataclass(frozen=True, kw_only=True)
class PersonalKey:
    """A personal API key (`phx_...`) of the private API."""

    key: str
    project_ids: tuple[int, ...] = (1,)
    scopes: tuple[str, ...] = ALL_SCOPES


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes; defaults are those of the server source."""

    legacy_body_bytes: int = 20 * 1024 * 1024
    v1_compressed_bytes: int = 10 * 1024 * 1024
    v1_inflated_bytes: int = 50 * 1024 * 1024
    event_bytes: int = 1_000_000
    ai_event_bytes: int = 8 * 1024 * 1024
    """Per event on `/i/v0/ai/batch/`."""
    name_length: int = 200
    distinct_id_length: int = 200
    ai_content_days: int = 30


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Choices where deployments or versions differ."""

    capture_v1: bool = True
    """False: the server has no Capture V1, its route answers 404."""
    success_body: str = '{"status":1}'
    """Body of a legacy 200; documentation prints `"Ok"`, older servers answer that."""
    bad_legacy_event: Literal["reject", "skip"] = "reject"
    """`reject` refuses the batch (source, newest documentation); `skip` loses the event with 200 (older ones)."""
    over_quota: bool = False
    """Legacy answers 200 and drops everything; V1 drops each event with `billing_limit_exceeded`."""
    import_only: bool = False
    """Batches without historical_migration are dropped."""
    historical_delay_seconds: float = 0.0
    """Age at which an event of the historical topic becomes visible."""
    unmerged_fraction: float = 0.0
    """Share of replaced copies that view `query` still shows, as background merges lag behind."""
    unknown_options: Literal["reject", "accept"] = "reject"
    """Unknown keys in `options` of a V1 event."""


@dataclass(frozen=True, kw_only=True)
class Strictness:
    """What the real server takes but a good client never sends; refused with 400 and a text of `standin:`."""

    forbid_sent_at: bool = False
    forbid_mixed_days: bool = False
    forbid_mixed_classes: bool = False
    """No request holds events both older and younger than 48 h."""
    require_geoip_disable: bool = False
    require_old_history: bool = False
    """historical_migration only for events at least 48 h old."""
    check_ai_events: bool = False
    """`$ai_*` events have what PostHog needs of them, known properties alone, and values of the right types."""

    @classmethod
    def everything(cls) -> Strictness:
        return cls(
            forbid_sent_at=True,
            forbid_mixed_days=True,
            forbid_mixed_classes=True,
            require_geoip_disable=True,
            require_old_history=True,
            check_ai_events=True,
        )


@dataclass(kw_only=True)
class PlannedResult:
    """A V1 result to answer instead of the real one, for events chosen by `uuid` and/or `event` (None = any).

    `result` may be any word; `absent` leaves the event out of the answer. `stored` says whether the event is kept all
    the same; by default only `ok` and `warning` are. Strikes `times` times (None = for ever).
    """

    result: str
    details: str | None = None
    uuid: str | None = None
    event: str | None = None
    times: int | None = 1
    stored: bool | None = None

    def matches(self, uuid: str, event: str) -> bool:
        return self.times != 0 and self.uuid in {None, uuid} and self.event in {None, event}

    @property
    def keeps(self) -> bool:
        return self.result in {"ok", "warning"} if self.stored is None else self.stored
