"""The rate limiter of Langfuse Cloud: fixed windows per organization and bucket (contract 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from lf_dagster.simulators.langfuse.errors import ApiError
from lf_dagster.simulators.langfuse.values import iso

PUBLIC_API = "public-api"
LEGACY = "public-api-legacy"
METRICS = "public-api-metrics"
V2_METRICS = "public-api-v2-metrics"
DAILY_METRICS = "public-api-daily-metrics-legacy"

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Limits:
    """Points and window seconds per bucket. N points serve N-1 requests per window.

    `plain_text` answers 429 with text, as servers before June 2026 did. `clock` gives epoch seconds.
    """

    buckets: Mapping[str, tuple[int, float]]
    plain_text: bool = False
    clock: Callable[[], float] = time.time

    @classmethod
    def of(cls, points: int, seconds: float = _MINUTE, *, bucket: str = PUBLIC_API, **options: object) -> Limits:
        """One bucket alone is limited, as by an override for one organization."""
        return cls({bucket: (points, seconds)}, **options)  # type: ignore[arg-type]


PLANS: dict[str, Mapping[str, tuple[int, float]]] = {
    "hobby": {
        PUBLIC_API: (30, _MINUTE),
        LEGACY: (15, _MINUTE),
        METRICS: (100, _DAY),
        V2_METRICS: (100, _DAY),
        DAILY_METRICS: (10, _DAY),
    },
    "core": {
        PUBLIC_API: (1000, _MINUTE),
        LEGACY: (30, _MINUTE),
        METRICS: (2000, _DAY),
        V2_METRICS: (100, _HOUR),
        DAILY_METRICS: (200, _DAY),
    },
    "pro": {
        PUBLIC_API: (1000, _MINUTE),
        LEGACY: (100, _MINUTE),
        METRICS: (2000, _DAY),
        V2_METRICS: (500, _HOUR),
        DAILY_METRICS: (200, _DAY),
    },
}


@dataclass
class _Window:
    ends: float
    used: int = 0


@dataclass
class RateLimiter:
    """Counts requests. The window of a bucket starts with its first request."""

    limits: Limits
    _windows: dict[tuple[str, str], _Window] = field(default_factory=dict)

    def spend(self, organization_id: str, bucket: str | None) -> None:
        """Take one point. Raises ApiError (429) when fewer than one would be left."""
        rule = None if bucket is None else self.limits.buckets.get(bucket)
        if bucket is None or rule is None:
            return
        points, length = rule
        now = self.limits.clock()
        window = self._windows.get((organization_id, bucket))
        if window is None or now >= window.ends:
            window = self._windows[(organization_id, bucket)] = _Window(now + length)
        window.used += 1
        remaining = max(points - window.used, 0)
        if remaining < 1:
            raise self._refusal(points, remaining, window.ends, now)

    def _refusal(self, points: int, remaining: int, ends: float, now: float) -> ApiError:
        wait = max(math.ceil(ends - now), 0)
        headers = {
            "Retry-After": str(wait),
            "X-RateLimit-Limit": str(points),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": _javascript_date(ends),
        }
        if self.limits.plain_text:
            return PlainTextRefusal(headers)
        details = {
            "retryAfterSeconds": wait,
            "limit": points,
            "remaining": remaining,
            "resetAt": iso(int(ends * 1000)),
        }
        return ApiError(429, {"message": "Rate limit exceeded", "code": "rate_limited", "details": details}, headers)


class PlainTextRefusal(ApiError):
    """The 429 of servers up to v3.190: text instead of JSON."""

    text = "429 - rate limit exceeded"

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(429, {"message": self.text}, headers)


def _javascript_date(epoch_seconds: float) -> str:
    moment = datetime.fromtimestamp(epoch_seconds, tz=timezone.utc)
    return f"{moment:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
