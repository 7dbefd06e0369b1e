"""What happens to a trace after it was stored: it is sent again, edited, annotated anew, deleted (contract 10)."""

from __future__ import annotations

import random
from typing import Any

from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.values import epoch_ms, iso
from lf_dagster.simulators.world.drafts import Draft, observation_row, synthetic_root, trace_row
from lf_dagster.simulators.world.settings import HOUR_MS, Ageing


def lateness(chance: random.Random, ageing: Ageing) -> int:
    """Extra milliseconds until a trace arrives: 0 for most, up to the horizon for some."""
    if chance.random() >= ageing.late:
        return 0
    return chance.randrange(HOUR_MS // 2, ageing.horizon_hours * HOUR_MS)


def age(
    chance: random.Random, draft: Draft, scored: list[tuple[int, dict[str, Any]]], store: Store, ageing: Ageing
) -> None:
    """Apply the trace's later changes to the store, each at its own moment."""
    for span in draft.spans:
        if chance.random() < ageing.resent:
            _resend(chance, draft, span.id, store, ageing)
    if ageing != Ageing.none():
        _close_open_spans(chance, draft, store)
    for visible_ms, row in scored:
        if chance.random() < ageing.edited:
            _annotate_again(chance, visible_ms, row, store, ageing)
    if not draft.direct and chance.random() < ageing.edited:
        _rename(chance, draft, store, ageing)
    if chance.random() < ageing.deleted:
        gone_ms = draft.last_ms + draft.late_ms + _delay(chance, ageing)
        store.delete_trace(draft.id, at_ms=gone_ms + ageing.horizon_hours * HOUR_MS)


def _resend(chance: random.Random, draft: Draft, span_id: str, store: Store, ageing: Ageing) -> None:
    span = next(span for span in draft.spans if span.id == span_id)
    at_ms = draft.arrival_ms(span) + _delay(chance, ageing)
    span.own = {**span.own, "rev": 2}
    span.output = "second thoughts"
    if span.cost.get("total"):
        span.cost = {**span.cost, "total": round(span.cost["total"] * 2, 12)}
    moved = chance.random() < 0.1
    if moved:
        span.start_ms += 7
    row = observation_row(draft, span, store.project.id, at_ms)
    if not draft.direct and not moved:
        row["createdAt"] = store.observations.of_id(span.id)[0].data["createdAt"]
    store.put_observation(row, at_ms=at_ms)


def _close_open_spans(chance: random.Random, draft: Draft, store: Store) -> None:
    # Half of what is open ends some time later; the rest stays open for good.
    for span in draft.spans:
        if span.end_ms is None and span.type != "EVENT" and chance.random() < 0.5:
            ended_ms = span.start_ms + chance.randrange(60_000, 5 * HOUR_MS)
            arrival = draft.arrival_ms(span)
            span.end_ms = ended_ms
            at_ms = max(arrival + 1, draft.arrival_ms(span))
            store.put_observation(observation_row(draft, span, store.project.id, at_ms), at_ms=at_ms)


def _annotate_again(chance: random.Random, visible_ms: int, row: dict[str, Any], store: Store, ageing: Ageing) -> None:
    at_ms = visible_ms + _delay(chance, ageing)
    changed = {**row, "comment": "second look", "updatedAt": iso(at_ms)}
    if row["dataType"] == "NUMERIC":
        changed["value"] = row["value"] + 0.125
    store.put_score(changed, at_ms=at_ms)


def _rename(chance: random.Random, draft: Draft, store: Store, ageing: Ageing) -> None:
    # Only the `t-` row learns of it; the copies on the other rows keep the old user and tags.
    first = store.traces.of_id(draft.id)[0].data
    at_ms = epoch_ms(first["updatedAt"]) + _delay(chance, ageing)
    draft.user_id, draft.tags, draft.metadata = "late-user", ["late"], {**draft.metadata, "late": True}
    for row, put in (
        (trace_row(draft, store.project.id, at_ms), store.put_trace),
        (synthetic_root(draft, store.project.id, at_ms), store.put_observation),
    ):
        row["createdAt"] = first["createdAt"]
        put(row, at_ms=at_ms)


def _delay(chance: random.Random, ageing: Ageing) -> int:
    return chance.randrange(60_000, max(ageing.horizon_hours * HOUR_MS, 120_000))
