"""Mixpanel's /import in strict mode (contracts: mixpanel 1-6).

The answer names the events that were refused by their index; the others of the same request are stored. So a
request is never repeated for one bad event: that one becomes a dead letter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar

import msgspec
from isal import igzip
from typing_extensions import Self

from lf_dagster.config import MixpanelSettings, secret
from lf_dagster.destinations import rules
from lf_dagster.destinations.answers import PROBE_RETRY, is_html, refused, reject_credentials, reject_request
from lf_dagster.destinations.base import BatchOutcome, Limits, Rule
from lf_dagster.destinations.batching import Batch
from lf_dagster.errors import ConfigError, ProtocolError, RequestRejected
from lf_dagster.events.nobody import MIXPANEL_DENIED_IDS
from lf_dagster.http import HttpClient, HttpStats, Response, RetryPolicy, basic_auth

ORIGINS = {
    "us": "https://api.mixpanel.com",
    "eu": "https://api-eu.mixpanel.com",
    "in": "https://api-in.mixpanel.com",
}
GZIP_LEVEL = 1
"""ISA-L's level 1: zlib's level 6 is 6 % smaller on event JSON at a tenth of the speed."""
TIMEOUT_SECONDS = 60.0

_YEAR_1971_MS = 31_536_000_000
_MAX_EVENT_BYTES = 999_999
_MAX_MEMBERS = 254
_MAX_DEPTH = 3


@dataclass(frozen=True)
class MixpanelRetry(RetryPolicy):
    """Mixpanel's wish: 2 s doubling to 60 s, plus 1 to 5 s of jitter (contracts: mixpanel 6)."""

    attempts: int = 8
    initial: float = 2.0
    max_wait: float = 60.0

    def wait(self, attempt: int, outcome: Any) -> float:
        floor = RetryPolicy(initial=self.initial, max_wait=self.max_wait, jitter=0.0).wait(attempt, outcome)
        return floor + random.uniform(1.0, 5.0)


class _FailedRecord(msgspec.Struct):
    """One refused event; the key of its id is spelled in two ways (contracts: mixpanel 5)."""

    index: int | None = None
    insert_id: str | None = None
    dollar_insert_id: str | None = msgspec.field(default=None, name="$insert_id")
    field: str | None = None
    message: str | None = None


class _Answer(msgspec.Struct):
    num_records_imported: int | None = None
    failed_records: list[_FailedRecord] | None = None
    error: str | None = None


