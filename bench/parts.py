"""The parts of the bench: which worlds, which legs, which peers beside them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.results import Figure
from bench.running import (
    Facts,
    Served,
    add_history,
    dump_events,
    run_extract_peer,
    run_launch,
    run_leg,
    run_ship_peer,
    serving,
)
from bench.worlds import Shape, World
from lf_dagster.hours import Hour

_OBSERVATION_EVENTS = {"LF_DAGSTER_OBSERVATION_EVENTS": "1"}
"""An event per observation too: most events per row that the shipped project makes."""
DLT = "dlt"
_MIXPANEL_PEERS = {"mixpanel-python": (), "mixpanel-python, full batches": ("--full-batches",)}
_POSTHOG_PEERS = {"posthog-python": ()}


@dataclass(frozen=True)
class LegWorld:
    """A world of the legs. `repeat`: most runs of each leg; `peer_rows`: most observations and events for their peers,
    0 for none."""

    title: str
    shape: Shape
    hours: int
    observations: int
    repeat: int
    peer_rows: int


@dataclass(frozen=True)
class Options:
    """How much is measured. `repeat`: runs of each leg; `worlds`: those of the legs; `whole_peer_rows`: most
    observations for the peers of the whole.
    """

    repeat: int
    peers: bool
    whole_peer_rows: int
    worlds: tuple[LegWorld, ...]
    whole_observations: int
    backfill_hours: int
    history_hours: int


def _newest_hours(hours: int) -> str:
    """Key of the first of so many hours, the last of which ended a while ago."""
    return Hour.containing(datetime.now(timezone.utc)).shift(-1 - hours).key


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
        yield Path(name)


@contextmanager
def _served_twice(world: World, peer_rows: int, *, peers: bool) -> Iterator[tuple[Served, Served | None]]:
    """The world's servers, and those of the peers: the same, or a smaller world of the same shape."""
    with ExitStack() as running:
        ours = running.enter_context(serving(world))
        if not peers:
            yield ours, None
        elif world.observations <= peer_rows:
            yield ours, ours
        else:
            smaller = World(world.first, world.hours, peer_rows, world.shape)
            yield ours, running.enter_context(serving(smaller))


# Legs


def legs(options: Options) -> Iterator[Figure]:
    """Each leg over each world, on fresh folders."""
    for wanted in options.worlds:
        world = World(_newest_hours(wanted.hours), wanted.hours, wanted.observations, wanted.shape)
        with_peers = options.peers and wanted.peer_rows > 0
        with _served_twice(world, wanted.peer_rows, peers=with_peers) as (ours, peers):
            yield from _legs_of(wanted, ours, peers, min(options.repeat, wanted.repeat))


def _legs_of(wanted: LegWorld, ours: Served, peers: Served | None, repeat: int) -> Iterator[Figure]:
    runs: dict[str, list[Facts]] = {leg: [] for leg in ("extract", "model", "mixpanel", "posthog")}
    beside: dict[str, list[Facts]] = {}
    with _folder() as events:
        for number in range(repeat):
            with _folder() as folder:
                for leg, facts in runs.items():
                    facts.append(run_leg(leg, ours, folder, **_OBSERVATION_EVENTS))
                if peers and number == 0:
                    dump_events(ours, folder, wanted.peer_rows, **_OBSERVATION_EVENTS)
                    for name in ("mixpanel", "posthog"):
                        shutil.move(folder / f"{name}.jsonl", events)
            if peers:
                for name, facts in _peer_runs(peers, events).items():
                    beside.setdefault(name, []).append(facts)
                _check_same_rows(ours, peers, runs["extract"][-1], beside[DLT][-1])
    both = [extracted + modelled for extracted, modelled in zip(runs["extract"], runs["model"], strict=True)]
    yield Figure("legs", wanted.title, "extract", "rows", runs["extract"], _only(beside, DLT))
    yield Figure("legs", wanted.title, "model", "rows", runs["model"])
    yield Figure("legs", wanted.title, "extract + model", "rows", both, _only(beside, DLT))
    yield Figure("legs", wanted.title, "ship mixpanel", "events", runs["mixpanel"], _only(beside, *_MIXPANEL_PEERS))
    yield Figure("legs", wanted.title, "ship posthog", "events", runs["posthog"], _only(beside, *_POSTHOG_PEERS))


def _check_same_rows(ours: Served, peers: Served, extracted: Facts, dlt: Facts) -> None:
    """Raises when dlt has read other rows than we have from the same servers."""
    if ours is peers and extracted.rows != dlt.rows:
        raise RuntimeError(f"we have read {extracted.rows} rows, dlt {dlt.rows}")


def _check_same_events(ours: Served, peers: Served, whole: Facts, clients: dict[str, Facts]) -> None:
    """Raises when the clients have sent other events than our whole run over the same rows."""
    theirs = {name: facts.rows for name, facts in clients.items()}
    if ours is peers and theirs != whole.sent:
        raise RuntimeError(f"we have sent {whole.sent}, the clients {theirs}")


def _peer_runs(served: Served, events: Path) -> dict[str, Facts]:
    with _folder() as folder:
        found = {DLT: run_extract_peer(served, folder / "dlt")}
    for destination, peers in (("mixpanel", _MIXPANEL_PEERS), ("posthog", _POSTHOG_PEERS)):
        for name, flags in peers.items():
            found[name] = run_ship_peer(destination, served, events / f"{destination}.jsonl", *flags)
    return found


def _only(runs: dict[str, list[Facts]], *names: str) -> dict[str, list[Facts]]:
    return {name: runs[name] for name in names if name in runs}


