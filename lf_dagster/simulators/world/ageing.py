"""What happens to a trace after it was stored: it is sent again, edited, annotated anew, deleted (contract 10).

A change is a moment and an action. All changes of a trace are drawn first and then carried out in the order of their
moments, so that each builds on what was there before it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.values import epoch_ms, iso
from lf_dagster.simulators.world.drafts import (
    DUAL_DELAY_MS,
    Draft,
    Span,
    observation_row,
    synthetic_root,
    trace_row,
)
from lf_dagster.simulators.world.grading import annotation
from lf_dagster.simulators.world.settings import HOUR_MS, Ageing, WorldSettings

Change = tuple[int, Callable[[int], object]]
"""Epoch ms of a change, and what it does when called with them."""

_DAY_MS = 24 * HOUR_MS
_SLACK_MS = HOUR_MS
_SHORTEST_MS = 60_000


def lateness(chance: random.Random, ageing: Ageing) -> int:
    """Extra milliseconds until a trace arrives: 0 for most, up to the horizon for some."""
    if chance.random() >= ageing.late:
        return 0
    return chance.randrange(HOUR_MS // 2, ageing.horizon_ms)


def within_horizon(draft: Draft, ageing: Ageing) -> int:
    """The trace's lateness, shortened where it would arrive beyond the horizon."""
    room = ageing.horizon_ms - (draft.last_ms - draft.start_ms) - DUAL_DELAY_MS - _SLACK_MS
    return max(min(draft.late_ms, room), 0)


def belated(
    chance: random.Random, scored: list[tuple[int, dict[str, Any]]], ageing: Ageing
) -> list[tuple[int, dict[str, Any]]]:
    """The scores, some of which arrive later than drawn."""
    return [
        (_moment(chance, visible_ms, _event_ms(row) + ageing.horizon_ms), row)
        if chance.random() < ageing.late_scores
        else (visible_ms, row)
        for visible_ms, row in scored
    ]


def age(
    chance: random.Random,
    draft: Draft,
    scored: list[tuple[int, dict[str, Any]]],
    store: Store,
    settings: WorldSettings,
) -> None:
    """Apply the trace's later changes to the store, each at its own moment."""
    life = _Life(chance, draft, store, settings)
    changes = [*life.of_spans(), *life.of_trace(), *life.annotations()]
    for visible_ms, row in scored:
        changes += life.of_score(visible_ms, row)
    # The sort is stable: what falls on one millisecond happens in the order in which it was drawn.
    for moment, action in sorted(changes, key=lambda change: change[0]):
        action(moment)


