"""PostHog: which capture protocol, which requests, and the two protocols behind one destination.

Capture V1 says what became of every event; the legacy `/batch/` answers for the whole request only. `auto` asks the
server once and remembers (contracts: posthog 0, 8.3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import ClassVar

from typing_extensions import Self

from lf_dagster.config import PosthogSettings, secret
from lf_dagster.destinations import rules
from lf_dagster.destinations.answers import PROBE_RETRY
from lf_dagster.destinations.base import BatchOutcome, Limits, ProtocolChanged, Rule
from lf_dagster.destinations.batching import Batch
from lf_dagster.destinations.posthog_batch import BatchProtocol
from lf_dagster.destinations.posthog_capture_v1 import CaptureV1, RouteMissing
from lf_dagster.errors import ConfigError, RequestRejected
from lf_dagster.events.nobody import bare
from lf_dagster.http import HttpClient, HttpStats, RetryPolicy

TIMEOUT_SECONDS = 60.0
HISTORICAL_AGE = timedelta(hours=48)
"""Events of this age and older go with `historical_migration` (contracts: posthog 7)."""

_MAX_EVENT_BYTES = 900 * 1024
_MAX_NAME = 200
_FURTHEST_AHEAD = timedelta(hours=23)
_DAY_MS = 86_400_000
# 0001-01-01 and 9999-12-31; PostHog turns years outside into 1970.
_YEAR_1_MS = -62_135_596_800_000
_YEAR_9999_MS = 253_402_300_799_999
_MOST_TOKEN_CHARACTERS = 64


class Posthog:
    """One PostHog project. Use as a context manager.

    Raises ConfigError when the key's variable is unset or holds something that is not a project API key.
    """

    name: ClassVar[str] = "posthog"
    separator: ClassVar[str] = ","
    hot_key_limit: ClassVar[int | None] = None

    def __init__(
        self,
        settings: PosthogSettings,
        *,
        env: Mapping[str, str],
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        token = _project_token(settings, env)
        self.limits = Limits(settings.batch_events, settings.batch_bytes, settings.parallel_requests)
        self._wanted = settings.protocol
        self._http = HttpClient(
            settings.host,
            secrets=[token],
            timeout=TIMEOUT_SECONDS,
            # 1 s doubling to 30 s, `Retry-After` as floor up to 120 s (contracts: posthog 17.7).
            retry=retry or RetryPolicy(attempts=8, initial=1.0, max_wait=30.0, retry_after_cap=120.0),
            sleep=sleep,
            setting="posthog.host",
            max_connections=settings.parallel_requests,
        )
        self._v1 = CaptureV1(self._http, token, sleep=sleep)
        self._batch = BatchProtocol(self._http, token)
        self._protocol: str | None = None if settings.protocol == "auto" else settings.protocol

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    @property
    def protocol(self) -> str:
        """`v1` or `batch`; `auto` asks the server the first time."""
        if self._protocol is None:
            self._protocol = "v1" if self._v1.served() else "batch"
        return self._protocol

    @property
    def assumed_protocol(self) -> str:
        return self._protocol or "v1"

    @property
    def unique_ids(self) -> bool:
        """V1 keys its results by uuid and refuses a request that has one twice."""
        return self.protocol == "v1"

    @property
    def origin(self) -> str:
        """Where it sends to."""
        return self._http.origin

    def rules(self, now: datetime) -> Sequence[Rule]:
        """What PostHog refuses, cuts, drops later or stores under another time (contracts: posthog 3, 5, 6, 8.1)."""
        latest_ms = int((now + _FURTHEST_AHEAD).timestamp() * 1000)
        nobody = f"coalesce({bare('distinct_id')}, '') = ''"
        return (
            rules.invalid("event_name", f"trim(coalesce(event, '')) = '' OR length(event) > {_MAX_NAME}"),
            rules.invalid("distinct_id", f"{nobody} OR length(distinct_id) > {_MAX_NAME}"),
            rules.invalid("time", f"time_ms IS NULL OR time_ms NOT BETWEEN {_YEAR_1_MS} AND {_YEAR_9999_MS}"),
            rules.invalid("time_in_future", f"time_ms > {latest_ms}"),
            rules.invalid("size", rules.bytes_over(_MAX_EVENT_BYTES)),
            rules.invalid("json", rules.not_json(), of_form=True),
        )

    def segment(self, now: datetime) -> str:
        """UTC day, then historical before live: requests never mix either (contracts: posthog 7, 17.5)."""
        return f"floor(time_ms / {_DAY_MS})::BIGINT * 2 + (time_ms > {_historical_until_ms(now)})::BIGINT"

    def send(self, batch: Batch, *, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        """One request; see `Destination.send`. Raises ProtocolChanged when `auto` chose V1 and it is not there."""
        # `segment` puts historical events on even numbers.
        chosen = self._batch if self.protocol == "batch" else self._v1
        try:
            outcome = chosen.send(batch, historical=batch.segment % 2 == 0, stats=stats, cancelled=cancelled)
        except RouteMissing as missing:
            if self._wanted == "v1":
                raise _v1_not_served(self._http.host) from missing
            self._protocol = "batch"
            raise ProtocolChanged from missing
        return outcome.masked(self._http.redact)

    def check(self) -> str:
        """Proves address and protocol with a request that holds no event, which PostHog must refuse (400).

        A token cannot be proven: PostHog accepts every well-formed one and drops what it does not know
        (contracts: posthog 1), so only its shape is checked, when the destination is opened.
        """
        if self._wanted != "batch":
            served = self._v1.served(retry=PROBE_RETRY)
            if not served and self._wanted == "v1":
                raise _v1_not_served(self._http.host)
            self._protocol = "v1" if served else "batch"
        if self.protocol == "batch":
            self._batch.probe()
        spoken = {"v1": "Capture V1", "batch": "the legacy /batch/ protocol"}[self.protocol]
        return (
            f"Connection successful: {self._http.host} speaks {spoken} (nothing was stored). "
            "PostHog does not say whether it knows the project API key."
        )


def _historical_until_ms(now: datetime) -> int:
    return int((now - HISTORICAL_AGE).timestamp() * 1000)


def _v1_not_served(host: str) -> RequestRejected:
    return RequestRejected(
        "this PostHog does not serve Capture V1", hint="Set posthog.protocol to auto or batch.", host=host
    )


def _project_token(settings: PosthogSettings, env: Mapping[str, str]) -> str:
    """The project API key, by the shape that capture itself checks (contracts: posthog 1)."""
    variable = settings.api_key_env
    token = secret(variable, env=env)
    if token.startswith("phx_"):
        raise ConfigError(
            f"environment variable {variable} holds a personal API key (phx_...)",
            hint="Capture takes the project API key (phc_...): PostHog, Settings, Project, General.",
        )
    if len(token) > _MOST_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"environment variable {variable} does not hold a project API key",
            hint="It is at most 64 ASCII characters, usually phc_...: PostHog, Settings, Project, General.",
        )
    return token
