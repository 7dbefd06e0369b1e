"""The stored entities of one Langfuse project, each with the moments at which a reader can see it.

One store feeds both API generations. Rows are kept as versions: a version appears at `visible_ms`, is replaced at
`superseded_ms` (both stay readable for `merge_delay_ms`, as unmerged ClickHouse parts are) and is deleted at
`deleted_ms`. All moments are epoch milliseconds of the server's clock.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lf_dagster.simulators.langfuse.cursors import observation_key, score_key, trace_hash
from lf_dagster.simulators.langfuse.values import epoch_ms

ALWAYS = -(2**62)
"""Visible since before every clock."""
NEVER = 2**62
"""After every clock."""
_KEPT_VALUES = 32


@dataclass(frozen=True)
class ApiKey:
    """One key pair. `level` is `project`, or `organization` or `scores`, which may not read project data."""

    public: str = "pk-lf-local"
    secret: str = "sk-lf-local"
    level: str = "project"


@dataclass(frozen=True)
class Project:
    """What `GET /api/public/projects` says, and the keys that open it."""

    id: str = "proj-lf"
    name: str = "LF Project"
    organization_id: str = "org-lf"
    organization_name: str = "LF Org"
    retention_days: int = 0
    keys: tuple[ApiKey, ...] = (ApiKey(),)


class Version:
    """One version of one observation, score or trace.

    `key` orders it among the rows of its table, `data` holds its columns (see `rows.py`, `scores.py`, `traces.py`),
    `rendered` keeps the JSON bytes of each shape it was served in.
    """

    __slots__ = (
        "_data",
        "deleted_ms",
        "event_ms",
        "id",
        "key",
        "rendered",
        "superseded_ms",
        "tie",
        "trace_id",
        "visible_ms",
    )

    def __init__(
        self,
        *,
        id: str,
        trace_id: str | None,
        event_ms: int,
        key: tuple[Any, ...],
        data: dict[str, Any] | None,
        visible_ms: int = ALWAYS,
        tie: int = 0,
    ) -> None:
        self.id = id
        self.trace_id = trace_id
        self.event_ms = event_ms
        self.key = key
        self._data = data
        self.visible_ms = visible_ms
        self.superseded_ms = NEVER
        self.deleted_ms = NEVER
        self.tie = tie
        self.rendered: dict[Any, bytes] = {}

    @property
    def data(self) -> dict[str, Any]:
        if self._data is None:
            raise LookupError(f"version {self.id} has no columns")
        return self._data

    @property
    def measures(self) -> dict[str, Any]:
        """The columns, of which ids and times may be those of another row with equal durations, usage and costs."""
        return self.data

    def render(self, shape: Any, build: Callable[[dict[str, Any]], bytes]) -> bytes:
        """The row's JSON in this shape, built once."""
        known = self.rendered.get(shape)
        if known is None:
            known = self.rendered[shape] = build(self.data)
        return known


