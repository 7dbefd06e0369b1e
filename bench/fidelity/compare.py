"""What a destination holds against what it should hold, event by event."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.fidelity.truth import Expected

Key = tuple[str, str]
"""Event name and event id."""

IDENTITY_CHANGED = "identity_changed"


@dataclass(frozen=True)
class Held:
    """An event as a destination holds it. `time_ms` epoch milliseconds."""

    event: str
    event_id: str
    time_ms: int
    distinct_id: str
    properties: Mapping[str, Any] = field(hash=False)

    @property
    def key(self) -> Key:
        return self.event, self.event_id


@dataclass(frozen=True)
class Statement:
    """What the sender's ledger says of an event."""

    status: str
    reason: str | None = None
    gone: bool = False

    @property
    def keeps_identity(self) -> bool:
        """The event differs from the source in what the destination tells events apart by, and that is known."""
        return (self.reason or "").startswith(IDENTITY_CHANGED)


@dataclass
class Tally:
    """Events counted by what became of them.

    right: held once with all compared properties, under the right person and time; identity_changed: the same, but
    under the person or time of its first delivery, which the ledger says; stale: held, but something differs;
    missing; extra: held without being expected, of which `deleted` are known to the source no more; doubled: copies
    beyond the first. `explained` and `unexplained`: each stale, missing or extra one, by what the ledger says of it.
    """

    expected: int = 0
    right: int = 0
    identity_changed: int = 0
    stale: int = 0
    missing: int = 0
    extra: int = 0
    deleted: int = 0
    doubled: int = 0
    differences: dict[str, int] = field(default_factory=dict)
    explained: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    @property
    def share_right(self) -> float:
        """Right ones, with those whose person or time cannot be changed, among all expected."""
        return (self.right + self.identity_changed) / self.expected if self.expected else 1.0

    @property
    def wrong(self) -> int:
        return self.stale + self.missing + self.extra


def compare(
    wanted: Mapping[Key, Expected],
    held: Iterable[Held],
    *,
    ledger: Mapping[Key, Statement] | None = None,
    known_ids: Collection[Key] = (),
    ignored: Collection[str] = (),
) -> Tally:
    """Counts what is right and what is not.

    ledger: the sender's own account, None for a sender without one. known_ids: every event the source ever had.
    ignored: properties that are not compared.
    """
    tally = Tally(expected=len(wanted))
    copies: dict[Key, list[Held]] = {}
    for event in held:
        copies.setdefault(event.key, []).append(event)
    for key, event in wanted.items():
        found = copies.get(key, [])
        statement = None if ledger is None else ledger.get(key)
        if not found:
            tally.missing += 1
            _account(tally, "missing", key, statement, explained=_explains_missing(statement))
            continue
        tally.doubled += len(found) - 1
        _judge(tally, event, found[-1], statement, ignored)
    for key in copies.keys() - wanted.keys():
        tally.extra += 1
        tally.deleted += key in known_ids
        statement = None if ledger is None else ledger.get(key)
        _account(tally, "extra", key, statement, explained=statement is not None and statement.gone)
    return tally


def _judge(tally: Tally, event: Expected, held: Held, statement: Statement | None, ignored: Collection[str]) -> None:
    names = [name for name in event.properties if name not in ignored]
    different = [name for name in names if not same(event.properties[name], held.properties.get(name))]
    moved = [
        name
        for name, is_same in (
            ("distinct_id", event.distinct_id == held.distinct_id),
            ("time", event.time_ms == held.time_ms),
        )
        if not is_same
    ]
    if different or (moved and not (statement is not None and statement.keeps_identity)):
        tally.stale += 1
        for name in (*different, *moved):
            tally.differences[name] = tally.differences.get(name, 0) + 1
        what = f"stale ({', '.join([*different, *moved])})"
        _account(tally, what, (event.event, event.event_id), statement, explained=_explains_stale(statement))
    elif moved:
        tally.identity_changed += 1
    else:
        tally.right += 1


def same(wanted: Any, held: Any) -> bool:
    """Whether two property values are one: numbers by value (sums of decimals have no binary noise), lists whole."""
    if isinstance(wanted, bool) or isinstance(held, bool):
        return wanted is held
    if isinstance(wanted, int | float) and isinstance(held, int | float):
        return math.isclose(wanted, held, rel_tol=1e-9, abs_tol=1e-12)
    return wanted == held


def _explains_missing(statement: Statement | None) -> bool:
    return statement is not None and statement.status in ("rejected", "skipped")


def _explains_stale(statement: Statement | None) -> bool:
    """Whether what is known to be right was knowingly not sent."""
    if statement is None or statement.status == "delivered":
        return False
    return statement.status == "rejected" or statement.keeps_identity


def _account(tally: Tally, what: str, key: Key, statement: Statement | None, *, explained: bool) -> None:
    says = "nothing" if statement is None else " ".join(filter(None, (statement.status, statement.reason)))
    item = f"{what}: {key[0]} {key[1]}, ledger: {says}{', gone' if statement is not None and statement.gone else ''}"
    (tally.explained if explained else tally.unexplained).append(item)
