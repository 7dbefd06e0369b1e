"""Every test starts with a clean environment: no variable of the machine can reach lf_dagster."""

from __future__ import annotations

import os

import pytest

_PREFIXES = ("LANGFUSE_", "MIXPANEL_", "POSTHOG_", "LF_DAGSTER_", "DAGSTER_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(_PREFIXES):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
