"""The Dagster assets of a project: thin glue around source, warehouse, events and destinations."""

from lf_dagster.assets.audit import build_audit_asset
from lf_dagster.assets.common import WAREHOUSE_POOL, asset_key
from lf_dagster.assets.deliveries import DeliveryConfig, build_delivery_asset
from lf_dagster.assets.models import build_event_assets, build_typed_assets, build_view_specs
from lf_dagster.assets.profiles import build_profiles_asset
from lf_dagster.assets.raw import build_raw_assets, build_source_spec
from lf_dagster.assets.reports import build_report_asset

__all__ = [
    "WAREHOUSE_POOL",
    "DeliveryConfig",
    "asset_key",
    "build_audit_asset",
    "build_delivery_asset",
    "build_event_assets",
    "build_profiles_asset",
    "build_raw_assets",
    "build_report_asset",
    "build_source_spec",
    "build_typed_assets",
    "build_view_specs",
]
