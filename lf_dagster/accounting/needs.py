"""What an hour still needs, and why: the difference between what is held and what should be.

Nothing is remembered from one look to the next. An hour that was cut short by a kill looks exactly like one that was
never finished, and is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from lf_dagster.accounting.holdings import Delivery, Holding
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import ONE_HOUR, Hour

State = Literal["missing", "stale", "undelivered", "settled"]
"""missing: not extracted since it closed; stale: the source or a neighbour changed since, or models are behind;
undelivered: a destination does not have it all; settled: none of these at the last look."""

REASONS = {
    "missing": "It was not extracted yet.",
    "unreadable": "Its extract cannot be read, so it is read again.",
    "unclosed": "It was read while it was under way, and not since.",
    "revisit": "It reached an age at which it is read again.",
    "source_changed": "The last audit saw other numbers in Langfuse than the extract has.",
    "not_modelled": "Its extracts were not modelled yet.",
    "extract_newer": "Its extracts were read again since its tables were made.",
    "touched": "Observations of another hour belong to its traces, or to the traces of its scores.",
    "events_behind": "Its typed tables were made again since its events were.",
    "events_reshaped": "It has something to deliver, and its events were made before their tables got other columns.",
    "undelivered": "It was never delivered.",
    "unfinished": "A delivery was cut short, or some events have no answer yet.",
    "events_newer": "Its events were made again since the delivery.",
    "hold_over": "Events were held back until the hour is old enough, and now it is.",
    "trace_known": "Events waited for a trace of an hour that was not extracted; now it is.",
    "unreadable_ledger": "Its ledger cannot be read: somebody has to restore it or move it away.",
    "retry": "The destination did not take some events for a reason that may pass.",
}
"""Why an hour is rerun, as run tags and `status` name it."""

BY_HAND = frozenset({"unreadable_ledger"})
"""Reasons that no rerun can remove."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 24)
_BATCHED_FROM = 6
"""A revisit may be late by a sixth of its age, so that neighbouring hours share a run."""

_SHORTEST_RETRY = timedelta(hours=1)
_LONGEST_RETRY = timedelta(hours=24)


