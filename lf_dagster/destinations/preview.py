"""What a delivery would do, without doing it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations.base import Destination
from lf_dagster.destinations.deliver import PrepareSql, events_sql
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.plan import Planner
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.portions import Portion
from lf_dagster.events import PAYLOAD_SQL
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.hours import build_ids

_QUERY = f"""
SELECT p.kind, p.event, p.entity_id, p.event_id, p.time_ms, p.distinct_id, d.action,
    coalesce(d.reason, if(d.previous_identity IS NULL, NULL, 'changed')) AS reason, p.truncated,
    {PAYLOAD_SQL} AS payload
FROM decision d JOIN prepared p ON p.rowid = d.prepared_row
ORDER BY d.action <> 'send', p.time_ms, p.event_id, p.event
LIMIT $limit
"""
_NAMES = (
    *("kind", "event", "entity_id", "event_id", "time_ms", "distinct_id", "action", "reason", "truncated"),
    "payload",
)


def preview(
    destination: Destination,
    *,
    project: ProjectSettings,
    project_id: str,
    project_name: str,
    host: str,
    warehouse: Warehouse,
    lake: Lake,
    hour: Hour,
    now: datetime,
    resend: bool = False,
    limit: int = 20,
    prepare: PrepareSql | None = None,
) -> list[dict[str, Any]]:
    """The first events of an hour, those to be sent first, each with what a delivery would do with it.

    Keys: `kind`, `event`, `entity_id`, `event_id`, `time_ms`, `distinct_id`, `action` (send, unchanged, filtered, held,
    invalid, kept_back, identity_changed or refused), `reason`, `truncated` (names of properties that were cut) and
    `payload` (the event as it would be sent). Nothing is sent, asked or written; with `protocol: auto` an event has its
    Capture V1 form.
    """
    if prepare is None:
        prepare = events_sql(destination.name, project, project_id=project_id, project_name=project_name, host=host)
    ledger = Ledger(lake, project.name, destination.name)
    with warehouse.connect(read_only=True) as con:
        lake.register(con)
        Planner(
            con,
            ledger,
            destination,
            Portion((hour,)),
            prepare(destination.assumed_protocol),
            destination.assumed_protocol,
            build_ids(con, ledger.project, "events", [hour]),
            Policy.of(project, destination.name, resend=resend),
            now=now,
            run_id="preview",
        ).decide(repair=False)
        rows = con.execute(_QUERY, {"limit": limit}).fetchall()
    return [_readable(dict(zip(_NAMES, row, strict=True))) for row in rows]


def _readable(item: dict[str, Any]) -> dict[str, Any]:
    """The payload as an object; as text when it is the very thing that is wrong."""
    try:
        return {**item, "payload": msgspec.json.decode(item["payload"])}
    except (msgspec.DecodeError, TypeError):
        return item
