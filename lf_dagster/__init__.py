"""Langfuse to Mixpanel and PostHog, exactly: hourly Dagster partitions, a backfill is a rerun.

`LangfuseProject` is the Dagster component (`type: lf_dagster.LangfuseProject`). Everything that needs
Dagster is imported on first use, so that reading, modelling and shipping also work without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_dagster.component import LangfuseProject

__version__ = "0.1.0"
__all__ = ["LangfuseProject", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "LangfuseProject":
        from lf_dagster.component import LangfuseProject

        return LangfuseProject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
