"""How much of a delivery is planned in one go.

A plan holds the payloads of its events, so it has to be bounded whatever an hour holds: small hours share a plan, a
large hour gets several.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from lf_dagster.destinations import statements
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.statements import IN_PORTION, hour_list, literal
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour

MOST_EVENTS = 70_000
"""Events of a portion; payloads have 1 to 2 KB. A tenth more is no reason for another one, which costs 60 ms."""
_LEEWAY = 0.1


@dataclass(frozen=True)
class Portion:
    """Some hours, or a share of one hour: the rows (first and last) of each kind in the event tables.

    `later` events of the hour are in the shares that follow.
    """

    hours: tuple[Hour, ...]
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    later: int = 0

    @property
    def is_last(self) -> bool:
        """Whether its hours are complete with it."""
        return self.later == 0

    def begin(self, con: duckdb.DuckDBPyConnection, ledger: Ledger) -> None:
        """Make what prepared events ask for: which of them are wanted, and their keys as if the ledger were empty."""
        cases = " ".join(
            f"WHEN {literal(kind)} THEN id BETWEEN {first} AND {last}" for kind, (first, last) in self.rows.items()
        )
        condition = f"CASE kind {cases} ELSE false END" if cases else "true"
        con.execute(statements.PORTION.format(condition=condition))
        ledger.load(con, "known", [])
        con.execute(statements.NOTHING_ELSEWHERE)
        con.execute(statements.KEPT)

    def of_ledger(self, outline: str) -> str:
        """SQL for the rows of the hours' ledgers that belong to it; the last share has those without an event too."""
        if not self.rows:
            return "true"
        inside = f"{IN_PORTION}(kind, row)"
        wanted = f"NOT {inside}" if self.is_last else inside
        events = f"SELECT kind, entity_id FROM ({outline}) WHERE hour IN ({hour_list(self.hours)}) AND {wanted}"
        among = f"coalesce((kind, entity_id) IN ({events}), false)"
        return f"NOT {among}" if self.is_last else among


def count_events(con: duckdb.DuckDBPyConnection, outline: str, hours: Sequence[Hour]) -> dict[Hour, int]:
    """How many events each hour has. `outline`: see `events.outline_sql`.

    Raises FatalError when the event tables are missing or do not fit.
    """
    query = f"SELECT hour, count(*) FROM ({outline}) WHERE hour IN ({hour_list(hours)}) GROUP BY hour"
    found = {Hour(hour): count for hour, count in run_prepared(con, query).fetchall()}
    return {hour: found.get(hour, 0) for hour in hours}


def portions(con: duckdb.DuckDBPyConnection, outline: str, counts: Mapping[Hour, int]) -> Iterator[Portion]:
    """The hours of `counts` (events of each), oldest first, in portions of `MOST_EVENTS`, or a tenth more, at most."""
    most = MOST_EVENTS
    together: list[Hour] = []
    events = 0
    for hour, count in sorted(counts.items()):
        if together and events + count > most:
            yield Portion(tuple(together))
            together, events = [], 0
        if count > most:
            yield from _shares(con, outline, hour, math.ceil(count / math.ceil(count / most - _LEEWAY)))
        else:
            together.append(hour)
            events += count
    if together:
        yield Portion(tuple(together))


_SHARES = """
SELECT share, sum(count(*)) OVER (PARTITION BY share)::BIGINT AS events, kind, min(row), max(row) FROM (
    SELECT kind, row, (row_number() OVER (ORDER BY kind, row) - 1) // {most} AS share
    FROM ({outline}) WHERE hour IN ({hour})
) GROUP BY share, kind ORDER BY share
"""


def _shares(con: duckdb.DuckDBPyConnection, outline: str, hour: Hour, most: int) -> list[Portion]:
    """Shares of one hour of `most` events, each a range of rows of every kind: reading one does not read the others."""
    found = con.execute(_SHARES.format(outline=outline, hour=hour_list([hour]), most=most)).fetchall()
    if any(row[-1] is None for row in found):
        # Prepared in another way, from tables whose rows we do not know.
        return [Portion((hour,))]
    rows: dict[int, dict[str, tuple[int, int]]] = {}
    sizes: dict[int, int] = {}
    for share, events, kind, first, last in found:
        sizes[share] = events
        rows.setdefault(share, {})[kind] = (first, last)
    left = sum(sizes.values())
    shares: list[Portion] = []
    for share, ranges in rows.items():
        left -= sizes[share]
        shares.append(Portion((hour,), ranges, later=left))
    return shares


def run_prepared(con: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyConnection:
    """Run a query over prepared events; raises FatalError without DuckDB's text: a salt may be in it."""
    try:
        return con.execute(query)
    except duckdb.Error as error:
        told = _without_quotes(str(error))
    # Outside of the `except`, or the text would come along as the context of the new error.
    raise FatalError(f"the events cannot be prepared: {told}", hint="Rerun the hour's models; nothing was sent.")


def _without_quotes(text: str) -> str:
    """The first line of a DuckDB error without the values that it quotes."""
    return re.sub(r"\"[^\"]*\"?|'[^']*'?", "...", text.partition("\n")[0])
