"""Events that should not be sent yet, since their trace may lie in an hour that is still to be extracted.

A destination keeps the key under which it first got an event. An event that is sent without user while the hour of its
trace is missing would never get its user, so while history is made up such events wait. So do all
events of closed visits, which are known by the visit's beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, parse_hour
from lf_dagster.kinds import EventKind
from lf_dagster.lake import Lake
from lf_dagster.warehouse import SCORE_LOOKBACK_HOURS, VISIT_EVENTS, VISIT_WINDOW_HOURS

TRACE_HOURS = 6
"""How far before an event its trace may have begun, as far as waiting is concerned; longer traces are rare."""

LOOKBACKS: Mapping[str, int] = {
    **dict.fromkeys(get_args(EventKind), TRACE_HOURS),
    **dict.fromkeys(VISIT_EVENTS, VISIT_WINDOW_HOURS),
    **dict.fromkeys(("score", "librechat_feedback", "ai_metric", "ai_feedback"), SCORE_LOOKBACK_HOURS),
}
"""Hours before an event in which its trace, or the traces of its visit, are looked for, by kind of event."""

Waits = Mapping[Hour, Mapping[str, Hour]]
"""Per hour and kind of event that has to wait: the hour to wait for, the oldest one that is missing."""

NOBODY: Waits = {}


def waits_for_traces(settings: ProjectSettings, lake: Lake, hours: Iterable[Hour]) -> Waits:
    """What events of these hours have to wait for, given the hours from the project's start on that are extracted."""
    extracted = frozenset(lake.extracted_hours(settings.name, "observations"))
    start = parse_hour(settings.start)
    found = {hour: _missing_before(hour, settings.event_kinds, start, extracted) for hour in hours}
    return {hour: kinds for hour, kinds in found.items() if kinds}


def _missing_before(hour: Hour, kinds: Iterable[str], start: Hour, extracted: frozenset[Hour]) -> dict[str, Hour]:
    lookbacks = {kind: LOOKBACKS[kind] for kind in kinds}
    oldest = {lookback: _oldest_gap(hour, lookback, start, extracted) for lookback in set(lookbacks.values())}
    gaps = {kind: oldest[lookback] for kind, lookback in lookbacks.items()}
    return {kind: gap for kind, gap in gaps.items() if gap is not None}


def _oldest_gap(hour: Hour, lookback: int, start: Hour, extracted: frozenset[Hour]) -> Hour | None:
    first = max(start, hour.shift(-lookback))
    steps = int((hour.start - first.start).total_seconds() // 3600)
    window: Sequence[Hour] = [first.shift(step) for step in range(max(0, steps))]
    return next((each for each in window if each not in extracted), None)
