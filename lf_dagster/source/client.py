"""One Langfuse project's API: authenticated GET requests whose answers are JSON, or an error that says why not."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from typing_extensions import Self

from lf_dagster.config import LangfuseSettings, secret
from lf_dagster.errors import ConfigError, ProtocolError, RateLimited
from lf_dagster.http import Budget, HttpClient, HttpStats, Response, RetryPolicy, basic_auth
from lf_dagster.source import answers
from lf_dagster.source.describe import SourceInfo, describe

logger = logging.getLogger(__name__)

API = "/api/public/"

_RETRY = RetryPolicy(retry_timeouts=False).without(*answers.ASK_FOR_LESS)
_BROKEN_ANSWERS = 3
"""How often an answer that is cut or garbled is asked for before it counts as a fault of the server."""

T = TypeVar("T")


class LangfuseClient:
    """Reads one project with its key pair. Use as a context manager; thread-safe.

    `env` holds the variables that the settings name. `budget` is shared with other clients of the organization when
    given; without one, `requests_per_minute` makes one. Raises ConfigError when a key is missing, none, or they are
    swapped.
    """

    def __init__(
        self,
        settings: LangfuseSettings,
        *,
        env: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        budget: Budget | None = None,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sleep = sleep
        self.public_key = secret(settings.public_key_env, env=env)
        secret_key = secret(settings.secret_key_env, env=env)
        _check_keys(self.public_key, secret_key, settings)
        self.http = HttpClient(
            settings.host,
            auth=basic_auth(self.public_key, secret_key),
            headers={"Accept": "application/json"},
            secrets=[secret_key, f"{self.public_key}:{secret_key}"],
            timeout=settings.timeout_seconds,
            verify=settings.ca_bundle or True,
            retry=retry,
            budget=budget or organisation_budget(settings.requests_per_minute, clock=clock),
            clock=clock,
            sleep=sleep,
            setting="host",
            ca_setting="ca_bundle",
            max_connections=settings.parallel_requests,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    @property
    def host(self) -> str:
        """Origin as the settings give it, for links and metadata."""
        return self.settings.host

    def describe(self) -> SourceInfo:
        """Project, server version and read path, found by a few cheap requests.

        Raises AuthenticationError, ReadPathUnavailable and whatever `get` raises.
        """
        return describe(self)

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        stats: HttpStats | None = None,
        cancelled: Callable[[], bool] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Response:
        """One GET below `/api/public/`; returns a 200 answer that calls itself JSON.

        Raises the errors of `HttpClient.request` and of `answers.check`.
        """
        try:
            response = self.http.request(
                "GET", API + path, params=params, endpoint=path, stats=stats, cancelled=cancelled, retry=retry
            )
        except RateLimited as error:
            raise answers.explain_rate_limit(error) from None
        answers.check(response, host=self.http.host, public_key=self.public_key)
        return response

    def read(
        self,
        path: str,
        params: Mapping[str, Any] | None,
        parse: Callable[[bytes], T],
        *,
        stats: HttpStats | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> T:
        """`get`, then `parse` of the body; an answer that is no JSON (cut, garbled) is asked for again.

        Raises ProtocolError when it stays broken, or at once when it is JSON of another shape.
        """
        fault = ""
        for attempt in range(1, _BROKEN_ANSWERS + 1):
            if attempt > 1:
                self.sleep(_RETRY.initial * attempt)
            response = self.get(path, params, stats=stats, cancelled=cancelled)
            try:
                return parse(response.content)
            except msgspec.ValidationError as error:
                raise self._protocol_error(path, f"an answer of another shape: {error}") from None
            except msgspec.DecodeError as error:
                fault = f"broken JSON ({error}) of {len(response.content)} bytes"
                logger.warning("GET %s: attempt %d gave %s", path, attempt, fault)
        raise self._protocol_error(path, fault)

    def get_json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """One GET as Python objects; for small answers."""
        return self.read(path, params, msgspec.json.decode)

    def _protocol_error(self, path: str, text: str) -> ProtocolError:
        return ProtocolError(self.http.redact(text), host=self.http.host, endpoint=f"GET {path}")


def organisation_budget(requests_per_minute: int | None, *, clock: Callable[[], float]) -> Budget:
    """A limiter for one organization. Langfuse serves one less than the nominal number (contracts: langfuse 3)."""
    return Budget(None if requests_per_minute is None else max(1, requests_per_minute - 1), clock=clock)


def _check_keys(public_key: str, secret_key: str, settings: LangfuseSettings) -> None:
    hint = f"{settings.public_key_env} takes the pk-lf-... key, {settings.secret_key_env} the sk-lf-... key."
    if public_key.startswith("sk-lf-") or secret_key.startswith("pk-lf-"):
        raise ConfigError("the Langfuse keys are swapped", hint=hint)
    if not settings.check_key_prefixes:
        return
    for kind, prefix, variable, key in (
        ("public", "pk-lf-", settings.public_key_env, public_key),
        ("secret", "sk-lf-", settings.secret_key_env, secret_key),
    ):
        if not key.startswith(prefix):
            own = "A self-hosted Langfuse that was given keys of your own choice: set `check_key_prefixes: false`."
            raise ConfigError(
                f"{variable} holds no Langfuse {kind} key: it does not begin with {prefix}", hint=f"{hint} {own}"
            )
