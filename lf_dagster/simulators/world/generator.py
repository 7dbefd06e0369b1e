"""Draws the world hour by hour into a store that both API generations are served from."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.traces import newest
from lf_dagster.simulators.world import catalogue
from lf_dagster.simulators.world.ageing import age, belated, lateness, within_horizon
from lf_dagster.simulators.world.catalogue import Person
from lf_dagster.simulators.world.drafts import Draft, commit
from lf_dagster.simulators.world.grading import grade, lost_score
from lf_dagster.simulators.world.settings import HOUR_MS, WorldSettings
from lf_dagster.simulators.world.shapes import SHAPES, Pen

_ODD_TRACE_IDS = ("order/42 ü?&#%", "légacy/tråce", "with+plus&and=equals", "ひらがな")


@dataclass(frozen=True)
class World:
    """A generated project. `store` feeds the stand-in; the methods tell what a reader must find."""

    settings: WorldSettings
    store: Store

    def observation_ids(self, from_ms: int, to_ms: int, *, at_seconds: float) -> set[str]:
        """Ids that v2/observations holds for [from, to) (epoch ms) at that moment (epoch seconds)."""
        snapshot = self.store.visible_observations(int(at_seconds * 1000))
        low, high = snapshot.between(from_ms, to_ms)
        return {version.id for version in snapshot.versions[low:high]}

    def score_ids(self, from_ms: int, to_ms: int, *, at_seconds: float) -> set[str]:
        """Ids that v3/scores holds for [from, to) at that moment."""
        snapshot = self.store.visible_scores(int(at_seconds * 1000))
        low, high = snapshot.between(from_ms, to_ms)
        return {version.id for version in snapshot.versions[low:high]}

    def trace_ids(self, from_ms: int, to_ms: int, *, at_seconds: float) -> set[str]:
        """Ids that the legacy traces table holds for [from, to) at that moment."""
        snapshot = self.store.visible_traces(int(at_seconds * 1000))
        low, high = snapshot.between(from_ms, to_ms)
        return {version.id for version in snapshot.versions[low:high]}

    def observations(self, from_ms: int, to_ms: int, *, at_seconds: float) -> dict[str, dict[str, Any]]:
        """Stored columns of the newest version of each observation in [from, to)."""
        snapshot = self.store.visible_observations(int(at_seconds * 1000))
        low, high = snapshot.between(from_ms, to_ms)
        return {version.id: version.data for version in newest(snapshot.versions[low:high])}


def build_world(settings: WorldSettings | None = None) -> World:
    """Generate the world of these settings. Equal settings give equal worlds."""
    chosen = settings or WorldSettings()
    store = Store(chosen.project, merge_delay_ms=chosen.merge_delay_ms)
    people = catalogue.people(chosen.seed, chosen.users)
    for hour in range(chosen.hours):
        start_ms = chosen.start_ms + hour * HOUR_MS
        _draw_hour(random.Random(f"{chosen.seed}/{start_ms}"), start_ms, people, chosen, store)
    return World(chosen, store)


def _draw_hour(
    chance: random.Random, start_ms: int, people: tuple[Person, ...], settings: WorldSettings, store: Store
) -> None:
    for number in range(settings.traces_per_hour):
        # The last millisecond and the first one of an hour are always taken, where windows touch.
        offset = {0: 0, 1: HOUR_MS - 1}.get(number, chance.randrange(HOUR_MS))
        draft = _draw_trace(chance, start_ms + offset, people, settings)
        commit(draft, store)
        scored = belated(chance, grade(chance, draft, store.project.id), settings.ageing)
        for visible_ms, row in scored:
            store.put_score(row, at_ms=visible_ms)
        age(chance, draft, scored, store, settings)
    if chance.random() < 0.5:
        at_ms = start_ms + chance.randrange(HOUR_MS)
        store.put_score(lost_score(chance, at_ms, store.project.id), at_ms=at_ms + 4000)


def _draw_trace(chance: random.Random, start_ms: int, people: tuple[Person, ...], settings: WorldSettings) -> Draft:
    person = chance.choice(people)
    direct = chance.random() < settings.direct_share
    internal = chance.random() < 0.04
    shape = chance.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    draft = Draft(
        id=_trace_id(chance, direct=direct),
        start_ms=start_ms,
        name=chance.choice(catalogue.TRACE_NAMES),
        user_id=person.id,
        session_id=chance.choice(person.sessions),
        environment=chance.choice(catalogue.INTERNAL_ENVIRONMENTS if internal else catalogue.ENVIRONMENTS),
        tags=chance.sample(catalogue.TAGS, chance.randrange(3)),
        release=chance.choice(catalogue.RELEASES),
        version=chance.choice(catalogue.VERSIONS),
        public=chance.random() < 0.05,
        bookmarked=chance.random() < 0.05,
        metadata=_metadata(chance),
        direct=direct,
        propagate=chance.random() < 0.6,
        late_ms=lateness(chance, settings.ageing),
    )
    shape(Pen(chance, draft, settings.absurd_usage))
    draft.late_ms = within_horizon(draft, settings.ageing)
    return draft


def _trace_id(chance: random.Random, *, direct: bool) -> str:
    if direct:
        return f"{chance.getrandbits(128):032x}"
    odd = chance.choice(_ODD_TRACE_IDS) if chance.random() < 0.3 else "trace"
    return f"{odd}-{chance.getrandbits(48):012x}"


def _metadata(chance: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"tenant": chance.choice(("acme", "globex", 42)), "flag": chance.choice((True, "true"))}
    if chance.random() < 0.6:
        found["$posthog_session_id"] = f"ph-{chance.getrandbits(64):016x}"
    if chance.random() < 0.5:
        found["$mixpanel_session_id"] = chance.choice((f"mp-{chance.getrandbits(32):08x}", "12345678", "1e5"))
    if chance.random() < 0.2:
        found["long"] = "ä🙂" * chance.randrange(90, 900)
    if chance.random() < 0.2:
        found["nested"] = {"cart": [{"sku": "A-1", "n": 2}], "note": "n" * chance.randrange(10, 400)}
    if chance.random() < 0.1:
        found["uñi.dotted key"] = "007"
    return found
