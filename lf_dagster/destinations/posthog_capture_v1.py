"""PostHog's Capture V1: `POST /i/v1/analytics/events` (contracts: posthog 8).

The only protocol that says what became of each event. One request id stays over the attempts of a request, the
attempt number grows and the timestamp is renewed, so retries are driven from here and not by the HTTP client.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from lf_dagster import __version__
from lf_dagster.clock import utc_now
from lf_dagster.destinations.answers import is_html, reason, refused, reject_credentials, reject_request
from lf_dagster.destinations.base import DROPPED, REFUSED, UNVERIFIED, WARNING, BatchOutcome
from lf_dagster.destinations.batching import Batch
from lf_dagster.destinations.envelope import gzip_body
from lf_dagster.errors import LfDagsterError, ProtocolError, RateLimited, RequestRejected, ServiceUnavailable
from lf_dagster.hours import iso
from lf_dagster.http import Cancelled, HttpClient, HttpStats, Response, RetryPolicy, retry_after_seconds
from lf_dagster.http.retry import Fault

ENDPOINT = "/i/v1/analytics/events"
SDK_INFO = f"lf_dagster/{__version__}"

_PAUSE_PIECE_SECONDS = 0.5
_NOT_SERVED = frozenset({404, 405, 410, 501})
# Errors of single events that V1 reports for the whole request (contracts: posthog 8.2): halving finds them.
_EVENT_ERRORS = frozenset(
    {"request_parsing_error", "missing_event_uuid", "invalid_event_uuid", "duplicate_event_uuid", "invalid_options"}
)
# Drops that depend on the event alone; any other drop may pass with time, quota or settings.
_FINAL_DROPS = frozenset(
    {
        *("missing_event_name", "event_name_too_long", "missing_distinct_id", "distinct_id_too_large"),
        *("invalid_event_timestamp", "malformed_event_properties", "invalid_options", "dropped_performance_event"),
        *("ai_event_too_big", "event_too_big", "serialization_failed"),
    }
)
_KEY_HINT = "Check the project API key (posthog.api_key_env) and that posthog.host is the capture origin."
_HOST_HINT = "Check posthog.host: it must be the capture origin, such as https://us.i.posthog.com."
_BILLING_HINT = "Raise the billing limit of the PostHog project, then run the hour again."


class RouteMissing(Exception):
    """This server has no Capture V1."""


class _Result(msgspec.Struct):
    result: str
    details: Any = None


class _Results(msgspec.Struct):
    results: dict[str, _Result]


class CaptureV1:
    """Capture V1 over an open HTTP client."""

    def __init__(
        self,
        http: HttpClient,
        token: str,
        *,
        sleep: Callable[[float], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._http = http
        self._authorization = f"Bearer {token}"
        self._sleep = sleep
        self._clock = clock

    def served(self, *, retry: RetryPolicy | None = None) -> bool:
        """Whether the server has the route: a request without events must be refused in V1's own words.

        Nothing is stored. Raises AuthenticationError for a token that is refused, RequestRejected for other refusals.
        """
        response = self._http.request(
            "POST",
            ENDPOINT,
            content=self._body(memoryview(b""), historical=False),
            headers=self._headers("00000000-0000-4000-8000-000000000000", 1),
            endpoint=ENDPOINT,
            retry=retry,
        )
        if response.status in _NOT_SERVED or is_html(response):
            return False
        if response.status == 400 and _error_tag(response):
            return True
        if response.status == 200:
            # Something that takes any POST is not V1, which refuses an empty batch.
            return False
        raise self._unusable(response)

    def send(self, batch: Batch, *, historical: bool, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        """One request with its retries, then what became of each event.

        Raises RouteMissing on 404, ServiceUnavailable when events are still asked for again after all attempts.
        """
        if batch.attempt > self._http.retry.attempts:
            raise ServiceUnavailable(
                f"PostHog still asks for {len(batch)} events again after {batch.attempt - 1} attempts",
                hint="PostHog has trouble storing events; run the hour again later.",
                host=self._http.host,
                endpoint=ENDPOINT,
            )
        if batch.delay_seconds:
            self._pause(batch.delay_seconds, stats, cancelled)
        response, attempt = self._post(batch, historical=historical, stats=stats, cancelled=cancelled)
        if response.status in _NOT_SERVED:
            raise RouteMissing
        if response.status == 413:
            return BatchOutcome.split(batch, refused("too large for PostHog (413)"))
        if response.status == 400 and (tag := _error_tag(response)) in _EVENT_ERRORS:
            return BatchOutcome.split(batch, refused(f"{tag}: {_description(response)}"))
        if response.status != 200 or is_html(response):
            raise self._unusable(response)
        wait = self._http.retry.wait(attempt, response)
        return interpret(batch, self._results(response), next_attempt=attempt + 1, delay_seconds=wait)

    def _post(
        self, batch: Batch, *, historical: bool, stats: HttpStats, cancelled: Callable[[], bool]
    ) -> tuple[Response, int]:
        """The answer and the number of the attempt that got it."""
        policy, body = self._http.retry, self._body(batch.body, historical=historical)
        # Every answer comes back and every transport fault is raised at once: the attempts are counted here.
        once = replace(policy, attempts=1, statuses=frozenset[int]())
        numbers = itertools.count(batch.attempt)
        faults: list[ServiceUnavailable] = []
        last = batch.attempt

        def attempt() -> Response | Fault:
            nonlocal last
            last = next(numbers)
            if last > batch.attempt:
                stats.retry()
            try:
                return self._http.request(
                    "POST",
                    ENDPOINT,
                    content=body,
                    headers=self._headers(batch.request_id, last),
                    endpoint=ENDPOINT,
                    stats=stats,
                    cancelled=cancelled,
                    retry=once,
                )
            except ServiceUnavailable as error:
                faults.append(error)
                return Fault("connection", error.message)

        outcome = policy.retrying(sleep=lambda seconds: self._pause(seconds, stats, cancelled))(attempt)
        if isinstance(outcome, Fault):
            raise faults[-1]
        if outcome.status in policy.statuses:
            raise self._exhausted(outcome, last)
        return outcome, last

    def _body(self, payloads: memoryview, *, historical: bool) -> bytes:
        migration = '"historical_migration":true,' if historical else ""
        return gzip_body(f'{{"created_at":"{iso(self._clock())}",{migration}"batch":[', payloads)

    def _headers(self, request_id: str, attempt: int) -> Mapping[str, str]:
        return {
            "Authorization": self._authorization,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "PostHog-Sdk-Info": SDK_INFO,
            "PostHog-Attempt": str(attempt),
            "PostHog-Request-Id": request_id,
            "PostHog-Request-Timestamp": iso(self._clock()),
        }

    def _pause(self, seconds: float, stats: HttpStats, cancelled: Callable[[], bool]) -> None:
        """Waits in pieces, so that a run that fails elsewhere does not wait this one out."""
        left = seconds
        while left > 0:
            if cancelled():
                raise Cancelled(ENDPOINT)
            self._sleep(min(left, _PAUSE_PIECE_SECONDS))
            left -= _PAUSE_PIECE_SECONDS
        for counter in (self._http.stats, stats):
            counter.waited(seconds)

    def _results(self, response: Response) -> dict[str, _Result]:
        try:
            return msgspec.json.decode(response.content, type=_Results).results
        except msgspec.DecodeError:
            raise ProtocolError(
                f"PostHog's answer is not what Capture V1 answers: {response.excerpt}",
                hint=_HOST_HINT,
                host=self._http.host,
            ) from None

    def _exhausted(self, response: Response, attempts: int) -> LfDagsterError:
        where = {"host": self._http.host, "endpoint": ENDPOINT, "status": response.status, "attempts": attempts}
        asked = retry_after_seconds(response)
        if response.status == 429:
            return RateLimited("PostHog's rate limit still holds after all waits", retry_after=asked, **where)
        return ServiceUnavailable(
            f"PostHog failed: {response.excerpt}", hint="Try again later.", retry_after=asked, **where
        )

    def _unusable(self, response: Response) -> LfDagsterError:
        if response.status in (401, 403) and not is_html(response):
            return reject_credentials("PostHog", self._http.host, response, _KEY_HINT)
        if response.status == 402:
            return RequestRejected(
                "PostHog refuses events: the billing limit is reached", hint=_BILLING_HINT, host=self._http.host
            )
        return reject_request("PostHog", self._http.host, response, _HOST_HINT)


def interpret(batch: Batch, results: Mapping[str, _Result], *, next_attempt: int, delay_seconds: float) -> BatchOutcome:
    """What became of each event (contracts: posthog 8.2).

    ok and warning are stored, drop is final, retry is sent again. An unknown result or none is not taken for
    success: sent once more, then rejected as unverified.
    """
    rejected: dict[int, str] = {}
    notes: dict[int, str] = {}
    retry: list[int] = []
    unverified: list[int] = []
    for row, event_id in enumerate(batch.ids()):
        found = results.get(event_id)
        if found is not None and found.result == "ok":
            continue
        result = found.result if found is not None else "absent"
        details = found.details if found is not None else None
        if result == "warning":
            notes[row] = reason(WARNING, str(details or "no details"))
        elif result == "drop":
            rejected[row] = _drop_reason(str(details or "no details"))
        elif result == "retry":
            retry.append(row)
        elif batch.second_look:
            rejected[row] = reason(UNVERIFIED, f"{result}: {details}" if details else result)
        else:
            unverified.append(row)
    again = [
        batch.again(rows, attempt=next_attempt, delay_seconds=delay_seconds, second_look=second_look)
        for rows, second_look in ((retry, False), (unverified, True))
        if rows
    ]
    return BatchOutcome(rejected=rejected, notes=notes, pending=[*retry, *unverified], again=tuple(again))


def _drop_reason(details: str) -> str:
    return reason(REFUSED if details in _FINAL_DROPS else DROPPED, details)


def _error(response: Response) -> dict[str, Any]:
    try:
        answer: Any = response.json()
    except msgspec.DecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error_tag(response: Response) -> str:
    tag = _error(response).get("error")
    return tag if isinstance(tag, str) else ""


def _description(response: Response) -> str:
    text = _error(response).get("error_description")
    return text if isinstance(text, str) else ""
