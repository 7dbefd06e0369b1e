"""Rows as applications send them, each with the moment at which Langfuse shows it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from lf_dagster.hours import iso
from lf_dagster.simulators.langfuse import Store
from lf_dagster.simulators.langfuse.rows import observation
from lf_dagster.simulators.langfuse.scores import score


def moment(text: str) -> datetime:
    """`07T10:05` or `07T10:05:30` of September 2026, UTC."""
    return datetime.fromisoformat(f"2026-09-{text}").replace(tzinfo=timezone.utc)


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


class Life:
    """A store, and shorthand for what happens in it; times as `moment` reads them."""

    def __init__(self) -> None:
        self.store = Store()

    def span(
        self, id: str, start: str, *, minutes: float = 1, trace: str = "t", seen: str | None = None, **columns: Any
    ) -> Life:
        """A span that surfaces when it ends (or at `seen`); the same id again is a new version."""
        begins = moment(start)
        ends = begins + timedelta(minutes=minutes)
        shown = moment(seen) if seen else ends
        times = {"endTime": iso(ends), "createdAt": iso(shown), "updatedAt": iso(shown)}
        columns = {"name": id, "isRootObservation": not columns.get("parentObservationId"), **times, **columns}
        data = observation(id=id, trace_id=trace, start_time=iso(begins), project_id="proj-lf", **columns)
        self.store.put_observation(data, at_ms=ms(shown))
        return self

    def generation(self, id: str, start: str, *, cost: float = 0.01, **columns: Any) -> Life:
        """A call of a model, a child of `root`."""
        money = {"costDetails": {"total": cost}, "usageDetails": {"input": 3, "output": 4, "total": 7}}
        parent = {"parentObservationId": "root", "type": "GENERATION", "model": "gpt-4o"}
        return self.span(id, start, **{**parent, **money, **columns})

    def score(self, id: str, at: str, value: float, *, seen: str | None = None, **columns: Any) -> Life:
        """A number given to trace `t`; the same id again is an edit."""
        shown = iso(moment(seen or at))
        given = {"traceId": "t", "updatedAt": shown, **columns}
        data = score(
            id=id, name="quality", data_type="NUMERIC", timestamp=iso(moment(at)), project_id="proj-lf", value=value,
            **given,
        )  # fmt: skip
        self.store.put_score(data, at_ms=ms(moment(seen or at)))
        return self

    def trace_deleted(self, trace: str, at: str) -> Life:
        self.store.delete_trace(trace, at_ms=ms(moment(at)))
        return self
