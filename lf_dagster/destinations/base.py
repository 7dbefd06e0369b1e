"""What a destination is to the delivery, and what a delivery gives back.

A destination answers for three things: which events it would refuse or damage (`rules`, SQL over the prepared
columns), which events may share a request (`segment`, `limits`), and how to send one batch and read the answer
(`send`). Everything else (what changed, files, threads, accounting) is the delivery's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Protocol

from typing_extensions import Self

from lf_dagster.destinations.batching import Batch
from lf_dagster.hours import Hour
from lf_dagster.http import HttpStats

# Reasons start with a word that says who decided; what a rerun does depends on it.
INVALID = "invalid"
"""A local rule: checked again by every run."""
REFUSED = "refused"
"""The destination's validation: final for this content."""
DROPPED = "dropped"
"""The destination threw the event away for a reason that may pass (quota, limits): tried again by every run."""
UNVERIFIED = "unverified"
"""The destination did not say what became of the event: tried again by every run."""
WARNING = "warning"
"""A remark of the destination on an event that it stored."""
IDENTITY_CHANGED = "identity_changed"
"""Delivered under the key that it had at first, although the source now gives it another user or time. Skipped: that
key must not be sent any more, and under the new one it would be a second event."""
HELD = "held"
"""Skipped: its hour is younger than `hold_hours`."""
AWAITING_TRACE = "awaiting_trace"
"""Skipped: it has no user, and its trace may lie in an hour that is not extracted yet."""
CHANGE_KEPT_BACK = "change_kept_back"
"""Delivered; what changed since is not sent (`on_change: keep`)."""
MOVED = "moved"
"""Gone from its hour, and now in another one."""
DELETED = "deleted"
"""Gone from the source, but at the destination."""
TOMBSTONED = "tombstoned"
"""As `deleted`, but the destination has no more than its key and the mark that it was deleted."""
NOT_SHIPPED = "not_shipped"
"""Gone because events of its kind are no longer shipped."""


@dataclass(frozen=True)
class Rule:
    """A reason to keep an event back. `predicate` is SQL over the prepared columns, true for a bad event.

    `of_form`: it cannot hold for an event that is `wellformed`.
    """

    reason: str
    predicate: str
    of_form: bool = False


@dataclass(frozen=True)
class Limits:
    """How much goes into one request, and how many requests are in flight. `bytes` is the uncompressed body."""

    events: int
    bytes: int
    parallel: int


@dataclass(frozen=True)
class BatchOutcome:
    """What became of each event of a batch, by its row in the batch.

    Rows in none of the three are delivered. `again` holds what has to be sent (again): halves of a batch that was
    too large or poisoned, events that the destination asked for again; `pending` are their rows. `notes` are remarks
    on delivered rows.
    """

    rejected: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)
    pending: Sequence[int] = ()
    again: tuple[Batch, ...] = ()

    @classmethod
    def split(cls, batch: Batch, reason: str) -> BatchOutcome:
        """Both halves again; a single event is rejected with the reason."""
        if len(batch) == 1:
            return cls(rejected={0: reason})
        return cls(pending=range(len(batch)), again=batch.halves())

    def masked(self, redact: Callable[[str], str]) -> BatchOutcome:
        """The same with every text, which may quote the server, passed through `redact`."""
        if not (self.rejected or self.notes):
            return self
        rejected = {row: redact(text) for row, text in self.rejected.items()}
        notes = {row: redact(text) for row, text in self.notes.items()}
        return replace(self, rejected=rejected, notes=notes)


class ProtocolChanged(Exception):
    """The server does not serve the protocol that the payloads were made for: plan again with the other one."""


class Destination(Protocol):
    """One opened connection to Mixpanel or PostHog; `open_destination` makes it. A context manager."""

    name: ClassVar[str]
    limits: Limits
    separator: ClassVar[str]
    """Ends every event within a request body: one ASCII character."""
    hot_key_limit: ClassVar[int | None]
    """Events of one distinct_id and UTC date from which the delivery warns; None: no such limit."""

    @property
    def origin(self) -> str:
        """Where it sends to."""
        ...

    @property
    def protocol(self) -> str:
        """`import`, `v1` or `batch`; asks the server once when the settings say `auto`."""
        ...

    @property
    def assumed_protocol(self) -> str:
        """The same without asking anyone."""
        ...

    @property
    def unique_ids(self) -> bool:
        """Whether one request must not hold two events of the same id."""
        ...

    def rules(self, now: datetime) -> Sequence[Rule]:
        """What the destination would refuse or damage; the first rule that holds gives the reason."""
        ...

    def segment(self, now: datetime) -> str:
        """SQL integer over the prepared columns: events of different segments never share a request."""
        ...

    def send(self, batch: Batch, *, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        """One request and its answer. Raises FatalError or RetryableError when the answer is for the whole run."""
        ...

    def check(self) -> str:
        """Proves address and credentials without storing an event; says so in one line."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class HourDelivery:
    """One hour at one destination: events = delivered + rejected + skipped.

    `delivered`, `rejected`, `skipped` say how the hour stands now; `sent` events were transmitted by this run
    (tombstones included), `unchanged` were there already. `identity_changed` are at the destination under a key that
    the source no longer gives them, `kept_back` of the delivered have a change that is not sent, `held` of the
    skipped wait for their hour to age, `awaiting` for the hour of their trace to be extracted. `retryable` of the
    rejected may be taken another time. `gone` are no longer in the hour: `deleted` of them were delivered and are no
    longer in the source, `tombstoned` of those are stripped at the destination. `bytes` and `requests` are those on
    the wire, retries included. `reasons` counts the ledger's reasons, `first_rejections` are up to 5 of the rejected
    events.
    """

    hour: Hour
    events: int
    delivered: int
    rejected: int
    skipped: int
    sent: int
    unchanged: int
    gone: int
    deleted: int
    tombstoned: int
    identity_changed: int
    held: int
    kept_back: int
    requests: int
    bytes: int
    retries: int
    waited_seconds: float
    duration_seconds: float
    reasons: dict[str, int]
    first_rejections: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()
    awaiting: int = 0
    retryable: int = 0