# The whole


def whole(options: Options) -> Iterator[Figure]:
    """24 hours from Langfuse to both destinations, against dlt and both clients one after the other."""
    world = World(_newest_hours(24), 24, options.whole_observations)
    ours: list[Facts] = []
    beside: list[Facts] = []
    with (
        _served_twice(world, options.whole_peer_rows, peers=options.peers) as (served, peers),
        _folder() as events,
    ):
        for number in range(min(options.repeat, 3)):
            with _folder() as folder:
                ours.append(run_leg("whole", served, folder, **_OBSERVATION_EVENTS))
                if peers and number == 0:
                    _dump_for_whole(served, peers, folder, events, ours[0])
            if peers:
                runs = _peer_runs(peers, events)
                chosen = (DLT, next(iter(_MIXPANEL_PEERS)), next(iter(_POSTHOG_PEERS)))
                extracted, mixpanel, posthog = (runs[name] for name in chosen)
                _check_same_rows(served, peers, ours[-1], extracted)
                _check_same_events(served, peers, ours[-1], {"mixpanel": mixpanel, "posthog": posthog})
                beside.append(extracted + mixpanel + posthog)
    title = f"{world.hours} hours"
    yield Figure("whole", title, "whole", "rows", ours, {"dlt + both clients": beside} if beside else {})


def _dump_for_whole(served: Served, peers: Served, folder: Path, events: Path, ours: Facts) -> None:
    """The same events, or the same share of them as the peers' rows are of ours."""
    share = min(1.0, peers.world.observations / served.world.observations)
    most = max(1, round(max(ours.sent.values()) * share))
    dump_events(served, folder, most, **_OBSERVATION_EVENTS)
    for name in ("mixpanel", "posthog"):
        shutil.move(folder / f"{name}.jsonl", events)


# Fixed cost


def fixed(options: Options) -> Iterator[Figure]:
    """One hour without a row, as a run that the instance's launcher starts."""
    world = World(_newest_hours(1), 1, 0, "empty")
    ours: dict[str, list[Facts]] = {"launch": [], "command": []}
    noop: dict[str, list[Facts]] = {"launch": [], "command": []}
    dlt: list[Facts] = []
    with serving(world) as served:
        for _ in range(options.repeat):
            for runs, module, job in (
                (ours, "lf_dagster.definitions", "langfuse_hourly"),
                (noop, "bench.noop", "noop_hourly"),
            ):
                with _folder() as folder:
                    for name, facts in run_launch(served, folder, module, job).items():
                        runs[name].append(facts)
            if options.peers:
                with _folder() as folder:
                    began = time.perf_counter()
                    run_extract_peer(served, folder / "dlt")
                    dlt.append(Facts(1, time.perf_counter() - began))
    peers = {"an asset that does nothing": noop["launch"]}
    also = {"dlt, extract alone, from process to exit": dlt} if dlt else {}
    yield Figure("fixed", "empty hour", "launch to success", "run", ours["launch"], {**peers, **also})
    yield Figure("fixed", "empty hour", "`dagster job launch` to success", "run", ours["command"], {
        "an asset that does nothing": noop["command"]
    })  # fmt: skip


# Backfill


def backfill(options: Options) -> Iterator[Figure]:
    """Many nearly empty hours with the default assets, a day per run."""
    hours = options.backfill_hours
    beside: list[Facts] = []
    with serving(World(_newest_hours(hours), hours, hours, "nearly empty")) as served:
        with _folder() as folder:
            ours = run_leg("whole", served, folder)
        if options.peers:
            with _folder() as folder:
                dlt = run_extract_peer(served, folder / "dlt", hours_per_run=24)
            _check_same_rows(served, served, ours, dlt)
            beside.append(_by_hour(dlt, hours))
    peers = {"dlt, extract alone, a run per day": beside} if beside else {}
    yield Figure("backfill", "one trace an hour", "whole", "hours", [_by_hour(ours, hours)], peers)


def _by_hour(facts: Facts, hours: int) -> Facts:
    return Facts(hours, facts.wall_seconds, facts.cpu_seconds, facts.peak_mb)


# History


def history(options: Options) -> Iterator[Figure]:
    """Model and delivery of one hour, in a warehouse without and with a past."""
    runs: dict[str, dict[str, list[Facts]]] = {}
    world = World(_newest_hours(1), 1, 100)
    with serving(world) as served, _folder() as folder:
        empty, full = folder / "empty", folder / "full"
        for leg in ("extract", "model"):
            run_leg(leg, served, empty, **_OBSERVATION_EVENTS)
        shutil.copytree(empty, full)
        rows = add_history(served, full, options.history_hours, **_OBSERVATION_EVENTS)
        for _ in range(options.repeat):
            for leg in ("model", "mixpanel", "posthog"):
                for name, place in (("full", full), ("empty", empty)):
                    facts = run_leg(leg, served, place, **_OBSERVATION_EVENTS)
                    runs.setdefault(leg, {}).setdefault(name, []).append(facts)
    title = f"{options.history_hours:,} hours, {rows:,} rows before"
    for leg, found in runs.items():
        unit = "rows" if leg == "model" else "events"
        name = leg if leg == "model" else f"ship {leg}"
        yield Figure("history", title, name, unit, found["full"], {"the same without a past": found["empty"]})


PARTS: dict[str, Callable[[Options], Iterator[Figure]]] = {
    "legs": legs,
    "whole": whole,
    "fixed": fixed,
    "backfill": backfill,
    "history": history,
}
