"""Mixpanel's /engage: sets properties of user profiles (contracts: mixpanel 10).

It answers 200 also when it refuses an update, mostly without saying which one. So a refused request is halved until
the profile is found that it was refused for; setting the others twice changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import msgspec
from typing_extensions import Self

from lf_dagster.config import MixpanelSettings, secret
from lf_dagster.destinations.answers import is_html, refused, reject_credentials, reject_request
from lf_dagster.destinations.mixpanel import ORIGINS, TIMEOUT_SECONDS, MixpanelRetry
from lf_dagster.destinations.shipment import MOST_SUSPECTS
from lf_dagster.errors import ProtocolError, RequestRejected
from lf_dagster.http import Cancelled, HttpClient, HttpStats, Response, RetryPolicy

BATCH_PROFILES = 200
"""Updates per request: Mixpanel takes 2,000 and advises this."""
BATCH_BYTES = 1_000_000


@dataclass(frozen=True)
class Profile:
    """One profile to be set: `properties` is a JSON object. `suspect`: Mixpanel refused it before."""

    distinct_id: str
    properties: str
    suspect: bool = False

    @property
    def size(self) -> int:
        """Characters, which is near enough to its bytes in a request."""
        return len(self.distinct_id) + len(self.properties) + 150


class _FailedRecord(msgspec.Struct):
    index: int | None = None
    field: str | None = None
    message: str | None = None


class _Answer(msgspec.Struct):
    """The documented form (`status`, `error`), and that of strict import, which `strict=1` may bring."""

    status: int | str | None = None
    error: str | None = None
    code: int | None = None
    num_good_events: int | None = None
    num_records_imported: int | None = None
    failed_records: list[_FailedRecord] | None = None

    @property
    def good(self) -> int | None:
        """How many updates were taken, where it says so."""
        return self.num_records_imported if self.num_good_events is None else self.num_good_events


class Engage:
    """Profiles of one Mixpanel project. Use as a context manager; `set` is safe in several threads.

    Raises ConfigError when the variable of the project token is unset: profiles know no other credentials.
    """

    def __init__(
        self,
        settings: MixpanelSettings,
        *,
        env: Mapping[str, str],
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        token = secret(settings.project_token_env, env=env)
        self._token = msgspec.json.encode(token)
        self._lock = threading.Lock()
        self._taken = 0
        self._buried = 0
        self._http = HttpClient(
            settings.host or ORIGINS[settings.region],
            secrets=[token],
            timeout=TIMEOUT_SECONDS,
            retry=retry or MixpanelRetry(),
            sleep=sleep,
            setting="mixpanel.host",
            max_connections=settings.parallel_requests,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    @property
    def stats(self) -> HttpStats:
        return self._http.stats

    def set(self, profiles: Sequence[Profile], *, cancelled: Callable[[], bool]) -> dict[str, str]:
        """Sets the profiles; returns the reason by distinct id of those that were refused.

        Raises FatalError or RetryableError when an answer is not for single profiles, and Cancelled.
        """
        rejected: dict[str, str] = {}
        stack = [list(profiles)]
        while stack:
            batch = stack.pop()
            response = self._post(batch, cancelled)
            found = self._refusals(batch, response)
            if found is None and len(batch) > 1:
                middle = len(batch) // 2
                stack += [batch[middle:], batch[:middle]]
                continue
            reasons = {batch[0].distinct_id: self._reason(response)} if found is None else found
            self._count(batch, reasons)
            rejected |= reasons
        return rejected

    def _post(self, batch: Sequence[Profile], cancelled: Callable[[], bool]) -> Response:
        if cancelled():
            raise Cancelled("/engage")
        response = self._http.request(
            "POST",
            "/engage",
            params={"strict": "1", "verbose": "1", "ip": "0"},
            # Not compressed: Mixpanel does not take gzip here.
            content=b"[" + b",".join(map(self._update, batch)) + b"]",
            headers={"Content-Type": "application/json"},
            endpoint="/engage",
            cancelled=cancelled,
        )
        if is_html(response) or response.status not in (200, 400, 413):
            raise self._unusable(response)
        return response

    def _update(self, profile: Profile) -> bytes:
        """One `$set`, without the place of this machine and without a word about when the user was last seen."""
        head = b'{"$token":%b,"$distinct_id":%b,' % (self._token, msgspec.json.encode(profile.distinct_id))
        return head + b'"$ip":"0","$ignore_time":true,"$set":%b}' % profile.properties.encode()

    def _refusals(self, batch: Sequence[Profile], response: Response) -> dict[str, str] | None:
        """Reasons of refused profiles; None when some were refused and nobody knows which."""
        if response.status == 413:
            return None
        answer = self._read(response)
        named = {
            batch[record.index].distinct_id: self._redacted(f"{record.field}: {record.message}")
            for record in answer.failed_records or ()
            if record.index is not None and 0 <= record.index < len(batch)
        }
        is_fine = answer.status == 1 or answer.code == 200 or bool(named)
        return named if is_fine and answer.good in (None, len(batch) - len(named)) else None

    def _read(self, response: Response) -> _Answer:
        """A plain `1` or `0` is the answer of a server that does not know `verbose`."""
        try:
            read = msgspec.json.decode(response.content, type=int | _Answer)
        except msgspec.DecodeError:
            raise ProtocolError(
                f"Mixpanel's answer is not what /engage answers: {response.excerpt}",
                hint="Check mixpanel.host; a proxy may answer in its place.",
                host=self._http.host,
                status=response.status,
            ) from None
        return _Answer(status=read) if isinstance(read, int) else read

    def _reason(self, response: Response) -> str:
        if response.status == 413:
            return refused("too large for Mixpanel (413)")
        return self._redacted(self._read(response).error or "no reason given")

    def _redacted(self, text: str) -> str:
        return refused(self._http.redact(text))

    def _count(self, batch: Sequence[Profile], reasons: Mapping[str, str]) -> None:
        """A request that is wrong as a whole looks like one bad profile after another; it must not reject them all."""
        suspicious = sum(profile.distinct_id in reasons and not profile.suspect for profile in batch)
        with self._lock:
            self._taken += len(batch) - len(reasons)
            self._buried += suspicious
            wrong = self._taken == 0 and self._buried >= MOST_SUSPECTS
        if wrong:
            raise RequestRejected(
                f"Mixpanel refuses every profile: {next(iter(reasons.values()))}",
                hint="Check the project token (mixpanel.project_token_env), and that mixpanel.region is where the "
                "project lives. No profile was counted as rejected.",
                host=self._http.host,
            )

    def _unusable(self, response: Response) -> Exception:
        if response.status in (401, 403):
            hint = "Check the project token (mixpanel.project_token_env) and mixpanel.region."
            return reject_credentials("Mixpanel", self._http.host, response, hint)
        return reject_request("Mixpanel", self._http.host, response, "Check mixpanel.host and mixpanel.region.")
