"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import StandIns, recorded_store, stand_ins


@pytest.fixture
def recorded() -> Iterator[StandIns]:
    """Stand-ins over the rows recorded from a real Langfuse."""
    with stand_ins(recorded_store()) as running:
        yield running
