"""When to try again and how long to wait, as tenacity strategies over outcomes (answers and transport faults)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import tenacity

from lf_dagster.http.response import Response

DEFAULT_RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@dataclass(frozen=True)
class Fault:
    """An attempt without a usable answer. `kind`: timeout, connection, tls, too_large or fatal."""

    kind: str
    text: str


Outcome = Response | Fault


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential waits with jitter under three limits: attempts, total wait, and the longest `Retry-After` obeyed.

    Waits are seconds. `jitter` is the share of a wait that is added at random (0.25: up to a quarter more).
    `retry_timeouts=False` turns an answer that does not come in time into RequestTooLarge at once, for callers that
    can ask for less.
    """

    attempts: int = 6
    initial: float = 0.5
    multiplier: float = 2.0
    max_wait: float = 30.0
    jitter: float = 0.25
    total_wait: float = 900.0
    retry_after_cap: float = 300.0
    statuses: frozenset[int] = DEFAULT_RETRY_STATUSES
    retry_timeouts: bool = True

    def without(self, *statuses: int) -> RetryPolicy:
        """The same policy, which hands these statuses to the caller."""
        return replace(self, statuses=self.statuses - set(statuses))

    def should_retry(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Response):
            return outcome.status in self.statuses
        return outcome.kind == "connection" or (outcome.kind == "timeout" and self.retry_timeouts)

    def wait(self, attempt: int, outcome: Outcome) -> float:
        """Seconds before the next attempt after `attempt` (from 1): the other side's wish is the floor."""
        backoff = min(self.max_wait, self.initial * self.multiplier ** (attempt - 1))
        asked = retry_after_seconds(outcome) if isinstance(outcome, Response) else None
        floor = max(backoff, asked or 0.0)
        return floor + random.uniform(0, self.jitter * backoff)

    def gives_up(self, attempt: int, waited: float, upcoming: float, outcome: Outcome) -> bool:
        asked = retry_after_seconds(outcome) if isinstance(outcome, Response) else None
        if asked is not None and asked > self.retry_after_cap:
            return True
        return attempt >= self.attempts or waited + upcoming > self.total_wait

    def retrying(self, *, sleep: Callable[[float], None]) -> tenacity.Retrying:
        """A tenacity loop that returns the last outcome instead of raising."""

        def last(state: tenacity.RetryCallState) -> Outcome:
            return _outcome(state)

        return tenacity.Retrying(
            retry=tenacity.retry_if_result(self.should_retry),
            wait=lambda state: self.wait(state.attempt_number, _outcome(state)),
            stop=lambda state: self.gives_up(
                state.attempt_number, state.idle_for, state.upcoming_sleep, _outcome(state)
            ),
            sleep=sleep,
            retry_error_callback=last,
        )


def _outcome(state: tenacity.RetryCallState) -> Outcome:
    if state.outcome is None:
        raise RuntimeError("tenacity asked for a wait before the first attempt")
    return state.outcome.result()


def retry_after_seconds(response: Response) -> float | None:
    """Seconds that an answer asks to wait: header `Retry-After` (seconds or date), else `details.retryAfterSeconds`.

    The latter is Langfuse's 429 body (contracts: langfuse 3). None when nothing usable is said.
    """
    header = response.headers.get("retry-after", "").strip()
    if header:
        try:
            return max(0.0, float(header))
        except ValueError:
            return _until(header, response.headers.get("date"))
    return _from_body(response) if response.status == 429 and response.is_json else None


def _until(date: str, server_now: str | None) -> float | None:
    """Seconds by the server's own clock (its `Date` header), so that a wrong local clock does no harm."""
    due = _http_date(date)
    now = _http_date(server_now or "") or datetime.now(timezone.utc)
    return None if due is None else max(0.0, (due - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _from_body(response: Response) -> float | None:
    try:
        body: Any = response.json()
        return max(0.0, float(body["details"]["retryAfterSeconds"]))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None
