"""A code location with two projects, as a user of Python configures them: `shop`, and `support` with policies."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project

SETTINGS: dict[str, dict[str, Any]] = {
    "shop": {},
    "support": {
        "langfuse": {"host": os.environ["SUPPORT_LANGFUSE_HOST"]},
        "mixpanel": {"host": os.environ["SUPPORT_MIXPANEL_HOST"]},
        "posthog": {"host": os.environ["SUPPORT_POSTHOG_HOST"]},
        "source_apps": ["dify"],
        "policies": {"cost_per_trace": {"max_usd": 0.001}},
        "owners": ["team:support"],
    },
}

defs = dg.Definitions.merge(
    *(build_project_definitions(load_project({"name": name, **given}, os.environ)) for name, given in SETTINGS.items()),
    dg.Definitions(executor=dg.in_process_executor),
)
