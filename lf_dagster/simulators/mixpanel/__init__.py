"""Strict stand-in for Mixpanel: what the documentation refuses is refused, what it damages is damaged."""

from lf_dagster.simulators.mixpanel.app import create_app
from lf_dagster.simulators.mixpanel.settings import DEMO_TOKENS, Behaviour, Limits, ServiceAccount
from lf_dagster.simulators.mixpanel.store import MixpanelStore, StoredEvent

__all__ = ["DEMO_TOKENS", "Behaviour", "Limits", "MixpanelStore", "ServiceAccount", "StoredEvent", "create_app"]
