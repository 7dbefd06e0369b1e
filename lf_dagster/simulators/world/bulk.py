"""Large hours for measurements: few drawn traces, copied under other ids and times, rendered by substitution."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from lf_dagster.simulators.langfuse.cursors import observation_key, score_key
from lf_dagster.simulators.langfuse.store import ALWAYS, Store, Version
from lf_dagster.simulators.langfuse.values import epoch_ms, iso
from lf_dagster.simulators.world.generator import build_world
from lf_dagster.simulators.world.settings import HOUR_MS, Ageing, WorldSettings

_TIMES = ("startTime", "endTime", "completionStartTime", "createdAt", "updatedAt", "timestamp")
_IDS = ("id", "traceId", "parentObservationId", "observationId")
_HEX = re.compile(r"^[0-9a-f]{16,}$")
_LONGEST_TEMPLATE_MS = HOUR_MS // 4
_encode = msgspec.json.Encoder().encode


class CopiedRow(Version):
    """A copy of a drawn row: other ids, times moved by `shift_ms`. Its columns are made when they are asked for."""

    __slots__ = ("copy", "shift_ms", "template")

    def __init__(self, template: Version, copy: int, shift_ms: int, key: tuple[Any, ...]) -> None:
        self.template = template
        self.copy = copy
        self.shift_ms = shift_ms
        trace_id = None if template.trace_id is None else copied_id(template.trace_id, copy)
        event_ms = template.event_ms + shift_ms
        super().__init__(
            id=copied_id(template.id, copy), trace_id=trace_id, event_ms=event_ms, key=key, data=None, visible_ms=ALWAYS
        )

    @property
    def data(self) -> dict[str, Any]:
        source = self.template.data
        moved = {name: _moved(source[name], self.shift_ms) for name in _TIMES if source.get(name)}
        named = {name: copied_id(source[name], self.copy) for name in _IDS if source.get(name)}
        return {**source, **moved, **named}

    @property
    def measures(self) -> dict[str, Any]:
        return self.template.data


class CopiedObservation(CopiedRow):
    """A copied observation: its JSON is the template's with the ids and times replaced, microseconds per row."""

    __slots__ = ()

    def render(self, shape: Any, build: Callable[[dict[str, Any]], bytes]) -> bytes:
        pattern = self.template.rendered.get(shape)
        if pattern is None:
            pattern = self.template.rendered[shape] = _pattern(self.template.data, build)
        source = self.template.data
        values = {name.encode(): _moved(source[name], self.shift_ms).encode() for name in _TIMES if source.get(name)}
        return pattern % {**values, b"copy": b"%05x" % self.copy}


def copied_id(text: str, copy: int) -> str:
    """The id of a copy: hexadecimal ids keep their length, others get a suffix; `t-` ids follow their trace."""
    return _stem(text) + f"{copy:05x}"


def bulk_store(*, hour: datetime, observations: int = 200_000, templates: int = 60, seed: int = 1) -> Store:
    """A store with at least `observations` observations in one hour, and the traces and scores that belong to them,
    all visible from the start.

    hour: a whole UTC hour. templates: how many different traces are drawn and copied.
    """
    settings = WorldSettings(seed=seed, start=hour, hours=1, traces_per_hour=templates, ageing=Ageing.none())
    drawn = build_world(settings).store
    rebased = _rebase(drawn, settings.start_ms)
    count = sum(1 for version in drawn.observations.versions if version.trace_id in rebased)
    copies = -(-observations // count)
    shifts = [number * (HOUR_MS - _LONGEST_TEMPLATE_MS) // copies for number in range(copies)]
    store = Store(settings.project)
    store.observations.extend(_observations(drawn.observations.versions, rebased, shifts))
    store.scores.extend(_scores(drawn.scores.versions, rebased, shifts))
    store.traces.extend(_traces(drawn.traces.versions, rebased, shifts))
    return store


def _rebase(drawn: Store, start_ms: int) -> dict[str | None, int]:
    """Per trace that starts all its rows within a quarter of an hour: what moves its first row to the hour's start."""
    moments: dict[str | None, list[int]] = {}
    for version in (*drawn.observations.versions, *drawn.traces.versions):
        moments.setdefault(version.trace_id, []).append(version.event_ms)
    return {
        trace_id: start_ms - min(found)
        for trace_id, found in moments.items()
        if max(found) - min(found) < _LONGEST_TEMPLATE_MS
    }


def _observations(
    templates: Iterable[Version], rebased: dict[str | None, int], shifts: list[int]
) -> Iterator[CopiedRow]:
    for template in templates:
        for copy, shift in _placed(template, rebased, shifts):
            names = copied_id(template.trace_id or "", copy), copied_id(template.id, copy)
            yield CopiedObservation(template, copy, shift, observation_key(template.event_ms + shift, *names))


def _scores(templates: Iterable[Version], rebased: dict[str | None, int], shifts: list[int]) -> Iterator[CopiedRow]:
    for template in templates:
        for copy, shift in _placed(template, rebased, shifts):
            yield CopiedRow(template, copy, shift, score_key(template.event_ms + shift, copied_id(template.id, copy)))


def _traces(templates: Iterable[Version], rebased: dict[str | None, int], shifts: list[int]) -> Iterator[CopiedRow]:
    for template in templates:
        for copy, shift in _placed(template, rebased, shifts):
            yield CopiedRow(template, copy, shift, (template.event_ms + shift,))


def _placed(template: Version, rebased: dict[str | None, int], shifts: list[int]) -> Iterator[tuple[int, int]]:
    base = rebased.get(template.trace_id)
    if base is not None:
        for copy, shift in enumerate(shifts):
            yield copy, base + shift


def _moved(text: str, shift_ms: int) -> str:
    return iso(epoch_ms(text) + shift_ms)


def _stem(text: str) -> str:
    return text[:-5] if _HEX.match(text) else f"{text}-"


def _pattern(data: dict[str, Any], build: Callable[[dict[str, Any]], bytes]) -> bytes:
    """The row's JSON as a format: `%(startTime)b` and the like in place of times, `%(copy)b` at the end of ids."""
    text = build(data).replace(b"%", b"%%")
    for name in _TIMES:
        if data.get(name):
            text = text.replace(_pair(name, data[name]), b'"%b":"%%(%b)b"' % (name.encode(), name.encode()), 1)
    for name in _IDS:
        if data.get(name):
            stem = _encode(_stem(data[name]))[:-1].replace(b"%", b"%%")
            text = text.replace(_pair(name, data[name]), b'"%b":%b%%(copy)b"' % (name.encode(), stem), 1)
    return text


def _pair(name: str, value: str) -> bytes:
    return b'"%b":%b' % (name.encode(), _encode(value).replace(b"%", b"%%"))