@dataclass(frozen=True)
class Snapshot:
    """What is visible of one table at one moment, in ascending key order."""

    keys: list[tuple[Any, ...]]
    versions: list[Version]

    def between(self, from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
        """Index range of the rows with from <= event time < to."""
        low = 0 if from_ms is None else bisect.bisect_left(self.keys, (from_ms,))
        high = len(self.keys) if to_ms is None else bisect.bisect_left(self.keys, (to_ms,))
        return low, max(low, high)


@dataclass
class Table:
    """All versions of one kind of entity."""

    versions: list[Version] = field(default_factory=list)
    revision: int = 0
    _by_id: dict[str, list[Version]] = field(default_factory=dict)
    _cache: dict[Any, Any] = field(default_factory=dict)

    def add(self, version: Version) -> None:
        self.versions.append(version)
        self._by_id.setdefault(version.id, []).append(version)
        self.changed()

    def extend(self, versions: Iterable[Version]) -> None:
        for version in versions:
            self.versions.append(version)
            self._by_id.setdefault(version.id, []).append(version)
        self.changed()

    def of_id(self, entity_id: str) -> Sequence[Version]:
        """Every version of one id, oldest first."""
        return self._by_id.get(entity_id, ())

    def changed(self) -> None:
        self.revision += 1
        self._cache.clear()

    def snapshot(self, now_ms: int, merge_delay_ms: int) -> Snapshot:
        """The visible rows; rebuilt only when a moment in between changed what is visible."""
        epoch = self.epoch(now_ms, merge_delay_ms)
        held = self._cache.get("snapshot")
        if held is None or held[0] != epoch:
            held = self._cache["snapshot"] = (epoch, self._build(now_ms, merge_delay_ms))
        return held[1]

    def epoch(self, now_ms: int, merge_delay_ms: int) -> tuple[int, int]:
        """Names the stretch of time around `now_ms` in which nothing appears or vanishes."""
        moments = self._cache.get(("moments", merge_delay_ms))
        if moments is None:
            moments = self._cache[("moments", merge_delay_ms)] = self._moments(merge_delay_ms)
        return bisect.bisect_right(moments, now_ms), merge_delay_ms

    def _moments(self, merge_delay_ms: int) -> list[int]:
        found = {version.visible_ms for version in self.versions}
        found.update(version.deleted_ms for version in self.versions)
        found.update(version.superseded_ms + merge_delay_ms for version in self.versions)
        return sorted(moment for moment in found if ALWAYS < moment < NEVER)

    def _sorted(self) -> list[Version]:
        held = self._cache.get("sorted")
        if held is None:
            held = self._cache["sorted"] = sorted(self.versions, key=lambda version: (version.key, version.tie))
        return held

    def _build(self, now_ms: int, merge_delay_ms: int) -> Snapshot:
        visible = [
            version
            for version in self._sorted()
            if version.visible_ms <= now_ms < version.deleted_ms and now_ms < version.superseded_ms + merge_delay_ms
        ]
        return Snapshot([version.key for version in visible], visible)


class Store:
    """One project's observations, scores and traces, and how they change over time.

    `merge_delay_ms` is how long a replaced version of an observation stays readable beside the new one
    (0: merged at once; NEVER: duplicates stay).
    """

    def __init__(self, project: Project | None = None, *, merge_delay_ms: int = 0) -> None:
        self.project = project or Project()
        self.merge_delay_ms = merge_delay_ms
        self.observations = Table()
        self.scores = Table()
        self.traces = Table()
        self._memory: dict[str, tuple[Any, Any]] = {}

    def put_observation(self, data: dict[str, Any], *, at_ms: int = ALWAYS) -> Version:
        """Store an observation, or a new version of one, visible from `at_ms`. `data`: see `rows.observation`.

        Versions are merged when id, trace and start time agree; a re-sent start time makes a second lasting row.
        """
        start_ms = epoch_ms(data["startTime"])
        key = observation_key(start_ms, data["traceId"], data["id"])
        # Versions of one row come in no particular order until they are merged.
        tie = trace_hash(f"{data['id']}/{len(self.observations.of_id(data['id']))}")
        version = Version(
            id=data["id"], trace_id=data["traceId"], event_ms=start_ms, key=key, data=data, visible_ms=at_ms, tie=tie
        )
        return _put(self.observations, version)

    def put_score(self, data: dict[str, Any], *, at_ms: int = ALWAYS) -> Version:
        """Store a score, or a new version of one (same id and timestamp). `data`: see `scores.score`."""
        timestamp_ms = epoch_ms(data["timestamp"])
        version = Version(
            id=data["id"],
            trace_id=data["traceId"],
            event_ms=timestamp_ms,
            key=score_key(timestamp_ms, data["id"]),
            data=data,
            visible_ms=at_ms,
            tie=len(self.scores.of_id(data["id"])),
        )
        return _put(self.scores, version)

    def put_trace(self, data: dict[str, Any], *, at_ms: int = ALWAYS) -> Version:
        """Store a row of the legacy traces table, or a new version of one. `data`: see `traces.trace`."""
        timestamp_ms = epoch_ms(data["timestamp"])
        for older in self.traces.of_id(data["id"]):
            older.superseded_ms = min(older.superseded_ms, at_ms)
        version = Version(
            id=data["id"],
            trace_id=data["id"],
            event_ms=timestamp_ms,
            key=(timestamp_ms,),
            data=data,
            visible_ms=at_ms,
            tie=len(self.traces.versions),
        )
        self.traces.add(version)
        return version

    def delete_trace(self, trace_id: str, *, at_ms: int = ALWAYS) -> None:
        """Remove a trace with its observations and scores; nothing tells a reader that they were there."""
        for table in (self.observations, self.scores, self.traces):
            _delete(table, [version for version in table.versions if version.trace_id == trace_id], at_ms)

    def delete_score(self, score_id: str, *, at_ms: int = ALWAYS) -> None:
        """Remove one score."""
        _delete(self.scores, self.scores.of_id(score_id), at_ms)

    def delete_observation(self, observation_id: str, *, at_ms: int = ALWAYS) -> None:
        """Remove one observation."""
        _delete(self.observations, self.observations.of_id(observation_id), at_ms)

    def visible_observations(self, now_ms: int) -> Snapshot:
        """Observation versions as v2/observations would scan them."""
        return self.observations.snapshot(now_ms, self.merge_delay_ms)

    def visible_scores(self, now_ms: int) -> Snapshot:
        """Score versions; those not merged yet are collapsed by the score endpoints themselves."""
        return self.scores.snapshot(now_ms, 0)

    def visible_traces(self, now_ms: int) -> Snapshot:
        """Rows of the legacy traces table."""
        return self.traces.snapshot(now_ms, 0)

    def remember(self, name: str, now_ms: int, build: Callable[[], Any]) -> Any:
        """A value derived from the whole store, kept under this name while the store's contents stay the same."""
        epoch = self.epoch(now_ms)
        held = self._memory.pop(name, None)
        if held is None or held[0] != epoch:
            held = (epoch, build())
        self._memory[name] = held
        while len(self._memory) > _KEPT_VALUES:
            self._memory.pop(next(iter(self._memory)))
        return held[1]

    def epoch(self, now_ms: int) -> tuple[Any, ...]:
        """Names the contents of the whole store at this moment; equal epochs mean equal answers."""
        tables = (self.observations, self.scores, self.traces)
        delays = (self.merge_delay_ms, 0, 0)
        return tuple((table.revision, table.epoch(now_ms, delay)) for table, delay in zip(tables, delays, strict=True))


def _put(table: Table, version: Version) -> Version:
    for older in table.of_id(version.id):
        if older.key == version.key:
            older.superseded_ms = min(older.superseded_ms, version.visible_ms)
    table.add(version)
    return version


def _delete(table: Table, versions: Iterable[Version], at_ms: int) -> None:
    for version in versions:
        if version.visible_ms <= at_ms:
            version.deleted_ms = min(version.deleted_ms, at_ms)
    table.changed()
