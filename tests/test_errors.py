"""The error tree: its shape is a public promise, its errors cross process boundaries."""

from __future__ import annotations

import inspect
import pickle

import pytest

from lf_dagster import errors
from lf_dagster.errors import LfDagsterError, RateLimited

TREE = {
    "ConfigError": "LfDagsterError",
    "FatalError": "LfDagsterError",
    "RetryableError": "LfDagsterError",
    "AuthenticationError": "FatalError",
    "ReadPathUnavailable": "FatalError",
    "RequestRejected": "FatalError",
    "ProtocolError": "FatalError",
    "RateLimited": "RetryableError",
    "ServiceUnavailable": "RetryableError",
    "RequestTooLarge": "RetryableError",
    "WarehouseLocked": "RetryableError",
}


def test_the_tree_is_what_the_module_draws():
    classes = {
        name: cls.__mro__[1].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, LfDagsterError) and cls is not LfDagsterError
    }
    assert classes == TREE
    assert all(name in (errors.__doc__ or "") for name in TREE)


@pytest.mark.parametrize("name", TREE)
def test_every_error_survives_a_process_boundary(name: str):
    error = getattr(errors, name)("it broke", hint="mend it", hour="2026-11-21-06:00", retry_after=7)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == "it broke [hour=2026-11-21-06:00, retry_after=7]\nmend it"
    assert copy.context == error.context


def test_context_that_is_known_already_is_not_overwritten():
    error = RateLimited("slow down", hour="a").with_context(hour="b", project="p")
    assert error.context == {"hour": "a", "project": "p"}
    assert RateLimited("slow down", retry_after=3).retry_after == 3