class _Life:
    """Draws the changes of one trace."""

    def __init__(self, chance: random.Random, draft: Draft, store: Store, settings: WorldSettings) -> None:
        self.chance = chance
        self.draft = draft
        self.store = store
        self.ageing = settings.ageing
        self.settings = settings
        self.deadline_ms = draft.start_ms + settings.ageing.horizon_ms

    def of_spans(self) -> Iterator[Change]:
        for span in self.draft.spans:
            arrival = self.draft.arrival_ms(span)
            if self._happens(self.ageing.resent):
                moved = self.chance.random() < 0.1
                yield self._after(arrival), lambda at, span=span, moved=moved: self._resend(span, at, moved=moved)
            if span.cost.get("total") and self._happens(self.ageing.costs):
                factor = self.chance.choice((0.5, 1.25, 3))
                yield self._after(arrival), lambda at, span=span, factor=factor: self._reprice(span, factor, at)
            # Half of what is open ends some time later; the rest stays open for good.
            is_open = span.end_ms is None and span.type != "EVENT" and self.ageing != Ageing.none()
            if is_open and self.chance.random() < 0.5:
                end = span.start_ms + self.chance.randrange(60_000, 5 * HOUR_MS)
                moment = max(arrival + 1, end + DUAL_DELAY_MS + self.draft.late_ms)
                if moment < self.deadline_ms:
                    yield moment, lambda at, span=span, end=end: self._close(span, end, at)

    def of_trace(self) -> Iterator[Change]:
        arrived = self.draft.last_ms + self.draft.late_ms + (0 if self.draft.direct else DUAL_DELAY_MS)
        if not self.draft.direct and self._happens(self.ageing.edited):
            yield self._after(arrived), lambda at: self._describe("late-user", self.draft.session_id, ["late"], at)
        if self._happens(self.ageing.attributed):
            user, session = f"known-{self.chance.randrange(20)}", f"sess-known-{self.chance.randrange(50)}"
            tags = [*self.draft.tags, "known"]
            yield self._after(arrived + HOUR_MS), lambda at: self._describe(user, session, tags, at)
        if self._happens(self.ageing.deleted):
            yield self._after(arrived), lambda at: self.store.delete_trace(self.draft.id, at_ms=at)
        yield from self._replay(arrived)

    def _replay(self, arrived: int) -> Iterator[Change]:
        day = self.ageing.replayed_day
        if not self.draft.direct or day is None or not iso(self.draft.start_ms).startswith(day.isoformat()):
            return
        if not self._happens(self.ageing.replayed):
            return
        # One client at one moment: the day decides it, not the trace.
        midnight = self.draft.start_ms - self.draft.start_ms % _DAY_MS
        room = max(self.ageing.horizon_ms - _DAY_MS - 4 * HOUR_MS, HOUR_MS)
        moment = midnight + _DAY_MS + random.Random(f"replay/{self.settings.seed}/{day}").randrange(room)
        original = copy.deepcopy(self.draft)
        if moment > arrived:
            yield moment, lambda at: self._send_again(original, at)

    def annotations(self) -> Iterator[Change]:
        if not self._happens(self.ageing.annotated):
            return
        moment = self._after(self.draft.last_ms + self.draft.late_ms + HOUR_MS)
        row = annotation(self.chance, self.draft, moment, self.store.project.id)
        if moment < self.settings.end_ms:
            yield moment + 4000, lambda at: self.store.put_score(row, at_ms=at)

    def of_score(self, visible_ms: int, row: dict[str, Any]) -> Iterator[Change]:
        deadline = _event_ms(row) + self.ageing.horizon_ms
        if self._happens(self.ageing.edited):
            yield _moment(self.chance, visible_ms, deadline), lambda at: self._annotate_again(row, at)
        if self._happens(self.ageing.unscored):
            yield _moment(self.chance, visible_ms, deadline), lambda at: self.store.delete_score(row["id"], at_ms=at)

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share

    def _after(self, arrived_ms: int) -> int:
        return _moment(self.chance, arrived_ms, self.deadline_ms)

    # What the changes do

    def _put(self, span: Span, at_ms: int, *, created: str | None = None) -> None:
        row = observation_row(self.draft, span, self.store.project.id, at_ms)
        if created is not None:
            row["createdAt"] = created
        self.store.put_observation(row, at_ms=at_ms)

    def _created(self, span: Span) -> str | None:
        """Rows of the legacy ingestion keep the moment at which they were first written."""
        known = self.store.observations.of_id(span.id)
        return None if self.draft.direct or not known else known[0].data["createdAt"]

    def _resend(self, span: Span, at_ms: int, *, moved: bool) -> None:
        span.own = {**span.own, "rev": 2}
        span.output = "second thoughts"
        if span.cost.get("total"):
            span.cost = {**span.cost, "total": round(span.cost["total"] * 2, 12)}
        if moved:
            # Within its hour: moved into another one it would be two rows for good (docs/guarantees.md).
            span.start_ms += 7 if (span.start_ms + 7) // HOUR_MS == span.start_ms // HOUR_MS else -7
        self._put(span, at_ms, created=None if moved else self._created(span))

    def _reprice(self, span: Span, factor: float, at_ms: int) -> None:
        span.cost = {key: round(value * factor, 12) for key, value in span.cost.items()}
        self._put(span, at_ms, created=self._created(span))

    def _close(self, span: Span, end_ms: int, at_ms: int) -> None:
        span.end_ms = end_ms
        self._put(span, at_ms)

    def _describe(self, user_id: str, session_id: str, tags: list[str], at_ms: int) -> None:
        # Legacy: only the `t-` row learns of it, the copies on the other rows stay. Direct: the root is sent again.
        self.draft.user_id, self.draft.session_id, self.draft.tags = user_id, session_id, tags
        self.draft.metadata = {**self.draft.metadata, "late": True}
        project_id = self.store.project.id
        if not self.draft.direct:
            first = self.store.traces.of_id(self.draft.id)[0].data["createdAt"]
            root = {**synthetic_root(self.draft, project_id, at_ms), "createdAt": first}
            self.store.put_observation(root, at_ms=at_ms)
            self.store.put_trace({**trace_row(self.draft, project_id, at_ms), "createdAt": first}, at_ms=at_ms)
            return
        for span in self.draft.spans:
            if span.parent is None or span.app_root:
                self._put(span, at_ms)
        self.store.put_trace(trace_row(self.draft, project_id, at_ms), at_ms=at_ms)

    def _send_again(self, original: Draft, at_ms: int) -> None:
        for span in original.spans:
            self.store.put_observation(observation_row(original, span, self.store.project.id, at_ms), at_ms=at_ms)
        if original.spans:
            self.store.put_trace(trace_row(original, self.store.project.id, at_ms), at_ms=at_ms)

    def _annotate_again(self, row: dict[str, Any], at_ms: int) -> None:
        changed = {**row, "comment": "second look", "updatedAt": iso(at_ms)}
        if row["dataType"] == "NUMERIC":
            changed["value"] = row["value"] + 0.125
        if any(version.deleted_ms > at_ms for version in self.store.scores.of_id(row["id"])):
            self.store.put_score(changed, at_ms=at_ms)


def _moment(chance: random.Random, after_ms: int, deadline_ms: int) -> int:
    """A moment more than a minute after `after_ms` and before the deadline, if there is that much room."""
    return after_ms + chance.randrange(_SHORTEST_MS, max(deadline_ms - after_ms, 2 * _SHORTEST_MS))


def _event_ms(row: dict[str, Any]) -> int:
    return epoch_ms(row["timestamp"])
