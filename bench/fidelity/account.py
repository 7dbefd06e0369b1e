"""What the product's ledgers say of every event, for the comparison."""

from __future__ import annotations

import duckdb

from bench.fidelity.compare import Key, Statement
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Lake

_STATEMENTS = "SELECT event, event_id, status, reason, gone_at IS NOT NULL AS gone FROM ledger ORDER BY written_at"


def statements(data: str, project: str, destination: str, first: Hour, last: Hour) -> dict[Key, Statement]:
    """The newest statement of each event over all hours; one that is not gone goes before one that is."""
    lake = Lake(data)
    found: dict[Key, Statement] = {}
    with duckdb.connect() as con:
        lake.register(con)
        Ledger(lake, project, destination).load(con, "ledger", hour_range(first, last))
        for event, event_id, status, reason, gone in con.execute(_STATEMENTS).fetchall():
            known = found.get((event, event_id))
            if known is None or known.gone or not gone:
                found[event, event_id] = Statement(status, reason, gone)
    return found
