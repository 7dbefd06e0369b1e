from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.simulators import mixpanel as mixpanel_standin
from lf_dagster.simulators import posthog as posthog_standin
from lf_dagster.simulators.server import serve
from tests.destinations.world import MIXPANEL_TOKEN, POSTHOG_KEY, Clock, World


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mixpanel_app(clock: Clock) -> Any:
    return mixpanel_standin.create_app(tokens={MIXPANEL_TOKEN: 7}, clock=clock)


@pytest.fixture
def posthog_app(clock: Clock) -> Any:
    strictness = posthog_standin.Strictness.everything()
    return posthog_standin.create_app(tokens={POSTHOG_KEY: 7}, clock=clock, strictness=strictness)


@pytest.fixture
def mixpanel(tmp_path: Path, mixpanel_app: Any, clock: Clock) -> Iterator[World]:
    """A world with strict Mixpanel."""
    with serve(mixpanel_app) as server:
        yield World(tmp_path, "mixpanel", server.origin, clock=clock)


@pytest.fixture
def posthog(tmp_path: Path, posthog_app: Any, clock: Clock) -> Iterator[World]:
    """A world with strict PostHog that serves both protocols."""
    with serve(posthog_app) as server:
        yield World(tmp_path, "posthog", server.origin, clock=clock)
