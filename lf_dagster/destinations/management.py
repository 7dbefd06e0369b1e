"""The destinations' management APIs: JSON in and out, with credentials that may do more than send events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lf_dagster.destinations.answers import is_html
from lf_dagster.errors import AuthenticationError, ConfigError, ProtocolError, RequestRejected
from lf_dagster.http import HttpClient, Response, RetryPolicy
from lf_dagster.http.retry import Outcome

TIMEOUT_SECONDS = 60.0
RETRY = RetryPolicy(attempts=6, initial=2.0, max_wait=60.0, retry_after_cap=120.0)
"""Budgets of management APIs are counted per minute: a wait of that length gets a new one."""


class _Once(RetryPolicy):
    """For requests that make something: only a 429 is sure to have made nothing."""

    def should_retry(self, outcome: Outcome) -> bool:
        return isinstance(outcome, Response) and outcome.status == 429


@dataclass(frozen=True)
class ManagementApi:
    """One API, `who` in errors. `access`: what to do when the credentials are refused; `address`: when something else
    answers; `project`: when the project is not found."""

    http: HttpClient
    who: str
    access: str
    address: str
    project: str

    def call(
        self,
        method: str,
        path: str,
        *,
        endpoint: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> Any:
        """The decoded answer of one request. `repeatable`: False where a second one would make a second thing.

        Raises AuthenticationError (401, 403), RequestRejected (other final answers), ProtocolError (no JSON), and what
        `HttpClient.request` raises.
        """
        content = None if body is None else msgspec.json.encode(body)
        answer = self.http.request(
            method,
            path,
            params=params,
            content=content,
            headers={} if content is None else {"Content-Type": "application/json"},
            endpoint=endpoint,
            retry=self.http.retry if repeatable else _Once(**vars(self.http.retry)),
        )
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        try:
            return answer.json()
        except msgspec.DecodeError:
            raise ProtocolError(
                f"{self.who} should answer with JSON, but this came: {answer.excerpt}",
                hint=self.address,
                **self._where(answer),
            ) from None

    def odd(self, endpoint: str) -> ProtocolError:
        """The error of an answer that is JSON, but not what it should be."""
        return ProtocolError(
            f"{self.who} answers {endpoint} in another form than its documentation says",
            hint=self.address,
            host=self.http.host,
        )

    def _refusal(self, answer: Response) -> Exception:
        where = self._where(answer)
        if answer.status in {401, 403}:
            return AuthenticationError(
                f"{self.who} refuses the credentials: {answer.excerpt}", hint=self.access, **where
            )
        hint = {404: self.project}.get(answer.status)
        return RequestRejected(
            f"{self.who} refuses the request: {answer.excerpt}", hint=self.address if is_html(answer) else hint, **where
        )

    def _where(self, answer: Response) -> dict[str, Any]:
        return {"host": self.http.host, "status": answer.status, "endpoint": answer.endpoint}


def project_number(value: str | None, *, setting: str, variable: str, where: str) -> str:
    """The id of a project in paths of an API; ConfigError when it is not set or not a number."""
    if not value:
        raise ConfigError(f"{setting} is not set", hint=f"Set {variable} to the project's number: {where}.")
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(f"{setting} is not a number: {value!r}", hint=f"It stands in {where}.")
    return value