class Mixpanel:
    """One Mixpanel project. Use as a context manager.

    Raises ConfigError when a secret's variable is unset or a service account lacks `project_id`.
    """

    name: ClassVar[str] = "mixpanel"
    separator: ClassVar[str] = "\n"
    hot_key_limit: ClassVar[int | None] = 150_000
    protocol = "import"
    assumed_protocol = "import"
    unique_ids = False

    def __init__(
        self,
        settings: MixpanelSettings,
        *,
        env: Mapping[str, str],
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        user, password, params = _credentials(settings, env)
        self.limits = Limits(settings.batch_events, settings.batch_bytes, settings.parallel_requests)
        self._params = {"strict": "1", **params}
        self._http = HttpClient(
            settings.host or ORIGINS[settings.region],
            auth=basic_auth(user, password),
            secrets=[text for text in (user, password, f"{user}:{password}") if text],
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
    def origin(self) -> str:
        """Where it sends to."""
        return self._http.origin

    def rules(self, now: datetime) -> Sequence[Rule]:
        """Section 4 of the contract.

        An event ahead of our clock waits for a later run: Mixpanel would move its time to the time of arrival.
        """
        now_ms = int(now.timestamp() * 1000)
        return (
            rules.invalid("event_name", "coalesce(event, '') = '' OR length(event) > 255"),
            rules.invalid("time_before_1971", f"time_ms IS NULL OR time_ms < {_YEAR_1971_MS}"),
            rules.invalid("time_in_future", f"time_ms > {now_ms}"),
            rules.invalid(
                "distinct_id",
                f"distinct_id IS NULL OR {rules.one_of('distinct_id', MIXPANEL_DENIED_IDS)}",
                of_form=True,
            ),
            rules.invalid("insert_id", _bad_insert_id(), of_form=True),
            rules.invalid("size", rules.bytes_over(_MAX_EVENT_BYTES)),
            rules.invalid("json", rules.not_json(), of_form=True),
            rules.invalid("depth", rules.deeper_than(_MAX_DEPTH), of_form=True),
            rules.invalid("members", rules.container_over(_MAX_MEMBERS), of_form=True),
        )

    def segment(self, now: datetime) -> str:  # noqa: ARG002 - any events may share a request
        return "0"

    def send(self, batch: Batch, *, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        """One strict import; see `Destination.send`."""
        response = self._import(batch.body, stats=stats, cancelled=cancelled)
        return self._interpret(batch, response).masked(self._http.redact)

    def _interpret(self, batch: Batch, response: Response) -> BatchOutcome:
        if response.status == 413:
            return BatchOutcome.split(batch, refused("too large for Mixpanel (413)"))
        if is_html(response) or response.status not in (200, 400):
            raise self._unusable(response)
        answer = self._read(response)
        if answer.failed_records:
            return _partial(batch, answer, response)
        if response.status == 400:
            return BatchOutcome.split(batch, refused(answer.error or response.excerpt))
        if answer.num_records_imported != len(batch):
            raise ProtocolError(
                f"Mixpanel stored {answer.num_records_imported} of {len(batch)} events without naming the others",
                hint="Nothing of this request was counted as delivered; run the hour again.",
                endpoint=response.endpoint,
            )
        return BatchOutcome()

    def check(self) -> str:
        """Proves address and credentials: a strict import of one event that validation must refuse.

        The event has an empty name and the time 0, so a 400 that names it (`failed_records`) means that the
        credentials were accepted and nothing was stored (contracts: mixpanel 4.1 and 5).
        """
        probe = msgspec.json.encode(
            {"event": "", "properties": {"time": 0, "distinct_id": "", "$insert_id": "lf-dagster-check"}}
        )
        response = self._import(probe + b"\n", stats=None, cancelled=None, retry=PROBE_RETRY)
        if is_html(response) or response.status not in (200, 400):
            raise self._unusable(response)
        answer = self._read(response)
        if not answer.failed_records or answer.num_records_imported:
            raise ProtocolError(
                "this server accepts an event without a name and with time 0, so it is not Mixpanel's strict import",
                hint="Check mixpanel.host and mixpanel.region.",
                host=self._http.host,
            )
        return f"Connection successful: {self._http.host} accepts the credentials (nothing was stored)"

    def _import(
        self,
        body: bytes | memoryview,
        *,
        stats: HttpStats | None,
        cancelled: Callable[[], bool] | None,
        retry: RetryPolicy | None = None,
    ) -> Response:
        return self._http.request(
            "POST",
            "/import",
            params=self._params,
            content=igzip.compress(body, compresslevel=GZIP_LEVEL, mtime=0),
            headers={"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"},
            endpoint="/import",
            stats=stats,
            cancelled=cancelled,
            retry=retry,
        )

    def _unusable(self, response: Response) -> Exception:
        if response.status in (401, 403):
            hint = (
                "Check the project token (mixpanel.project_token_env), or the service account with its project_id "
                "and role (Owner or Admin), and that mixpanel.region is where the project lives."
            )
            return reject_credentials("Mixpanel", self._http.host, response, hint)
        return reject_request("Mixpanel", self._http.host, response, "Check mixpanel.host and mixpanel.region.")

    def _read(self, response: Response) -> _Answer:
        try:
            return msgspec.json.decode(response.content, type=_Answer)
        except msgspec.DecodeError:
            raise ProtocolError(
                f"Mixpanel's answer is not what /import answers: {response.excerpt}",
                hint="Check mixpanel.host; a proxy may answer in its place.",
                host=self._http.host,
                status=response.status,
            ) from None


def _partial(batch: Batch, answer: _Answer, response: Response) -> BatchOutcome:
    """The listed events are refused. The others are stored if the count says so, else they are sent again alone."""
    rejected = {_row(batch, record): _reason(record) for record in answer.failed_records or ()}
    if None in rejected:
        raise RequestRejected(
            "Mixpanel refused events without saying which",
            hint="Nothing of this request was counted as delivered; run the hour again.",
            endpoint=response.endpoint,
            status=response.status,
        )
    known = {row: reason for row, reason in rejected.items() if row is not None}
    stored = answer.num_records_imported
    if stored is None or stored == len(batch) - len(known):
        return BatchOutcome(rejected=known)
    rest = [row for row in range(len(batch)) if row not in known]
    return BatchOutcome(rejected=known, pending=rest, again=(batch.again(rest),) if rest else ())


def _row(batch: Batch, record: _FailedRecord) -> int | None:
    if record.index is not None and 0 <= record.index < len(batch):
        return record.index
    insert_id = record.insert_id or record.dollar_insert_id
    ids = batch.ids()
    return ids.index(insert_id) if insert_id in ids else None


def _reason(record: _FailedRecord) -> str:
    return refused(f"{record.field}: {record.message}" if record.field else record.message or "no reason given")


def _bad_insert_id() -> str:
    denied = rules.one_of("event_id", MIXPANEL_DENIED_IDS)
    wrong = "coalesce(length(event_id), 0) NOT BETWEEN 1 AND 36 OR regexp_matches(event_id, '[^A-Za-z0-9-]')"
    return f"{wrong} OR {denied}"


def _credentials(settings: MixpanelSettings, env: Mapping[str, str]) -> tuple[str, str, dict[str, str]]:
    """User, password and query parameters of Basic authentication (contracts: mixpanel 2)."""
    if settings.service_account_env is None:
        return secret(settings.project_token_env, env=env), "", {}
    user, colon, password = secret(settings.service_account_env, env=env).partition(":")
    if not (user and colon and password):
        raise ConfigError(
            f"environment variable {settings.service_account_env} does not hold a service account",
            hint="Write it as user:secret, as Mixpanel shows both when the account is made.",
        )
    if not settings.project_id:
        raise ConfigError(
            "mixpanel.project_id is not set",
            hint="Mixpanel needs the project id with a service account; without it the pair is read as a token.",
        )
    return user, password, {"project_id": settings.project_id}
