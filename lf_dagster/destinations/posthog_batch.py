"""PostHog's legacy capture protocol: `POST /batch/` (contracts: posthog 2-5).

The answer is for the whole request: 200 says that it was taken, 400 that one of its events is bad, in plain text and
without saying which. So a refused request is halved down to the bad event. `sent_at` is left out: with it PostHog
shifts every timestamp by the difference of the clocks, which breaks the dedup key near midnight.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from lf_dagster.destinations.answers import PROBE_RETRY, is_html, reason, refused, reject_credentials, reject_request
from lf_dagster.destinations.base import DROPPED, BatchOutcome
from lf_dagster.destinations.batching import Batch
from lf_dagster.destinations.envelope import gzip_body
from lf_dagster.errors import LfDagsterError, ProtocolError
from lf_dagster.http import HttpClient, HttpStats, Response, RetryPolicy

ENDPOINT = "/batch/"
_QUOTAS = frozenset({"events", "analytics"})
_KEY_HINT = "Check the project API key (posthog.api_key_env) and that posthog.host is the capture origin."
_HOST_HINT = "Check posthog.host: it must be the capture origin, such as https://us.i.posthog.com."


class BatchProtocol:
    """The legacy protocol over an open HTTP client."""

    def __init__(self, http: HttpClient, token: str) -> None:
        self._http = http
        self._token = json.dumps(token)

    def send(self, batch: Batch, *, historical: bool, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        """One request. 400 and 413 halve it; a single event that is refused is a dead letter."""
        response = self._post(batch.body, historical=historical, stats=stats, cancelled=cancelled)
        if response.status == 413:
            return BatchOutcome.split(batch, refused("too large for PostHog (413)"))
        if response.status == 400 and not is_html(response):
            return BatchOutcome.split(batch, refused(_told(response)))
        if response.status != 200 or is_html(response):
            raise self._unusable(response)
        answer = self._accepted(response)
        if limited := _QUOTAS.intersection(_names(answer, "quota_limited")):
            told = reason(DROPPED, f"over quota: {', '.join(sorted(limited))}")
            return BatchOutcome(rejected=dict.fromkeys(range(len(batch)), told))
        return BatchOutcome()

    def probe(self) -> None:
        """Raises unless the server refuses a request without events the way that PostHog does."""
        response = self._post(memoryview(b""), historical=False, stats=None, cancelled=None, retry=PROBE_RETRY)
        if response.status == 400 and not is_html(response):
            return
        if response.status == 200 and not is_html(response):
            # Older servers take an empty batch and say so (contracts: posthog 4); nothing was stored.
            self._accepted(response)
            return
        raise self._unusable(response)

    def _post(
        self,
        body: memoryview,
        *,
        historical: bool,
        stats: HttpStats | None,
        cancelled: Callable[[], bool] | None,
        retry: RetryPolicy | None = None,
    ) -> Response:
        migration = '"historical_migration":true,' if historical else ""
        return self._http.request(
            "POST",
            ENDPOINT,
            content=gzip_body(f'{{"api_key":{self._token},{migration}"batch":[', body),
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
            endpoint=ENDPOINT,
            stats=stats,
            cancelled=cancelled,
            retry=retry,
        )

    def _accepted(self, response: Response) -> Any:
        """The answer: `{"status":1}`, or `"Ok"` as the documentation prints it; anything else is not capture."""
        try:
            answer: Any = response.json()
        except msgspec.DecodeError:
            answer = None
        status = answer.get("status") if isinstance(answer, dict) else answer
        if status not in (1, "Ok", "ok"):
            raise ProtocolError(
                f"PostHog's answer is not what /batch/ answers: {response.excerpt}",
                hint=_HOST_HINT,
                host=self._http.host,
            )
        return answer

    def _unusable(self, response: Response) -> LfDagsterError:
        if response.status in (401, 403) and not is_html(response):
            return reject_credentials("PostHog", self._http.host, response, _KEY_HINT)
        return reject_request("PostHog", self._http.host, response, _HOST_HINT)


def _names(answer: Any, key: str) -> list[str]:
    names = answer.get(key) if isinstance(answer, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _told(response: Response) -> str:
    """The server's words: plain text, or `detail` of the JSON of older servers."""
    try:
        answer: Any = response.json()
    except msgspec.DecodeError:
        return response.excerpt
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return detail if isinstance(detail, str) else response.excerpt
