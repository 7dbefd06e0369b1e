"""A thin, thread-safe client over one httpx connection pool."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from lf_dagster import __version__
from lf_dagster.errors import ConfigError, LfDagsterError, RateLimited, RequestTooLarge, ServiceUnavailable
from lf_dagster.http.body import BodyTooLarge, BodyTruncated, decode, read_raw
from lf_dagster.http.budget import NEVER, Budget
from lf_dagster.http.redaction import Redactor
from lf_dagster.http.redirects import redirect_target
from lf_dagster.http.response import HttpStats, Response
from lf_dagster.http.retry import Fault, Outcome, RetryPolicy, retry_after_seconds

logger = logging.getLogger(__name__)

USER_AGENT = f"lf-dagster/{__version__}"
DEFAULT_MAX_RESPONSE_BYTES = 256 * 1024 * 1024

_MAX_REDIRECTS = 3
_CONNECT_SECONDS = 20.0
_CANCEL_POLL_SECONDS = 0.5


class Cancelled(Exception):
    """The caller of `request` asked to stop; nothing is known about the request."""


@dataclass(frozen=True)
class _Call:
    method: str
    url: str
    content: bytes | None
    headers: Mapping[str, str]
    endpoint: str
    extra_stats: HttpStats | None
    sleep: Callable[[float], None]
    cancelled: Callable[[], bool]


class HttpClient:
    """Requests to one origin. Use as a context manager.

    `origin` may carry a base path. `secrets` are masked in every error and log line. `setting` and `ca_setting` are
    the names of the settings that error texts tell the user to change. `budget` is acquired before every attempt and
    paused when the server answers 429. `verify` is True, False or the path of a CA bundle.
    `max_response_bytes` bounds one decoded answer (RequestTooLarge beyond).
    """

    def __init__(
        self,
        origin: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: str | None = None,
        secrets: Sequence[str] = (),
        timeout: float = 60.0,
        verify: bool | str = True,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        user_agent: str = USER_AGENT,
        setting: str = "host",
        ca_setting: str = "ca_bundle",
        max_connections: int | None = None,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
    ) -> None:
        self.origin = origin.rstrip("/")
        self.host = urlsplit(self.origin).netloc
        self.stats = HttpStats()
        self.redact = Redactor(secrets)
        self.retry = retry or RetryPolicy()
        self.budget = budget or Budget(clock=clock)
        self._clock = clock
        self._sleep = sleep
        self._timeout = timeout
        self._setting = setting
        self._ca_setting = ca_setting
        self._max_bytes = max_response_bytes
        own = {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        self._client = _pool(
            headers={**own, **({"Authorization": auth} if auth else {}), **(headers or {})},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            verify=_tls_context(verify, ca_setting),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,
        )

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        endpoint: str,
        stats: HttpStats | None = None,
        cancelled: Callable[[], bool] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Response:
        """One request with retries; returns every final answer, also 4xx.

        `endpoint` labels errors, logs and counters; `stats` is counted besides `self.stats`. `cancelled` is asked
        before every attempt and during waits; True raises `Cancelled`.

        Raises RateLimited (429 to the end), ServiceUnavailable (5xx, cut connections, timeouts to the end),
        RequestTooLarge (answer too big, or late under `retry_timeouts=False`) and ConfigError (TLS, redirect, URL).
        """
        waited = _Waits([self.stats] if stats is None else [self.stats, stats])
        stop = cancelled or _never
        sleep = waited.counting(self._sleep if cancelled is None else _interruptible(self._sleep, stop))
        call = _Call(
            method, _url(self.origin, path, params), content, dict(headers or {}), endpoint, stats, sleep, stop
        )
        policy = retry or self.retry
        progress = _Progress()
        outcome = policy.retrying(sleep=sleep)(lambda: self._attempt(call, progress, policy))
        if isinstance(outcome, Response) and outcome.status not in policy.statuses:
            return outcome
        # Raised outside of any `except`, so that no library exception with headers in it hangs on as context.
        raise self._error(call, outcome, policy, attempts=progress.attempts, waited=waited.seconds)

    def _attempt(self, call: _Call, progress: _Progress, policy: RetryPolicy) -> Outcome:
        if call.cancelled():
            raise Cancelled(call.endpoint)
        self.budget.acquire(call.sleep, served=progress.served_pause)
        progress.attempts += 1
        if progress.attempts > 1:
            for stats in self._counters(call):
                stats.retry()
        outcome = self._send(call)
        if policy.should_retry(outcome):
            self._note(call, outcome, progress, policy)
        return outcome

    def _note(self, call: _Call, outcome: Outcome, progress: _Progress, policy: RetryPolicy) -> None:
        if isinstance(outcome, Response):
            asked = retry_after_seconds(outcome) or 0.0
            # A longer wish belongs to a daily quota, not to the bucket that the other requests draw from.
            if outcome.status == 429 and asked <= policy.retry_after_cap:
                progress.served_pause = self.budget.pause(asked)
            what = f"status {outcome.status}: {outcome.excerpt}"
        else:
            what = outcome.text
        logger.warning("%s %s: attempt %d failed, %s", call.method, call.endpoint, progress.attempts, what)

    def _send(self, call: _Call) -> Outcome:
        url, started = call.url, self._clock()
        for _ in range(_MAX_REDIRECTS + 1):
            outcome = self._exchange(call, url, started)
            if isinstance(outcome, Fault):
                return outcome
            target = redirect_target(outcome, url, call.method)
            if target is None:
                return outcome
            if isinstance(target, Fault):
                return Fault(target.kind, self.redact(target.text))
            url = target
        return Fault("redirect", f"more than {_MAX_REDIRECTS} redirects")

    def _exchange(self, call: _Call, url: str, started: float) -> Outcome:
        status, received = 0, 0
        try:
            with self._client.stream(call.method, url, content=call.content, headers=call.headers) as answer:
                status = answer.status_code
                raw = read_raw(answer.iter_raw(), limit=self._max_bytes, late=lambda: self._late(started))
                received = len(raw)
                content = decode(raw, answer.headers.get("content-encoding", ""), limit=self._max_bytes)
                elapsed = self._clock() - started
                return Response(status, answer.headers, content, call.endpoint, received, elapsed, self.redact)
        except (httpx.HTTPError, httpx.InvalidURL, BodyTooLarge, BodyTruncated, TimeoutError) as error:
            return Fault(_fault_kind(error), self.redact(f"{type(error).__name__}: {error}"))
        finally:
            for stats in self._counters(call):
                stats.attempt(status=status, sent=len(call.content or b""), received=received)

    def _late(self, started: float) -> bool:
        """httpx times each read; a body that drips in forever is caught here."""
        return self._clock() - started > self._timeout

    def _counters(self, call: _Call) -> list[HttpStats]:
        return [self.stats] if call.extra_stats is None else [self.stats, call.extra_stats]

    def _error(
        self, call: _Call, outcome: Outcome, policy: RetryPolicy, *, attempts: int, waited: float
    ) -> LfDagsterError:
        where = {"host": self.host, "endpoint": f"{call.method} {call.endpoint}"}
        if isinstance(outcome, Fault):
            if outcome.kind == "timeout" and not policy.retry_timeouts:
                return RequestTooLarge(f"no complete answer within {self._timeout:g} s", **where)
            return self._fault_error(outcome, where, attempts)
        facts = {**where, "status": outcome.status, "attempts": attempts, "retry_after": retry_after_seconds(outcome)}
        if outcome.status == 429:
            limit = outcome.headers.get("x-ratelimit-limit")
            return RateLimited(f"Rate limit exceeded, also after waiting {waited:.0f} s", limit=limit, **facts)
        text = f"the server failed ({outcome.status}): {outcome.excerpt}"
        return ServiceUnavailable(text, hint="Try again later; the server's logs say why it failed.", **facts)

    def _fault_error(self, fault: Fault, where: dict[str, str], attempts: int) -> LfDagsterError:
        if fault.kind == "tls":
            hint = (
                f"If the server uses a private certificate authority, set `{self._ca_setting}` to the path of its CA "
                f"bundle (PEM). If it speaks plain HTTP, write http:// in `{self._setting}`."
            )
            return ConfigError(f"TLS failed: {fault.text}", hint=hint, **where)
        if fault.kind == "redirect":
            return ConfigError(fault.text, hint=f"Set `{self._setting}` to the final address.", **where)
        if fault.kind == "config":
            return ConfigError(fault.text, hint=f"Check `{self._setting}` and the keys.", **where)
        if fault.kind == "too_large":
            return RequestTooLarge(fault.text, **where)
        hint = f"Is `{self._setting}` right and reachable from here (DNS, firewall, proxy variables)?"
        return ServiceUnavailable(f"no answer: {fault.text}", hint=hint, attempts=attempts, **where)


class _Progress:
    """Where the attempts of one request stand."""

    def __init__(self) -> None:
        self.attempts = 0
        self.served_pause = NEVER


class _Waits:
    """Adds every sleep of one request to the counters."""

    def __init__(self, stats: Sequence[HttpStats]) -> None:
        self._stats = stats
        self.seconds = 0.0

    def counting(self, sleep: Callable[[float], None]) -> Callable[[float], None]:
        def wait(seconds: float) -> None:
            sleep(seconds)
            self.seconds += seconds
            for stats in self._stats:
                stats.waited(seconds)

        return wait


def _never() -> bool:
    return False


def _interruptible(sleep: Callable[[float], None], cancelled: Callable[[], bool]) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        left = seconds
        while left > 0:
            if cancelled():
                raise Cancelled
            sleep(min(left, _CANCEL_POLL_SECONDS))
            left -= _CANCEL_POLL_SECONDS

    return wait


def _url(origin: str, path: str, params: Mapping[str, Any] | Sequence[tuple[str, Any]] | None) -> str:
    query = str(httpx.QueryParams(params if isinstance(params, Mapping) else list(params))) if params else ""
    return f"{origin}{path}?{query}" if query else f"{origin}{path}"


def _pool(**options: Any) -> httpx.Client:
    with contextlib.suppress(httpx.InvalidURL, ValueError, ImportError):
        return httpx.Client(**options)
    # Without the library's text: it may quote a proxy's password.
    raise ConfigError(
        "the proxy variables of this machine cannot be used",
        hint="HTTPS_PROXY, HTTP_PROXY and ALL_PROXY take a URL such as http://proxy:3128 (SOCKS: only with the package "
        "socksio); NO_PROXY takes names and addresses, but no ranges of IPv6 and no IPv6 in brackets.",
    )


def _tls_context(verify: bool | str, setting: str) -> ssl.SSLContext | bool:
    if isinstance(verify, bool):
        return verify and _system_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    if not Path(verify).is_file():
        raise ConfigError(f"no such CA bundle: {verify}", hint=f"`{setting}` must be the path of a PEM file.")
    try:
        return ssl.create_default_context(cafile=verify)
    except ssl.SSLError as error:
        text = f"not a CA bundle: {verify} ({error.reason or error})"
    raise ConfigError(text, hint=f"`{setting}` must be a PEM file with certificates.")


@functools.cache
def _system_context(*_files: str | None) -> ssl.SSLContext:
    """The system's certificates, read once: that takes longer than many an hour's requests."""
    return httpx.create_ssl_context()


_FINAL_TLS_REASONS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL")


def _fault_kind(error: Exception) -> str:
    if isinstance(error, BodyTooLarge):
        return "too_large"
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return "config"
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "connection"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "timeout"
    if any(reason in str(error) for reason in _FINAL_TLS_REASONS) or _is_certificate_error(error):
        return "tls"
    return "connection"


def _is_certificate_error(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
