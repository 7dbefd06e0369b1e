"""A browser on a running Dagster. One stack serves all tests; each has a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.stack import Stack, running_stack
from tests.browser.ui import Ui, browser_of_this_machine
from tests.chromium import ARTEFACTS, chromium

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


# Playwright keeps an event loop running in its thread, which tests of other modules must not find there.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Asked for before the stack, so that nothing is started where there is no browser."""
    pytest.importorskip("playwright.sync_api", reason="Playwright does not install on this machine")
    with browser_of_this_machine(chromium()) as running:
        yield running


@pytest.fixture(scope="module")
def stack(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def ui(browser: Any, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Ui]:
    page = browser.new_page(base_url=stack.dagster.origin, viewport={"width": 1600, "height": 1100})
    shown, last_look = Ui(page), f"failed-{request.node.name}"
    (ARTEFACTS / f"{last_look}.png").unlink(missing_ok=True)
    yield shown
    if request.node.stash.get(_FAILED, False):
        shown.shot(last_look)
    page.close()
