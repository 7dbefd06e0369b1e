"""What makes a simulated week quick without changing what happens in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

_LONGEST_WAIT_SECONDS = 0.003
_STORAGES = (
    "dagster._core.storage.event_log.sqlite.sqlite_event_log",
    "dagster._core.storage.runs.sqlite.sqlite_run_storage",
)


def shorten_waits() -> None:
    """Let `time.sleep` wait a few milliseconds at most in this process; call it before the product is imported.

    An outage of some virtual hours makes every request of those hours fail, and each failing request waits up to half a
    minute between its attempts. Those waits are of real time, which does not pass for the outage: waiting them out
    would change nothing but the length of the run. Functions that take `time.sleep` as a default argument bind it when
    they are imported, hence before.
    """
    real: Callable[[float], None] = time.sleep
    if getattr(real, "shortened", False):
        return

    def sleep(seconds: float, /) -> None:
        real(min(seconds, _LONGEST_WAIT_SECONDS))

    sleep.shortened = True  # type: ignore[attr-defined]
    time.sleep = sleep


def retry_at_once() -> None:
    """Let Dagster retry a step that asked for a later try without waiting: the wait would be of real time, as above."""
    active: Any = import_module("dagster._core.execution.plan.active").ActiveExecution
    real = active.mark_up_for_retry
    active.mark_up_for_retry = lambda execution, step_key, at_time=None: real(execution, step_key)  # noqa: ARG005


def keep_engines() -> None:
    """Let Dagster's SQLite storages use one SQLAlchemy engine per file; call it before an instance is opened.

    They make a new engine for every statement, which then compiles its SQL anew: a third of the time of a short run.
    Connections are opened and closed as before (the engines have no pool).
    """
    for name in _STORAGES:
        module: Any = import_module(name)
        module.create_engine = _cached(module.create_engine)


def hurry() -> None:
    """All of it; call it before the product is imported."""
    shorten_waits()
    retry_at_once()
    keep_engines()


def _cached(create: Callable[..., Any]) -> Callable[..., Any]:
    @cache
    def by_arguments(url: str, timeout: float | None, pool: type) -> Any:
        arguments = {} if timeout is None else {"connect_args": {"timeout": timeout}}
        return create(url, poolclass=pool, **arguments)

    def engine(url: str, *, poolclass: type, connect_args: dict[str, float] | None = None) -> Any:
        return by_arguments(url, (connect_args or {}).get("timeout"), poolclass)

    return engine
