"""Destinations: what has to be sent, sending it to Mixpanel or PostHog, and the ledger of what became of it."""

from lf_dagster.destinations.addresses import app_address
from lf_dagster.destinations.base import BatchOutcome, Destination, HourDelivery, Limits, Rule
from lf_dagster.destinations.deliver import deliver
from lf_dagster.destinations.ledger import LEDGER_SCHEMA, Ledger
from lf_dagster.destinations.opening import open_destination
from lf_dagster.destinations.preview import preview
from lf_dagster.destinations.waiting import waits_for_traces

__all__ = [
    "LEDGER_SCHEMA",
    "BatchOutcome",
    "Destination",
    "HourDelivery",
    "Ledger",
    "Limits",
    "Rule",
    "app_address",
    "deliver",
    "open_destination",
    "preview",
    "waits_for_traces",
]
