from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.events.events import EventProject


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., EventProject]:
    """Projects with their own settings over one lake and one warehouse."""

    def make(**settings: Any) -> EventProject:
        return EventProject(tmp_path / "data", **settings)

    return make