@dataclass(frozen=True, order=True)
class Need:
    """Rerun an hour from this layer on: `raw`, `typed`, `events`, or a destination's name."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Look:
    """What needs are judged by: the moment, hours whose source changed (and since when), and hours not extracted."""

    now: datetime
    changed_since: Mapping[Hour, datetime]
    gaps: frozenset[Hour] = frozenset()


def needs_of(holding: Holding, settings: ProjectSettings, look: Look) -> tuple[Need, ...]:
    """The needs of the first layer that has any; later layers follow from it. After them what a rerun cannot give.
    Empty for a settled hour."""
    by_hand = tuple(Need(name, "unreadable_ledger") for name, item in holding.deliveries.items() if item.broken)
    layers = (_of_extract(holding, settings, look), _of_models(holding), _of_deliveries(holding, settings, look))
    return (*next(filter(None, map(tuple, layers)), ()), *by_hand)


def is_final(holding: Holding, settings: ProjectSettings, now: datetime) -> bool:
    """Whether nothing that can be foreseen will need this hour again: it was read after its last revisit was due, and
    no event waits for anything. What nobody can foresee (a neighbour's run, a change that an audit sees) still can."""
    read_at, ages = holding.extracted_at, settings.reconcile.revisit_hours
    if read_at is None or (ages and max(now, read_at) < revisit_at(holding.hour, max(ages))):
        return False
    return not any(
        delivery.count("held") or delivery.count("awaiting") or _will_retry(holding, delivery, settings)
        for delivery in holding.deliveries.values()
    )


def state_of(needs: tuple[Need, ...]) -> State:
    """The state that an hour with these needs is in."""
    if not needs:
        return "settled"
    if needs[0].reason in ("missing", "unclosed"):
        return "missing"
    return "stale" if needs[0].layer in ("raw", "typed", "events") else "undelivered"


def _of_extract(holding: Holding, settings: ProjectSettings, look: Look) -> Iterator[Need]:
    read_at = holding.extracted_at
    if holding.broken_extracts:
        yield Need("raw", "unreadable")
        return
    if read_at is None:
        yield Need("raw", "missing" if holding.read_at is None else "unclosed")
        return
    changed = look.changed_since.get(holding.hour)
    if changed is not None and read_at < changed:
        yield Need("raw", "source_changed")
    elif _revisit_due(holding.hour, read_at, settings, look.now):
        yield Need("raw", "revisit")


def _revisit_due(hour: Hour, read_at: datetime, settings: ProjectSettings, now: datetime) -> bool:
    """Whether an age was reached since the hour was read: each age asks once, however late it is looked at."""
    return any(read_at < revisit_at(hour, age) <= now for age in settings.reconcile.revisit_hours)


def revisit_at(hour: Hour, age: int) -> datetime:
    """When an hour is read again at an age of so many hours: a little later than that, together with its neighbours.

    A day after its end it is one of 4 hours of one run, a week after its end one of 24.
    """
    together = timedelta(hours=max(size for size in _BATCHES if size == 1 or size * _BATCHED_FROM <= age))
    due = hour.end + age * ONE_HOUR
    return due + (_EPOCH - due) % together


def _of_models(holding: Holding) -> Iterator[Need]:
    typed, events = holding.typed, holding.events
    if typed is None:
        yield Need("typed", "not_modelled")
    elif typed.inputs != holding.identity:
        yield Need("typed", "extract_newer")
    elif typed.stale_since is not None:
        yield Need("typed", "touched")
    elif events is None or events.inputs != typed.build_id:
        yield Need("events", "events_behind")


def _of_deliveries(holding: Holding, settings: ProjectSettings, look: Look) -> Iterator[Need]:
    reasons = {
        name: _delivery_reason(holding, delivery, name, settings, look) for name, delivery in holding.deliveries.items()
    }
    needs = [Need(name, reason) for name, reason in reasons.items() if reason is not None]
    if needs and holding.events is not None and holding.events.stale_since is not None:
        # Its rows have NULL in the columns that came, and have lost those that went: not to be sent like that.
        needs = [Need("events", "events_reshaped")]
    yield from needs


def _delivery_reason(
    holding: Holding, delivery: Delivery, name: str, settings: ProjectSettings, look: Look
) -> str | None:
    facts, build = delivery.facts or {}, holding.events
    hold_hours = settings.destinations[name].hold_hours
    if delivery.broken is not None:
        return None
    reasons = {
        "undelivered": delivery.facts is None and not delivery.unmerged,
        "unfinished": delivery.unmerged or delivery.count("outstanding") > 0,
        "events_newer": build is not None and facts.get("events_build") != build.build_id,
        "hold_over": delivery.count("held") > 0 and look.now >= holding.hour.end + hold_hours * ONE_HOUR,
        "trace_known": delivery.count("awaiting") > 0 and Hour.from_key(facts["awaiting_gap"]) not in look.gaps,
        "retry": _will_retry(holding, delivery, settings) and _retry_due(holding.hour, delivery, look.now),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _will_retry(holding: Holding, delivery: Delivery, settings: ProjectSettings) -> bool:
    """Whether events that were turned away are tried again: until a horizon after the hour was read."""
    last, read_at = delivery.delivered_at, holding.extracted_at
    if delivery.count("retryable") == 0 or last is None or read_at is None:
        return False
    return last - read_at <= settings.reconcile.horizon_hours * ONE_HOUR


def _retry_due(hour: Hour, delivery: Delivery, now: datetime) -> bool:
    """Tries lie further apart the longer the hour has been waiting: each wait is half of the age at the last try."""
    last = delivery.delivered_at
    if last is None:
        return True
    return now - last >= min(_LONGEST_RETRY, max(_SHORTEST_RETRY, (last - hour.end) / 2))
