"""The hours that are measured: how many, how large, of which shape. Everything is visible from the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lf_dagster.hours import Hour, hour_range
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world
from lf_dagster.simulators.world.bulk import bulk_store

Shape = Literal["default", "large metadata", "nearly empty", "empty"]

_TEMPLATES = 60
_LARGE_KEYS = 40
_LARGE_TEXT = "The quick brown fox jumps over the lazy dog, again and again. " * 3
"""186 characters: the API cuts a metadata value after 200."""


@dataclass(frozen=True)
class World:
    """`observations` (at least) in all, spread evenly over `hours` hours from `first` (a key) on.

    default: the generator's usual traces; large metadata: with 40 more metadata keys of 186 characters on every row;
    nearly empty: one trace an hour, whatever `observations` says; empty: nothing.
    """

    first: str
    hours: int
    observations: int
    shape: Shape = "default"

    @property
    def keys(self) -> list[str]:
        """Keys of its hours, oldest first."""
        first = Hour.from_key(self.first)
        return [hour.key for hour in hour_range(first, first.shift(self.hours - 1))]

    @property
    def last(self) -> str:
        """Key of its last hour."""
        return self.keys[-1]


def build_store(world: World) -> Store:
    """The store that serves it."""
    first = Hour.from_key(world.first).start
    if world.shape == "empty":
        return Store()
    if world.shape == "nearly empty":
        settings = WorldSettings(start=first, hours=world.hours, traces_per_hour=1, ageing=Ageing.none())
        return build_world(settings).store
    store = Store()
    each = -(-world.observations // world.hours)
    for key in world.keys:
        part = bulk_store(
            hour=Hour.from_key(key).start, observations=each, templates=min(_TEMPLATES, max(3, each // 6))
        )
        for table, rows in ((store.observations, part.observations), (store.scores, part.scores)):
            table.extend(rows.versions)
        store.traces.extend(part.traces.versions)
    if world.shape == "large metadata":
        _enlarge(store)
    return store


def _enlarge(store: Store) -> None:
    """Rows are rendered from their templates, so that those alone have to grow."""
    more = {f"document_{number:02d}": _LARGE_TEXT for number in range(_LARGE_KEYS)}
    templates = {id(version.measures): version.measures for version in store.observations.versions}
    for columns in templates.values():
        columns["metadata"] = {**columns["metadata"], **more}
