"""Events: what they mean (catalogue), the tables that hold them, and what each destination is sent."""

from lf_dagster.events.catalogue import Event, Property, load_catalogue
from lf_dagster.events.ids import NAMESPACES, DestinationName, event_id
from lf_dagster.events.keys import tombstone_sql
from lf_dagster.events.prepare import PAYLOAD_SQL, Protocol, outline_sql, prepared_sql, property_names
from lf_dagster.events.tables import event_models, run_events

__all__ = [
    "NAMESPACES",
    "PAYLOAD_SQL",
    "DestinationName",
    "Event",
    "Property",
    "Protocol",
    "event_id",
    "event_models",
    "load_catalogue",
    "outline_sql",
    "prepared_sql",
    "property_names",
    "run_events",
    "tombstone_sql",
]
